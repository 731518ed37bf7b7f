"""The decoder session: right levels, typed refusals, the requested device or none."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from codec_contract.errors import BundleError, DeviceError, DeviceMemoryError, ImageError, ModelError
from server_decoder import providers
from server_decoder.decoder_session import DecoderSession
from server_decoder.providers import CudaOptions, require_provider
from tests.pretended_cuda import CPU, CUDA, PretendedCuda
from tests.tiny_bundle import HR, LR, model_of, quantizing_decoder, repeating_decoder, steered_decoder
from tests.unit.server_decoder.test_bound_runs import NOISY, enlarged, lrs

HAS_CUDA = CUDA in onnxruntime.get_available_providers()


def model(nodes: str, weights: dict[str, np.ndarray] | None = None, kind: str = "float[b, 3, h, w]") -> bytes:
    """A model from ``lr`` to ``hr``, both of this type."""
    return model_of(f"({kind} lr) => ({kind} hr) {{ {nodes} }}", weights)


@pytest.fixture(scope="module")
def session() -> DecoderSession:
    return DecoderSession(repeating_decoder(), threads=1)


@pytest.mark.parametrize("quantizes", [False, True])
def test_levels_pass_through_unchanged(tmp_path: Path, quantizes: bool) -> None:
    path = tmp_path / "decoder.onnx"
    path.write_bytes(quantizing_decoder() if quantizes else repeating_decoder())
    session = DecoderSession(str(path) if quantizes else path, threads=1)
    assert (session.quantizes, session.lr_size) == (quantizes, (LR, LR))
    for lr in (lrs(1), lrs(8), lrs(3)[:, ::-1]):  # one is not contiguous
        restored = session.decode(lr)
        assert restored.dtype == np.uint8 and restored.flags.c_contiguous
        np.testing.assert_array_equal(restored, enlarged(lr))
    with pytest.raises(ImageError, match="takes LRs of 16 x 16, got 8 x 16"):
        session.decode(lr[:, :, :8])


def test_values_by_hand() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    np.testing.assert_array_equal(DecoderSession(model("hr = Identity(lr)"), threads=1).decode(every), every)
    # Value v / 127.5 - 1 doubled is level 2 v - 127.5: a half rounds up, values beyond the range are clipped.
    lr = np.uint8([0, 60, 64, 127, 128, 200, 255]).reshape(1, 1, 7, 1).repeat(3, axis=3)
    double = DecoderSession(model("hr = Add(lr, lr)"), threads=1)
    assert double.decode(lr)[0, 0, :, 0].tolist() == [0, 0, 1, 127, 129, 255, 255]
    with pytest.raises(ModelError, match="NaN"):
        DecoderSession(model("hr = Log(lr)"), threads=1).decode(np.zeros((1, 2, 2, 3), np.uint8))  # of negative values


def test_properties_and_warm_up(session: DecoderSession) -> None:
    assert (session.device, session.providers, session.lr_size) == ("cpu", [CPU], (LR, LR))
    for batch in (1, 2, [1, 4]):
        session.warm_up(batch)
    with pytest.raises(BundleError, match="leaves its LR size open"):
        DecoderSession(model("hr = Identity(lr)")).warm_up()


def test_shared_by_threads(session: DecoderSession) -> None:
    given = [lrs(2, seed) for seed in range(60)]
    with ThreadPoolExecutor(6) as threads:
        for lr, hr in zip(given, threads.map(session.decode, given), strict=True):
            np.testing.assert_array_equal(hr, enlarged(lr))


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        (np.zeros((1, LR, LR, 3), np.float32), r"uint8 \[B, h, w, 3\], got float32"),
        (np.zeros((LR, LR, 3), np.uint8), r"got uint8 \[16, 16, 3\]"),
        (np.zeros((1, 3, LR, LR), np.uint8), r"got uint8 \[1, 3, 16, 16\]"),
        (np.zeros((0, LR, LR, 3), np.uint8), r"got uint8 \[0, 16, 16, 3\]"),
        ([[1, 2]], "got list"),
    ],
)
def test_other_arrays_are_refused(session: DecoderSession, lr: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        session.decode(lr)


def planar(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("lr", TensorProto.UINT8, ["b", 4, LR, LR]))
    model.graph.node[3].attribute[0].ints[:] = [0, 1, 2, 3]


def float_result(model: onnx.ModelProto) -> None:
    model.graph.node[-1].attribute[0].i = TensorProto.FLOAT
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT


def strength_of_two_axes(model: onnx.ModelProto) -> None:
    del model.graph.node[-3:]
    model.graph.node[-1].output[0] = "hr"
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones((1, 1), np.float32), "strength"))
    model.graph.input[1].CopyFrom(helper.make_tensor_value_info("strength", TensorProto.FLOAT, ["s", 1]))


def changed(data: bytes, change: Any) -> bytes:
    proto = onnx.load_model_from_string(data)
    change(proto)
    return bytes(proto.SerializeToString())


LEVELS = r"not a decoder: .*tensor\(uint8\) \[B, height, width, 3\]|cannot be loaded"
HALF = repeating_decoder()[: len(repeating_decoder()) // 2]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "cannot be loaded"),
        (b"not onnx", "cannot be loaded"),
        (HALF, "cannot be loaded"),
        (Path("absent.onnx"), "cannot be loaded"),
        (model_of("(float[b, 3, 8, 8] x) => (float[b, 3, 8, 8] hr) { hr = Identity(x) }"), "not a decoder"),
        (model_of("(float[b, 3, 8, 8] lr) => (float[b, 3, 8, 8] y) { y = Identity(lr) }"), "not a decoder"),
        (model("hr = Identity(lr)", kind="float[b, 4, 8, 8]"), "not a decoder"),
        (model("hr = Identity(lr)", kind="float[3, 8, 8]"), "not a decoder"),
        (model("hr = Identity(lr)", kind="float16[b, 3, 8, 8]"), r"tensor\(float16\)"),
        (changed(quantizing_decoder(), planar), LEVELS),
        (changed(quantizing_decoder(), float_result), LEVELS),
        (NOISY, r"not a decoder: its input is lr .*, noise tensor"),
        (changed(steered_decoder(), strength_of_two_axes), "it takes strength as tensor.float"),
    ],
)
def test_models_that_are_no_decoder_are_refused(source: bytes | Path, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        DecoderSession(source)


def test_unknown_device() -> None:
    with pytest.raises(DeviceError, match="unknown device 'tpu', expected one of cpu, cuda"):
        DecoderSession(repeating_decoder(), device="tpu")  # type: ignore[arg-type]
    assert require_provider("cpu") == CPU


def test_cuda_is_refused_where_it_is_not_installed(pretended_cuda: PretendedCuda) -> None:
    pretended_cuda.listed = [CPU]
    with pytest.raises(DeviceError, match=r"CUDAExecutionProvider.*install edgegrain\[gpu\]"):
        DecoderSession(repeating_decoder(), device="cuda")


def test_a_provider_that_does_not_start(pretended_cuda: PretendedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended_cuda.active = [CPU]
    monkeypatch.setattr(providers, "driver_version", lambda: 13000)
    with pytest.raises(DeviceError, match=r"did not start \(.*libonnxruntime_providers_cuda.*\); active: CPUExecution"):
        DecoderSession(repeating_decoder(), device="cuda", memory_limit=10**9)
    ((_, ((name, chosen), last)),) = pretended_cuda.started
    assert [name, last] == [CUDA, CPU]
    assert chosen["gpu_mem_limit"] == "1000000000" and chosen["enable_cuda_graph"] == "1"


def test_a_provider_that_fails_says_why(pretended_cuda: PretendedCuda) -> None:
    error = RuntimeError("CUDA failure 35: CUDA driver version is insufficient\nat cuda_call.cc")
    pretended_cuda.refuse = Mock(side_effect=error)
    with pytest.raises(DeviceError, match=r"did not start \(.*; CUDA failure 35: .* insufficient\); active: nothing"):
        DecoderSession(repeating_decoder(), device="cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_no_block_of_memory_is_planned_for_each_batch_size(pretended_cuda: PretendedCuda, device: Any) -> None:
    DecoderSession(repeating_decoder(), device)
    assert [options.enable_mem_pattern for options, _ in pretended_cuda.started] == [False]


def test_what_cannot_be_captured_runs_without(pretended_cuda: PretendedCuda, caplog: pytest.LogCaptureFixture) -> None:
    def fail(wanted: Sequence[Any]) -> None:
        if wanted[0][1]["enable_cuda_graph"] == "1":
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")

    pretended_cuda.refuse = fail
    session = DecoderSession(repeating_decoder(), device="cuda")
    assert [wanted[0][1]["enable_cuda_graph"] for _, wanted in pretended_cuda.started] == ["1", "0"]
    assert not session.graphs and "without CUDA graphs" in caplog.text


@pytest.mark.parametrize(("half", "nhwc", "graphs"), [(0, False, False), (0, True, True), (1, False, True)])
def test_transposed_convolutions_of_planar_floats_are_not_captured(
    pretended_cuda: PretendedCuda, caplog: pytest.LogCaptureFixture, half: bool, nhwc: bool, graphs: bool
) -> None:
    nodes = "hr = ConvTranspose <strides = [2, 2], group = 3> (lr, weight)"
    if half:
        nodes = f"x = Cast <to = 10> (lr) {nodes.replace('lr', 'x').replace('hr', 'y')} hr = Cast <to = 1> (y)"
    weights = {"weight": np.ones((3, 1, 2, 2), np.float16 if half else np.float32)}
    session = DecoderSession(model(nodes, weights), "cuda", cuda=CudaOptions(prefer_nhwc=nhwc))
    assert session.graphs == graphs != ("without CUDA graphs: cuDNN's transposed convolutions" in caplog.text)
    assert [chain[0][1]["enable_cuda_graph"] for _, chain in pretended_cuda.started] == [str(int(graphs))]


@pytest.mark.parametrize("text", ["CUDA failure 2: out of memory", "CUDA failure 700: an illegal memory access"])
def test_a_failing_run_is_a_device_error(session: DecoderSession, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    class Failing:
        def run(self, *_: object) -> None:
            raise RuntimeError(f"{text}\nat some place")

    monkeypatch.setattr(session, "_session", Failing())
    with pytest.raises(DeviceError, match=f"{text}$|{text}\\); take smaller batches") as caught:
        session.decode(lrs(1))
    assert isinstance(caught.value, DeviceMemoryError) == ("out of memory" in text)


def test_a_batch_beyond_the_memory_limit_is_an_error_and_the_session_stays() -> None:
    limit = 2 << 20  # the model's output takes 48 KiB a picture
    small, large = (DecoderSession(repeating_decoder(), threads=1, memory_limit=size) for size in (limit, 32 * limit))
    lr = lrs(100)
    for _ in range(2):
        with pytest.raises(DeviceMemoryError, match="decoding needs more memory than cpu has left"):
            small.decode(lr)
        np.testing.assert_array_equal(small.decode(lr[:3]), enlarged(lr[:3]))
    np.testing.assert_array_equal(large.decode(lr), enlarged(lr))
    sizes = {"wide": (50_000, 3, 3, 3), "narrow": (3, 50_000, 1, 1)}  # 6 MB of weights
    weights = {name: np.zeros(size, np.float32) for name, size in sizes.items()}
    wide = model("x = Conv <pads = [1, 1, 1, 1]> (lr, wide) hr = Conv(x, narrow)", weights)
    with pytest.raises(DeviceMemoryError, match="(loading the decoder|decoding) needs more memory"):
        DecoderSession(wide, memory_limit=limit).decode(lr[:1])
    with pytest.raises(DeviceError, match="in bytes and at least 1"):
        DecoderSession(repeating_decoder(), memory_limit=0)


def test_more_memory_than_there_is_is_an_error_and_the_process_stays(session: DecoderSession) -> None:
    shape = f"shape = Constant <value_ints = [1, 3, {LR << 15}, {LR << 15}]> ()"  # 3 TB
    huge = model(f"{shape} brightest = ReduceMax <keepdims = 1> (lr) hr = Expand(brightest, shape)")
    with pytest.raises(DeviceMemoryError, match="take smaller batches"):
        DecoderSession(huge).decode(lrs(1))
    np.testing.assert_array_equal(session.decode(lrs(1)), enlarged(lrs(1)))


@pytest.mark.parametrize("control", ["strength", "step"])
def test_a_control_is_each_picture_s_own(control: str) -> None:
    session = DecoderSession(steered_decoder(control=control), threads=1)
    assert session.controls == {control} and not DecoderSession(repeating_decoder()).controls
    lr = np.full((3, LR, LR, 3), 100, np.uint8)
    assert [int(hr.max()) for hr in session.decode(lr, **{control: [4, 64, 16]})] == [102, 132, 108]
    assert [int(hr.min()) for hr in session.decode(lr, **{control: 32})] == [116] * 3
    assert int(session.decode(lr[:1]).max()) == 104  # what stands in the file
    assert int(DecoderSession(steered_decoder(control=control), **{control: 20}).decode(lr[:1]).max()) == 110
    with pytest.raises(ImageError, match=f"a batch of 3 takes one {control}, or 3; got 2"):
        session.decode(lr, **{control: [4, 64]})
    with pytest.raises(ImageError, match=f"takes no {control}"):
        DecoderSession(repeating_decoder()).decode(lr, **{control: 16})


@pytest.mark.skipif(not HAS_CUDA, reason="needs a GPU and onnxruntime-gpu")
def test_cuda_decodes_like_the_cpu() -> None:
    session = DecoderSession(repeating_decoder(), device="cuda")
    assert session.providers[0] == CUDA and session.decode(lrs(4)).shape == (4, HR, HR, 3)
    np.testing.assert_array_equal(session.decode(lrs(4)), enlarged(lrs(4)))
