"""Decoders with fused ops on the library's CPU kernels; the library found, or refused with what to do."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from codec_contract.errors import BundleError, DeviceError, ExportError
from export.decoder import DecoderOptions, Ops, Pixels, Precision, WeightStorage
from export.decoder.export import compare_decoder, export_decoder
from server_decoder.cuda_ops import library
from server_decoder.decoder_session import DecoderSession
from server_decoder.grain.grain import Grain
from tests.tiny_bundle import HR, LR, repeating_decoder
from tests.tiny_grain import TINY, TINY_MOBILE, tiny_grain

SIDE = TINY.decoder.lr
LRS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def exported() -> tuple[Grain, bytes]:
    """A decoder and its graph of fused ops."""
    decoder = tiny_grain()
    return decoder, export_decoder(decoder, SIDE, DecoderOptions(ops=Ops.fused))


@pytest.fixture
def built(ops_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is where sessions look for it."""
    monkeypatch.setattr(library, "BUILT", ops_library.parent)


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs a GPU and onnxruntime-gpu"
)
def test_cuda_decodes_like_the_cpu(exported: tuple[Grain, bytes], built: None, ops_library: Path) -> None:
    if not library.has_cuda_kernels(ops_library):
        pytest.skip("the library of fused ops was built without nvcc")
    steps = DecoderSession(exported[1], "cuda").decode(LRS).astype(int) - DecoderSession(exported[1]).decode(LRS)
    assert np.abs(steps).max() <= 1


def test_without_the_library_the_error_says_what_to_do(
    exported: tuple[Grain, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "BUILT", tmp_path)
    monkeypatch.setattr(library, "PACKAGE", "edgegrain_no_such_package")
    decoder, fused = exported
    path = tmp_path / "decoder.onnx"
    path.write_bytes(fused)
    for use in (DecoderSession, partial(compare_decoder, decoder=decoder, lrs=LRS)):
        with pytest.raises(DeviceError, match="make ops"):
            use(fused)
    with pytest.raises(DeviceError, match="make ops"):
        DecoderSession(path)
    with pytest.raises(DeviceError, match="make ops"):
        library.find_library(tmp_path / "absent.so")
    lr = np.zeros((1, LR, LR, 3), np.uint8)
    assert DecoderSession(repeating_decoder()).decode(lr).shape == (1, HR, HR, 3)  # the process stays usable
    assert not library.contains(tmp_path / "absent.onnx", library.DOMAIN.encode())


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "libedgegrain_ops.so"
    wrong.write_bytes(b"not a library")
    with pytest.raises(DeviceError, match="cannot be used as the library"):
        library.register_library(onnxruntime.SessionOptions(), path=wrong)


def test_a_damaged_graph_that_names_the_ops_is_a_bundle_error(built: None) -> None:
    with pytest.raises(BundleError, match="cannot be loaded"):
        DecoderSession(b"no graph, but com.edgegrain")


def test_an_installed_library_is_found(ops_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "edgegrain_cuda_ops"
    package.mkdir()
    (package / ops_library.name).write_bytes(ops_library.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(library, "BUILT", tmp_path / "nothing")
    assert library.find_library() == package / ops_library.name


def test_a_decoder_in_float32(exported: tuple[Grain, bytes], built: None) -> None:
    decoder, model = exported
    comparison = compare_decoder(model, decoder, LRS)
    assert comparison.differing_bytes < 0.01 and comparison.largest_difference <= 1 / 127.5
    graph = onnx.load_model_from_string(model).graph
    assert len([node for node in graph.node if node.op_type == "FusedConv"]) == 29


def test_a_decoder_in_float16(built: None) -> None:
    decoder = tiny_grain(TINY_MOBILE)
    model = export_decoder(decoder, SIDE, DecoderOptions(WeightStorage.float16, Precision.float16, Ops.fused))
    comparison = compare_decoder(model, decoder, LRS, Precision.float16)
    assert comparison.psnr > 58 and 0 < comparison.differing_bytes < 0.1
    session = DecoderSession(model)
    assert session.quantizes and session.fused
    steps = session.decode(LRS[:1]).astype(int) - session.decode(LRS)[:1]
    assert np.abs(steps).max() <= 1 and (steps != 0).mean() < 0.01  # halves at another batch size


def test_forms_that_do_not_exist() -> None:
    for options, message in (
        ((None, Precision.float32, Ops.fused, Pixels.float32), "takes and gives uint8"),
        ((WeightStorage.float16, Precision.float32, Ops.fused), "leave --storage out"),
        ((WeightStorage.compact, Precision.float16, Ops.fused), "--storage out"),
        ((None, Precision.float16), "has fused operators; export it with --ops fused"),
    ):
        with pytest.raises(ExportError, match=message):
            DecoderOptions(*options)
    assert DecoderOptions(ops=Ops.fused).pixel_type is Pixels.uint8
    assert DecoderOptions().pixel_type is Pixels.float32
    assert DecoderOptions(precision=Precision.float16, ops=Ops.fused).stored is WeightStorage.float16
