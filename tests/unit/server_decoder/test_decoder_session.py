"""The decoder session: right levels, typed refusals, the requested device or none."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from codec_contract.errors import BundleError, DeviceError, DeviceMemoryError, ImageError, QuantizationError
from server_decoder import providers
from server_decoder.bound_runs import BoundRuns
from server_decoder.decoder_session import DecoderSession, require_provider
from server_decoder.providers import CudaOptions, can_replay_graphs
from tests.tiny_bundle import HR, LR, noisy_decoder, quantizing_decoder, repeating_decoder, steered_decoder

CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def lrs(count: int, seed: int = 0, side: int = LR) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def enlarged(lr: np.ndarray) -> np.ndarray:
    return lr.repeat(HR // LR, axis=1).repeat(HR // LR, axis=2)


def model(*nodes: object, inputs: dict[str, list], outputs: dict[str, list], kind: int = TensorProto.FLOAT,
          weights: list[TensorProto] | None = None) -> bytes:
    def values(signature: dict[str, list]) -> list:
        return [helper.make_tensor_value_info(name, kind, shape) for name, shape in signature.items()]

    graph = helper.make_graph(list(nodes), "test", values(inputs), values(outputs), weights or [])
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


def test_a_graph_that_quantizes_gives_the_same_levels(session: DecoderSession) -> None:
    quantizing = DecoderSession(quantizing_decoder(), threads=1)
    assert quantizing.quantizes and not session.quantizes and quantizing.lr_size == (LR, LR)
    lr = lrs(3)
    restored = quantizing.decode(lr[:, ::-1])  # an array that is not contiguous
    assert restored.dtype == np.uint8 and restored.flags.c_contiguous
    np.testing.assert_array_equal(restored, session.decode(lr[:, ::-1]))
    with pytest.raises(ImageError, match="takes LRs of 16 x 16, got 8 x 16"):
        quantizing.decode(lr[:, :, :8])


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
    session.warm_up([1, 4])
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


@pytest.mark.parametrize("change", ["channels first", "float32 out"])
def test_levels_come_from_levels(change: str) -> None:
    changed = onnx.load_model_from_string(quantizing_decoder())
    if change == "channels first":
        changed.graph.input[0].CopyFrom(helper.make_tensor_value_info("lr", TensorProto.UINT8, ["b", 4, LR, LR]))
        changed.graph.node[3].attribute[0].ints[:] = [0, 1, 2, 3]
    else:
        changed.graph.node[-1].attribute[0].i = TensorProto.FLOAT
        changed.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(BundleError, match=r"not a decoder: .*tensor\(uint8\) \[B, height, width, 3\]|cannot be loaded"):
        DecoderSession(changed.SerializeToString())


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


@pytest.fixture
def cuda_listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """ONNX Runtime with CUDA but without its libraries: lists the provider, and then it does not start."""
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    return listed


def test_a_provider_that_does_not_start_is_an_error(cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    listed = cuda_listed
    started = onnxruntime.InferenceSession
    asked = []

    def fall_back(source: bytes, options: object, providers: list, **_: object) -> onnxruntime.InferenceSession:
        asked.extend(providers)
        return started(source, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    monkeypatch.setattr(providers, "has_nvidia_driver", lambda: True)
    with pytest.raises(DeviceError, match=r"did not start \(.*libonnxruntime_providers_cuda.*\); active: CPUExecution"):
        DecoderSession(repeating_decoder(), device="cuda", memory_limit=10**9)
    (name, chosen), last = asked
    assert [name, last] == listed and chosen["gpu_mem_limit"] == "1000000000" and chosen["enable_cuda_graph"] == "1"


def test_a_provider_that_fails_says_why(cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA failure 35: CUDA driver version is insufficient\nat cuda_call.cc")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(DeviceError, match=r"did not start \(.*; CUDA failure 35: .* insufficient\); active: nothing"):
        DecoderSession(repeating_decoder(), device="cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_no_block_of_memory_is_planned_for_each_batch_size(
        cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch, device: Any) -> None:
    started, planned = onnxruntime.InferenceSession, []

    def start(source: bytes, options: onnxruntime.SessionOptions, **_: object) -> onnxruntime.InferenceSession:
        planned.append(options.enable_mem_pattern)
        session = started(source, options, providers=["CPUExecutionProvider"])
        monkeypatch.setattr(session, "get_providers", lambda: cuda_listed)
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    DecoderSession(repeating_decoder(), device)
    assert planned == [False]


def test_a_model_that_cannot_be_captured_runs_without_graphs(
        cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    started, asked = onnxruntime.InferenceSession, []

    def start(source: bytes, options: object, providers: list, **_: object) -> onnxruntime.InferenceSession:
        asked.append(providers[0][1]["enable_cuda_graph"])
        if asked[-1] == "1":
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")
        session = started(source, options, providers=["CPUExecutionProvider"])
        monkeypatch.setattr(session, "get_providers", lambda: cuda_listed)
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    session = DecoderSession(repeating_decoder(), device="cuda")
    assert asked == ["1", "0"] and not session.graphs and "without CUDA graphs" in caplog.text


@pytest.mark.parametrize("text", ["CUDA failure 2: out of memory", "CUDA failure 700: an illegal memory access"])
def test_a_failing_run_is_a_device_error(
        session: DecoderSession, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    class Failing:
        def run(self, *_: object) -> None:
            raise RuntimeError(f"{text}\nat some place")

    monkeypatch.setattr(session, "_session", Failing())
    memory = "out of memory" in text
    with pytest.raises(DeviceError, match=f"{text}$|{text}\\); take smaller batches") as caught:
        session.decode(lrs(1))
    assert isinstance(caught.value, DeviceMemoryError) == memory


def test_a_batch_beyond_the_memory_limit_is_an_error_and_the_session_stays() -> None:
    limit = 2 << 20  # the model's output takes 48 KiB a picture
    small, large = (DecoderSession(repeating_decoder(), threads=1, memory_limit=size) for size in (limit, 32 * limit))
    lr = lrs(100)
    for _ in range(2):
        with pytest.raises(DeviceMemoryError, match="decoding needs more memory than cpu has left"):
            small.decode(lr)
        np.testing.assert_array_equal(small.decode(lr[:3]), enlarged(lr[:3]))
    np.testing.assert_array_equal(large.decode(lr), enlarged(lr))
    np.testing.assert_array_equal(DecoderSession(repeating_decoder(), threads=1).decode(lr), enlarged(lr))
    shape = ["b", 3, LR, LR]
    wide, narrow = (numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in (
        ("wide", (50_000, 3, 3, 3)), ("narrow", (3, 50_000, 1, 1))))  # 6 MB of weights
    nodes = [helper.make_node("Conv", ["lr", "wide"], ["x"], pads=[1, 1, 1, 1]),
             helper.make_node("Conv", ["x", "narrow"], ["hr"])]
    with pytest.raises(DeviceMemoryError, match="(loading the decoder|decoding) needs more memory"):
        DecoderSession(model(*nodes, inputs={"lr": shape}, outputs={"hr": shape}, weights=[wide, narrow]),
                       memory_limit=limit).decode(lr[:1])
    with pytest.raises(DeviceError, match="in bytes and at least 1"):
        DecoderSession(repeating_decoder(), memory_limit=0)


def test_more_memory_than_there_is_is_an_error_and_the_process_stays(session: DecoderSession) -> None:
    shape = helper.make_node("Constant", [], ["shape"], value_ints=[1, 3, LR << 15, LR << 15])  # 3 TB
    brightest = helper.make_node("ReduceMax", ["lr"], ["brightest"], keepdims=1)
    expand = helper.make_node("Expand", ["brightest", "shape"], ["hr"])
    huge = model(shape, brightest, expand, inputs={"lr": ["b", 3, LR, LR]}, outputs={"hr": ["b", 3, "h", "w"]})
    with pytest.raises(DeviceMemoryError, match="take smaller batches"):
        DecoderSession(huge).decode(lrs(1))
    np.testing.assert_array_equal(session.decode(lrs(1)), enlarged(lrs(1)))


def noisy(shape: list, kind: int = TensorProto.FLOAT) -> bytes:
    """hr = lr + noise."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["lr", "noise"], ["hr"])], "noisy",
        [helper.make_tensor_value_info("lr", TensorProto.FLOAT, ["b", 3, "h", "w"]),
         helper.make_tensor_value_info("noise", kind, shape)],
        [helper.make_tensor_value_info("hr", TensorProto.FLOAT, ["b", 3, "h", "w"])])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(proto.SerializeToString())


def test_noise_follows_from_the_seed_alone() -> None:
    session = DecoderSession(noisy(["b", 3, "h", "w"]), threads=1)
    assert session.takes_seed and not DecoderSession(repeating_decoder(), threads=1).takes_seed
    lr = np.full((3, 4, 5, 3), 128, np.uint8)
    one = session.decode(lr[:1], seed=7)
    np.testing.assert_array_equal(session.decode(lr, seed=7), one.repeat(3, axis=0))
    assert (session.decode(lr, seed=8)[0] != one[0]).mean() > 0.5
    np.testing.assert_array_equal(session.decode(lr), session.decode(lr, seed=0))
    expected = np.random.default_rng(7).standard_normal((3, 4, 5), np.float32).transpose(1, 2, 0) + lr[0] / 127.5 - 1
    assert np.abs(one[0] - np.clip((expected + 1) * 127.5, 0, 255)).max() <= 0.5 + 1e-3


def test_noise_of_an_unknown_shape_is_refused() -> None:
    for wrong in (noisy(["b", "c", "h", "w"]), noisy([1, 3, "h", "w"])):
        with pytest.raises(BundleError, match="besides 'lr' it takes noise"):
            DecoderSession(wrong)


def test_a_strength_is_each_picture_s_own() -> None:
    session = DecoderSession(steered_decoder(), threads=1)
    assert session.takes_strength and not DecoderSession(noisy_decoder(), threads=1).takes_strength
    lr = np.full((3, LR, LR, 3), 100, np.uint8)
    assert [int(hr.max()) for hr in session.decode(lr, strength=[4, 64, 16])] == [102, 132, 108]
    assert [int(hr.min()) for hr in session.decode(lr, strength=32)] == [116] * 3
    assert int(session.decode(lr[:1]).max()) == 104  # what stands in the file
    assert int(DecoderSession(steered_decoder(), strength=20).decode(lr[:1]).max()) == 110
    with pytest.raises(ImageError, match="a batch of 3 takes one strength, or 3; got 2"):
        session.decode(lr, strength=[4, 64])
    with pytest.raises(ImageError, match="takes no strength"):
        DecoderSession(repeating_decoder()).decode(lr, strength=16)


def test_a_strength_of_another_type_is_refused() -> None:
    model = onnx.load_model_from_string(steered_decoder())
    del model.graph.node[-3:]
    model.graph.node[-1].output[0] = "hr"
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones((1, 1), np.float32), "strength"))
    model.graph.input[1].CopyFrom(helper.make_tensor_value_info("strength", TensorProto.FLOAT, ["s", 1]))
    with pytest.raises(BundleError, match="it takes strength as tensor.float"):
        DecoderSession(model.SerializeToString())


def test_buffers_that_were_kept_fit_batches_of_any_strength(
    cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_on_bound_runs(monkeypatch, cuda_listed, steered_decoder(), strength=8)
    session.warm_up([2])
    replayed: list[int] = []
    replay = BoundRuns._replay
    monkeypatch.setattr(BoundRuns, "_replay", lambda self, *given: replayed.append(1) or replay(self, *given))
    lr = np.full((2, LR, LR, 3), 100, np.uint8)
    assert [int(hr.max()) for hr in session.decode(lr, strength=[4, 64])] == [102, 132]
    assert [int(hr.max()) for hr in session.decode(lr)] == [104, 104] and len(replayed) == 2


def fail_captures(session: DecoderSession, monkeypatch: pytest.MonkeyPatch, sizes: Sequence[int], text: str
                  ) -> list[str]:
    """Let runs with the graphs of these sizes fail; returns a list of the graphs of all runs."""
    run, graphs = session._session.run_with_iobinding, []

    def fail(binding: onnxruntime.IOBinding, options: onnxruntime.RunOptions) -> None:
        graphs.append(options.get_run_config_entry("gpu_graph_id"))
        if graphs[-1] in map(str, sizes):
            raise RuntimeError(f"{text}\nat some place")
        run(binding, options)

    monkeypatch.setattr(session._session, "run_with_iobinding", fail)
    return graphs


def test_a_capture_that_fails_is_not_repeated(
        cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    session = session_on_bound_runs(monkeypatch, cuda_listed, repeating_decoder())
    graphs = fail_captures(session, monkeypatch, [2, 4], "CUDA failure 901: operation failed")
    session.warm_up([1])
    assert session.graphs and graphs == ["-1", "1"]
    session.warm_up([2, 4])
    assert not session.graphs and session._bound.kept == (1, 2, 4)
    assert [record.getMessage() for record in caplog.records] == [
        "this decoder runs without CUDA graphs: CUDA failure 901: operation failed"]
    for count in (1, 2, 3, 4):
        np.testing.assert_array_equal(session.decode(lrs(count)), enlarged(lrs(count)))
    assert graphs[2:] == ["-1", "2", *["-1"] * 7]


def test_a_capture_without_memory_is_an_error_and_keeps_nothing(
        cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_on_bound_runs(monkeypatch, cuda_listed, repeating_decoder())
    fail_captures(session, monkeypatch, [4], "CUDA failure 2: out of memory")
    with pytest.raises(DeviceMemoryError, match="warming up for batches of 4 needs more memory"):
        session.warm_up([2, 4])
    assert session.graphs and session._bound.kept == (2,)
    np.testing.assert_array_equal(session.decode(lrs(4)), enlarged(lrs(4)))


def test_bound_runs_equal_unbound_ones() -> None:
    # On the CPU, the same code that feeds a GPU; CUDA graphs are what is left out.
    plain = onnxruntime.InferenceSession(noisy(["b", 3, "h", "w"]), providers=["CPUExecutionProvider"])
    bound = BoundRuns(plain, "cpu")

    def feeds(count: int, seed: int, side: int = 6) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        return {name: random.standard_normal((count, 3, side, side), np.float32) for name in ("lr", "noise")}

    def expected(values: dict[str, np.ndarray]) -> np.ndarray:
        return values["lr"] + values["noise"]

    for count in (2, 1, 2):
        bound.keep(feeds(count, 9))
        np.testing.assert_array_equal(bound.run(feeds(count, 9)), expected(feeds(count, 9)))
    assert bound.kept == (1, 2)
    results = [bound.run(feeds(count, count)) for count in (2, 1, 3)]
    for count, result in zip((2, 1, 3), results, strict=True):  # a result stays when the next run writes its buffer
        np.testing.assert_array_equal(result, expected(feeds(count, count)))
    np.testing.assert_array_equal(bound.run(feeds(2, 1, side=4)), expected(feeds(2, 1, side=4)))
    np.testing.assert_array_equal(bound.run(feeds(1, 5)), expected(feeds(1, 5)))


def test_a_result_is_not_written_by_the_runs_of_other_threads() -> None:
    plain = onnxruntime.InferenceSession(quantizing_decoder(), providers=["CPUExecutionProvider"])
    bound = BoundRuns(plain, "cpu")
    bound.keep({"lr": lrs(2)})
    wrong = []

    def work(seed: int) -> None:
        given = [lrs(2, seed=10 * seed + step) for step in range(10)]
        results = [bound.run({"lr": lr}) for lr in given]  # kept until all have run
        wrong.extend(lr for lr, hr in zip(given, results, strict=True) if not np.array_equal(hr, enlarged(lr)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_older_versions_copy_results_through_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    update = onnxruntime.OrtValue.update_inplace

    def from_arrays_only(self: onnxruntime.OrtValue, data: object) -> None:
        if not isinstance(data, np.ndarray):
            raise TypeError("update_inplace(): incompatible function arguments")
        update(self, data)

    monkeypatch.setattr(onnxruntime.OrtValue, "update_inplace", from_arrays_only)
    bound = BoundRuns(onnxruntime.InferenceSession(quantizing_decoder(), providers=["CPUExecutionProvider"]), "cpu")
    bound.keep({"lr": lrs(1)})
    np.testing.assert_array_equal(bound.run({"lr": lrs(1, seed=3)}), enlarged(lrs(1, seed=3)))


def test_a_failing_run_gives_its_buffers_back() -> None:
    bound = BoundRuns(onnxruntime.InferenceSession(repeating_decoder(), providers=["CPUExecutionProvider"]), "cpu")
    values = np.zeros((1, 3, LR, LR), np.float32)
    bound.keep({"lr": values})
    session = bound._session
    bound._session = None  # type: ignore[assignment]
    for _ in range(3):
        with pytest.raises(AttributeError):
            bound.run({"lr": values})
    bound._session = session
    assert bound.run({"lr": values}).shape == (1, 3, HR, HR)


def session_on_bound_runs(monkeypatch: pytest.MonkeyPatch, cuda_listed: list[str], model: bytes,
                          runs: list[tuple[str, int, bool]] | None = None, **options: Any) -> DecoderSession:
    """A session that says it runs on CUDA, with buffers on the CPU; ``runs`` collects the runs of its buffers."""
    started = onnxruntime.InferenceSession

    def start(source: bytes, options: object, providers: list, **_: object) -> onnxruntime.InferenceSession:
        session = started(source, options, providers=["CPUExecutionProvider"])
        monkeypatch.setattr(session, "get_providers", lambda: cuda_listed)
        return session

    class OnCpu(BoundRuns):
        def __init__(self, session: onnxruntime.InferenceSession, device: str, device_id: int, *, graphs: bool) -> None:
            if runs is not None:
                runs.append((device, device_id, graphs))
            super().__init__(session, "cpu", graphs=graphs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    monkeypatch.setattr("server_decoder.decoder_session.BoundRuns", OnCpu)
    return DecoderSession(model, "cuda", **options)


def test_the_cuda_path_is_the_bound_one(cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[str, int, bool]] = []
    session = session_on_bound_runs(monkeypatch, cuda_listed, repeating_decoder(), runs, cuda=CudaOptions(device_id=1))
    session.warm_up([1, 4])
    assert runs == [("cuda", 1, True)] and session.graphs and session._bound.kept == (1, 4)
    for count in (1, 3, 4):
        np.testing.assert_array_equal(session.decode(lrs(count)), enlarged(lrs(count)))


def test_releases_that_replay_graphs_wrongly_run_without(
        cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    runs: list[tuple[str, int, bool]] = []
    monkeypatch.setattr(onnxruntime, "__version__", "1.29.1")
    session = session_on_bound_runs(monkeypatch, cuda_listed, repeating_decoder(), runs, cuda=CudaOptions())
    assert runs == [("cuda", 0, False)] and not session.graphs
    assert "install onnxruntime-gpu 1.30 or newer" in caplog.text
    assert [can_replay_graphs(version) for version in ("1.9.0", "1.29.1", "1.30.0", "1.31.1", "2.0.0", "?")] == [
        False, False, True, True, True, False]


@pytest.mark.parametrize("model", [repeating_decoder(), quantizing_decoder()], ids=["float", "uint8"])
def test_both_signatures_run_on_buffers(
        cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch, model: bytes) -> None:
    session = session_on_bound_runs(monkeypatch, cuda_listed, model)
    session.warm_up([2])
    lr = lrs(2)
    np.testing.assert_array_equal(session.decode(lr), enlarged(lr))


def test_tensorrt_is_asked_for_alone_and_never_replaced(
        cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = CudaOptions(provider="tensorrt", engine_cache=tmp_path)
    with pytest.raises(DeviceError, match="needs TensorrtExecutionProvider, this ONNX Runtime has only CUDA"):
        DecoderSession(repeating_decoder(), device="cuda", cuda=options)
    cuda_listed.insert(0, "TensorrtExecutionProvider")
    started, asked = onnxruntime.InferenceSession, []

    def start(source: bytes, given: object, providers: list, **_: object) -> onnxruntime.InferenceSession:
        asked.append(dict(providers[:2]))
        session = started(source, given, providers=["CPUExecutionProvider"])
        monkeypatch.setattr(session, "get_providers", lambda: cuda_listed)
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    session = DecoderSession(repeating_decoder(), device="cuda", cuda=options)
    assert session.providers[0] == "TensorrtExecutionProvider" and not session.graphs
    assert "without CUDA graphs: TensorRT keeps one" in caplog.text
    assert list(asked[0]) == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert asked[0]["TensorrtExecutionProvider"]["trt_engine_cache_path"] == str(tmp_path)
    assert asked[0]["CUDAExecutionProvider"]["enable_cuda_graph"] == "0"

    cuda_listed.remove("TensorrtExecutionProvider")  # listed, and then it does not start
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider", *cuda_listed])
    monkeypatch.setattr(providers, "has_nvidia_driver", lambda: True)
    with pytest.raises(DeviceError, match=r"TensorrtExecutionProvider did not start \(.*providers_tensorrt.*\)"):
        DecoderSession(repeating_decoder(), device="cuda", cuda=options)


def test_tensorrt_takes_plain_graphs_only(cuda_listed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_listed.insert(0, "TensorrtExecutionProvider")
    fused = onnx.load_model_from_string(repeating_decoder())
    fused.opset_import.append(helper.make_opsetid("com.edgegrain", 1))
    with pytest.raises(DeviceError, match="TensorRT has no kernels for fused ops; export the decoder with --ops plain"):
        DecoderSession(fused.SerializeToString(), "cuda", cuda=CudaOptions(provider="tensorrt"))


@pytest.mark.skipif(not CUDA, reason="needs a GPU and onnxruntime-gpu")
def test_cuda_decodes_like_the_cpu() -> None:
    session = DecoderSession(repeating_decoder(), device="cuda")
    assert session.providers[0] == "CUDAExecutionProvider"
    lr = lrs(4)
    np.testing.assert_array_equal(session.decode(lr), enlarged(lr))
