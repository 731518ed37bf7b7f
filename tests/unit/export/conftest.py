from collections.abc import Mapping
from pathlib import Path

import pytest

from edge_encoder.integer_network import IntegerNetwork
from export.encoder import export_encoder
from tests.networks import random_network


@pytest.fixture(scope="session")
def network() -> IntegerNetwork:
    return random_network()


@pytest.fixture(scope="session")
def exported(network: IntegerNetwork, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The small network in every format; shared, so tests change copies only."""
    return export_encoder(network, tmp_path_factory.mktemp("exported"))
