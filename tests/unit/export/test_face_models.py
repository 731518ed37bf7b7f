"""The face detector in ONNX equals the TFLite file that it was converted from."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from codec_contract.errors import ExportError
from edge_encoder.faces.detection import MODEL
from export import face_detector


@pytest.fixture(scope="module")
def tflite(shared_weights: Path) -> Path:
    path = shared_weights / "mediapipe_face_detection_back.tflite"
    if not path.is_file():
        pytest.skip(f"needs ../shared/weights/{path.name}")
    return path


def test_the_shipped_file_is_the_conversion(
    tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["face_detector", str(tflite), str(tmp_path / "out.onnx")])
    face_detector.main()
    assert capsys.readouterr().out == f"{tmp_path / 'out.onnx'}: {MODEL.stat().st_size:,} bytes\n"
    assert onnx.load(tmp_path / "out.onnx") == onnx.load(MODEL)


def test_it_computes_what_the_tflite_file_computes(tflite: Path, portrait: np.ndarray) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(tflite), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], portrait[None] / np.float32(127.5) - 1)
    interpreter.invoke()
    regressors, logits = (interpreter.get_tensor(detail["index"])[0] for detail in interpreter.get_output_details())
    scores, points = onnxruntime.InferenceSession(MODEL).run(["scores", "points"], {"image": portrait[None]})
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.clip(logits[:, 0], -80, 80))), atol=1e-4)
    assert scores.max() > 0.8
    # The sizes, which have no anchor, and the first and last anchors' offsets from the cells' middles.
    np.testing.assert_allclose(points[:, 1], regressors[:, 2:4] / 256, atol=1e-4)
    for row, middle in ((0, (1 / 32, 1 / 32)), (2, (3 / 32, 1 / 32)), (895, (15 / 16, 15 / 16))):
        expected = regressors[row].reshape(8, 2) / 256 + middle
        np.testing.assert_allclose(np.delete(points[row], 1, axis=0), np.delete(expected, 1, axis=0), atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"no model at all, but long enough to be read as one" * 4])
def test_another_file_is_refused(content: bytes) -> None:
    with pytest.raises(ExportError, match="not a TFLite model"):
        face_detector.convert(content)


def test_another_model_is_refused(shared_weights: Path) -> None:
    path = shared_weights / "mediapipe_face_landmark.tflite"
    if not path.is_file():
        pytest.skip(f"needs ../shared/weights/{path.name}")
    with pytest.raises(ExportError, match="the model has the operator PRELU, which the detector has not"):
        face_detector.convert(path.read_bytes())
