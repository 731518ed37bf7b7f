"""The face networks in ONNX equal the TFLite files that they were converted from."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from codec_contract.errors import ExportError
from export import face_models

FOLDER = Path(__file__).resolve().parents[3] / "edge_encoder" / "faces"
MODELS = {"detector": ("mediapipe_face_detection_back.tflite", FOLDER / "face_detector.onnx"),
          "landmarks": ("mediapipe_face_landmark.tflite", FOLDER / "face_landmarks.onnx")}


@pytest.fixture(scope="module")
def tflite(shared_weights: Path) -> dict[str, Path]:
    paths = {network: shared_weights / name for network, (name, _) in MODELS.items()}
    for path in paths.values():
        if not path.is_file():
            pytest.skip(f"needs ../shared/weights/{path.name}")
    return paths


@pytest.mark.parametrize("network", MODELS)
def test_the_shipped_file_is_the_conversion(
    network: str, tflite: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["face_models", network, str(tflite[network]), str(tmp_path / "out.onnx")])
    face_models.main()
    shipped = MODELS[network][1]
    assert capsys.readouterr().out == f"{tmp_path / 'out.onnx'}: {shipped.stat().st_size:,} bytes\n"
    assert onnx.load(tmp_path / "out.onnx") == onnx.load(shipped)


def run(path: Path, values: np.ndarray) -> list[np.ndarray]:
    """The outputs of a TFLite file, without their first dimension."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"])[0] for detail in interpreter.get_output_details()]


def test_landmarks_move_by_less_than_half_a_percent(tflite: dict[str, Path], portrait: np.ndarray) -> None:
    """By the rounding of their weights to float16, in distances of the eyes."""
    side = 192
    for shift in (0, 10, 20):
        levels = np.ascontiguousarray(portrait[40 + shift : 40 + shift + side, 32:224])
        mesh, logit = run(tflite["landmarks"], levels[None].astype(np.float32) / 255)
        session = onnxruntime.InferenceSession(MODELS["landmarks"][1])
        presence, points = session.run(["presence", "points"], {"image": levels[None]})
        expected = mesh.reshape(468, 3)[:, :2] / side
        eyes = np.hypot(*(expected[263] - expected[33]))
        assert np.hypot(*(points - expected).T).max() < 0.005 * eyes
        assert presence[0] == pytest.approx(1 / (1 + np.exp(-logit.ravel()[0])), abs=0.01) and presence[0] > 0.9


def test_it_computes_what_the_tflite_file_computes(tflite: dict[str, Path], portrait: np.ndarray) -> None:
    regressors, logits = run(tflite["detector"], portrait[None] / np.float32(127.5) - 1)
    session = onnxruntime.InferenceSession(MODELS["detector"][1])
    scores, points = session.run(["scores", "points"], {"image": portrait[None]})
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
        face_models.convert("detector", content)


def test_another_model_is_refused(default_bundle: Path) -> None:
    with pytest.raises(ExportError, match="not a TFLite model: 9"):  # int8 weights, which the face networks have not
        face_models.convert("detector", (default_bundle / "encoder.tflite").read_bytes())
