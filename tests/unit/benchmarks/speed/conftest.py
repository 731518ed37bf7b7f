"""The scripts of benchmarks/speed import each other as modules, and so do their tests."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[4] / "benchmarks" / "speed"))


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of a tiny decoder without a generator, filled with its own weights."""
    import pack

    from tests.tiny_grain import INVERTIBLE, tiny_grain

    folder = tmp_path_factory.mktemp("pack")
    forms = "plain.float32", "fused.float32"
    pack.write(folder, "tiny", tiny_grain(INVERTIBLE), forms, weights=True)
    return folder
