"""The decoder session: right levels, typed refusals, the asked-for device or none."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgegrain.contract.errors import BundleError, DeviceError, ImageError, QuantizationError
from server_decoder.runtime import DecoderSession, require_provider
from tests.tiny_bundle import HR, LR, repeating_decoder

CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def lrs(count: int, seed: int = 0, side: int = LR) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def enlarged(lr: np.ndarray) -> np.ndarray:
    return lr.repeat(HR // LR, axis=1).repeat(HR // LR, axis=2)


def model(*nodes: object, inputs: dict[str, list], outputs: dict[str, list], kind: int = TensorProto.FLOAT) -> bytes:
    def values(signature: dict[str, list]) -> list:
        return [helper.make_tensor_value_info(name, kind, shape) for name, shape in signature.items()]

    graph = helper.make_graph(list(nodes), "test", values(inputs), values(outputs))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(proto.SerializeToString())


def elementwise(operation: str) -> bytes:
    shape = ["b", 3, "h", "w"]
    node = helper.make_node(operation, ["lr"], ["hr"])
    return model(node, inputs={"lr": shape}, outputs={"hr": shape})


@pytest.fixture(scope="module")
def session() -> DecoderSession:
    return DecoderSession(repeating_decoder(), threads=1)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_levels_pass_through_unchanged(session: DecoderSession, count: int) -> None:
    lr = lrs(count)
    restored = session.decode(lr)
    assert restored.dtype == np.uint8 and restored.flags.c_contiguous
    np.testing.assert_array_equal(restored, enlarged(lr))


def test_every_level_survives() -> None:
    session = DecoderSession(elementwise("Identity"), threads=1)
    lr = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    np.testing.assert_array_equal(session.decode(lr), lr)


def test_values_beyond_the_range_are_clipped() -> None:
    shape = ["b", 3, "h", "w"]
    double = model(helper.make_node("Add", ["lr", "lr"], ["hr"]), inputs={"lr": shape}, outputs={"hr": shape})
    lr = np.uint8([0, 60, 64, 127, 128, 200, 255]).reshape(1, 1, 7, 1).repeat(3, axis=3)
    # value v / 127.5 - 1 doubled is level 2 v - 127.5; a half rounds up
    expected = np.uint8([0, 0, 1, 127, 129, 255, 255])
    np.testing.assert_array_equal(DecoderSession(double, threads=1).decode(lr)[0, 0, :, 0], expected)


def test_not_a_number_is_never_a_picture() -> None:
    session = DecoderSession(elementwise("Log"), threads=1)  # of negative values
    with pytest.raises(QuantizationError, match="NaN"):
        session.decode(np.zeros((1, 2, 2, 3), np.uint8))


def test_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "decoder.onnx"
    path.write_bytes(repeating_decoder())
    lr = lrs(1)
    for source in (path, str(path)):
        np.testing.assert_array_equal(DecoderSession(source).decode(lr), enlarged(lr))


def test_properties_and_warm_up(session: DecoderSession) -> None:
    assert session.device == "cpu"
    assert session.providers == ("CPUExecutionProvider",)
    assert session.lr_size == (LR, LR)
    session.warm_up()
    session.warm_up(batch=2)
    with pytest.raises(BundleError, match="leaves its LR size open"):
        DecoderSession(elementwise("Identity")).warm_up()


def test_shared_by_threads(session: DecoderSession) -> None:
    failures = []

    def work(seed: int) -> None:
        for step in range(10):
            lr = lrs(2, seed=100 * seed + step)
            if not np.array_equal(session.decode(lr), enlarged(lr)):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    ("lr", "message"),
    [(np.zeros((1, LR, LR, 3), np.float32), r"uint8 \[B, h, w, 3\], got float32"),
     (np.zeros((LR, LR, 3), np.uint8), r"got uint8 \[16, 16, 3\]"),
     (np.zeros((1, 3, LR, LR), np.uint8), r"got uint8 \[1, 3, 16, 16\]"),
     (np.zeros((0, LR, LR, 3), np.uint8), r"got uint8 \[0, 16, 16, 3\]"),
     (np.zeros((1, LR, 8, 3), np.uint8), "takes LRs of 16 x 16, got 8 x 16"),
     ([[1, 2]], "got list")])
def test_other_arrays_are_refused(session: DecoderSession, lr: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        session.decode(lr)


def test_damaged_models_are_refused(tmp_path: Path) -> None:
    whole = repeating_decoder()
    for data in (b"", b"not onnx", whole[: len(whole) // 2]):
        with pytest.raises(BundleError):
            DecoderSession(data)
    with pytest.raises(BundleError, match="cannot be loaded"):
        DecoderSession(tmp_path / "absent.onnx")


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [({"x": ["b", 3, 8, 8]}, {"hr": ["b", 3, 8, 8]}), ({"lr": ["b", 3, 8, 8]}, {"y": ["b", 3, 8, 8]}),
     ({"lr": ["b", 4, 8, 8]}, {"hr": ["b", 4, 8, 8]}), ({"lr": [3, 8, 8]}, {"hr": [3, 8, 8]})])
def test_models_that_are_no_decoder_are_refused(inputs: dict[str, list], outputs: dict[str, list]) -> None:
    node = helper.make_node("Identity", list(inputs), list(outputs))
    with pytest.raises(BundleError, match="not a decoder"):
        DecoderSession(model(node, inputs=inputs, outputs=outputs))


def test_other_types_are_refused() -> None:
    shape = ["b", 3, 8, 8]
    node = helper.make_node("Identity", ["lr"], ["hr"])
    half = model(node, inputs={"lr": shape}, outputs={"hr": shape}, kind=TensorProto.FLOAT16)
    with pytest.raises(BundleError, match=r"tensor\(float16\)"):
        DecoderSession(half)


def test_unknown_device_and_threads() -> None:
    with pytest.raises(DeviceError, match="unknown device 'tpu', expected one of cpu, cuda"):
        DecoderSession(repeating_decoder(), device="tpu")  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="at least 1"):
        DecoderSession(repeating_decoder(), threads=0)
    assert require_provider("cpu") == "CPUExecutionProvider"


@pytest.mark.skipif(CUDA, reason="this ONNX Runtime has the CUDA provider")
def test_cuda_is_refused_where_it_is_not_installed() -> None:
    with pytest.raises(DeviceError, match=r"CUDAExecutionProvider.*install edgegrain\[gpu\]"):
        DecoderSession(repeating_decoder(), device="cuda")


def test_a_provider_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # ONNX Runtime with CUDA but without its libraries lists the provider and then quietly runs on the CPU.
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    started = onnxruntime.InferenceSession
    asked = []

    def fall_back(source: bytes, options: object, providers: list[str]) -> onnxruntime.InferenceSession:
        asked.extend(providers)
        return started(source, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    with pytest.raises(DeviceError, match="did not start; active: CPUExecutionProvider"):
        DecoderSession(repeating_decoder(), device="cuda")
    assert asked == listed


def test_a_failing_run_is_a_device_error(session: DecoderSession, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def run(self, *_: object) -> None:
            raise RuntimeError("out of memory\nat some place")

    monkeypatch.setattr(session, "_session", Failing())
    with pytest.raises(DeviceError, match="decoding failed on cpu: out of memory$"):
        session.decode(lrs(1))


@pytest.mark.skipif(not CUDA, reason="needs a GPU and onnxruntime-gpu")
def test_cuda_decodes_like_the_cpu() -> None:
    session = DecoderSession(repeating_decoder(), device="cuda")
    assert session.providers[0] == "CUDAExecutionProvider"
    lr = lrs(4)
    np.testing.assert_array_equal(session.decode(lr), enlarged(lr))
