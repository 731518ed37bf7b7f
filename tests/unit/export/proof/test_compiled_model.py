"""LiteRT's CompiledModel computes the reference's bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import ExportError
from edge_encoder import integer_network as integer
from export.proof.compiled_model import compiled_model_runtimes
from export.proof.proof_inputs import make_inputs


def test_the_shipped_encoder_is_exact(default_bundle: Path) -> None:
    network = integer.load(load_manifest(default_bundle).open_file("encoder.safetensors"))
    runtimes = compiled_model_runtimes(default_bundle / "encoder.tflite")
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
