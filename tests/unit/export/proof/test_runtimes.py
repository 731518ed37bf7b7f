"""LiteRT's CompiledModel computes the reference's bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codec_contract.errors import ExportError
from edge_encoder import integer_network as integer
from export.encoder import export_encoder
from export.proof.inputs import make_inputs
from export.proof.runtimes import compiled_model_runtimes
from tests.networks import random_network


# The shipped encoder on the same runtimes: tests/integration/test_export_mobile.py.
def test_it_computes_the_references_bytes(tmp_path: Path) -> None:
    network = random_network(seed=3)
    runtimes = compiled_model_runtimes(export_encoder(network, tmp_path, ("tflite",))["tflite"])
    assert runtimes
    for item in make_inputs(network.hr, 8, network=network, seed=0):
        expected = integer.run_reference(network, item.picture[None])
        for runtime in runtimes:
            lr = runtime.encode(item.picture[None])
            assert lr.dtype == np.uint8
            np.testing.assert_array_equal(lr, expected, err_msg=f"{runtime.name}: {item.name}")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "encoder.tflite").write_bytes(b"no model")
    with pytest.raises(ExportError, match="LiteRT cannot load"):
        compiled_model_runtimes(tmp_path / "encoder.tflite")
