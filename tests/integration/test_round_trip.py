"""Phone to cloud with the default bundle's own files: whichever format the phone runs, the server restores the same."""

import ast
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from codec_contract import pixels
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.fit import fit_picture
from codec_contract.lr_coder.coder_tables import CoderTables, rounded
from codec_contract.payload import encode_payload
from edge_encoder import integer_network as integer
from edge_encoder.preprocessing import load_picture
from export.proof.mil_interpreter import MilProgram
from export.proof.runtimes import tflite_runtimes
from server_decoder import decoder_session as decoder_runtime
from server_decoder.decoder_session import DecoderSession
from tests.payload_bytes import decode_payload


@pytest.fixture(scope="module")
def manifest(default_bundle: Path) -> Manifest:
    return load_manifest(default_bundle)


def test_tflite_and_core_ml_give_one_payload_and_one_picture(
    manifest: Manifest, default_bundle: Path, portrait: npt.NDArray[np.uint8]
) -> None:
    pictures = [portrait, portrait[:, ::-1], 255 - portrait]
    tflite = tflite_runtimes(default_bundle / "encoder.tflite")[0]
    core_ml = MilProgram(default_bundle / "encoder.mlpackage")
    reference = integer.load_integer_network(manifest.open_file("encoder.safetensors"))
    decoder = DecoderSession(manifest.open_file("decoder.onnx"))
    tables = CoderTables.from_json(manifest.open_file("coder.json"))
    for picture in pictures:
        rgb = np.ascontiguousarray(fit_picture(load_picture(picture), manifest.hr, "pad"))[None]
        lrs = [tflite.encode(rgb)[0], core_ml.predict(rgb)[0]]
        contract = {"contract_id": manifest.lr_contract_id, "tables": tables}
        payloads = [encode_payload(lr, original_size=(256, 256), **contract) for lr in lrs]
        assert payloads[0] == payloads[1]
        np.testing.assert_array_equal(lrs[0], integer.run_reference(reference, rgb)[0])
        lr, _ = decode_payload(payloads[0], **contract)
        np.testing.assert_array_equal(lr, rounded(lrs[1], tables.step))  # one payload, one LR: one picture
        error = np.abs(decoder.decode(lr[None])[0].astype(int) - rgb[0]).mean()
        assert error < 25, f"the restored picture is no likeness: mean error {error:.1f} levels"


def test_quantization_and_its_inverse_come_from_the_contract(repository: Path) -> None:
    assert decoder_runtime.network_input is pixels.network_input
    assert decoder_runtime.pictures_of is pixels.pictures_of
    for room in ("edgegrain", "edge_encoder", "server_decoder", "export", "sdk"):
        for path in (repository / room).rglob("*.py"):
            numbers = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
            assert 127.5 not in numbers, f"{path} spells the quantization rule out again"
