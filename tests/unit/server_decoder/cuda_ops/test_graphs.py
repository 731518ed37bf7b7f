"""Decoders with fused ops: equal to plain ones, in torch and as graphs; typed refusals where the library is missing."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from codec_contract.errors import BundleError, DeviceError, ExportError, ModelError
from export.decoder.command import export_decoder
from export.decoder.comparison import compare_decoder
from export.decoder.decoder_graph import decoder_graph, load_parameters
from export.decoder.decoder_options import DecoderOptions, Ops, Pixels, Precision, WeightStorage
from server_decoder.cuda_ops import fused_ops, library, reference
from server_decoder.cuda_ops.half import CLAMP, normalized_filters, normalized_style
from server_decoder.decoder_session import DecoderSession
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.inference import fused_prior, served_decoder
from server_decoder.mobile_stylegan.generator import MobileStyleGAN, MobileStyleGANConfig
from server_decoder.stylegan2.synthesis import StyleGAN2, StyleGAN2Config
from tests.tiny_bundle import HR, LR, repeating_decoder
from tests.tiny_grain import TINY, TINY_MOBILE, tiny_grain

STYLEGAN2 = StyleGAN2Config(8, channel_base=64, channel_max=12, code_width=16, mapping_layers=2)
MOBILE = {head: MobileStyleGANConfig(16, head, 128, 16, code_width=16, mapping_layers=2) for head in ("rgb", "wavelet")}


@torch.no_grad()
def random_prior(kind: str) -> GenerativePrior:
    """Biases and noise strengths are not zero."""
    torch.manual_seed(3)
    prior = StyleGAN2(STYLEGAN2) if kind == "stylegan2" else MobileStyleGAN(MOBILE[kind])
    for parameter in prior.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return prior.eval()


def random_codes(prior: GenerativePrior, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(2, prior.code_count, prior.code_width, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("kind", ["stylegan2", "rgb", "wavelet"])
def test_fused_priors_compute_the_same(kind: str) -> None:
    prior = random_prior(kind)
    fused = fused_prior(prior)
    assert list(fused.state_dict()) == list(prior.state_dict())
    codes = random_codes(prior)
    noise = [torch.randn(2, 1, *buffer.shape[2:]) for name, buffer in prior.named_buffers() if name.endswith("noise")]
    offsets = {side: torch.randn(2, prior.feature_channels[side], side, side) for side in (4, 8)}
    with torch.no_grad():
        for given, shifts in ((None, None), (noise, None), (None, offsets)):
            expected, found = prior(codes, given, shifts), fused(codes, given, shifts)
            torch.testing.assert_close(found.picture, expected.picture, atol=1e-5, rtol=1e-5)
            assert list(found.features) == list(expected.features)
            for resolution, feature in expected.features.items():
                torch.testing.assert_close(found.features[resolution], feature, atol=1e-5, rtol=1e-5)
    with pytest.raises(ModelError, match="noise inputs"):
        fused(codes, noise[:1])


def test_the_torch_ops_are_the_definitions() -> None:
    random = np.random.default_rng(1)
    x, bands = random.standard_normal((2, 8, 9, 9)), random.standard_normal((2, 8, 5, 4))
    gains, style, bias = random.standard_normal((2, 8)), random.standard_normal((2, 8)), random.standard_normal(8)
    tail = [torch.from_numpy(part) for part in (gains, random.standard_normal((1, 1, 8, 8)), bias, style)]
    found = fused_ops.filtered_bias_act(torch.from_numpy(x), *tail, gain=2**0.5, clamp=2.0)
    wanted = reference.filtered_bias_act(x, *tail, filter_gain=4, pad=(1, 1, 1, 1), gain=2**0.5, clamp=2.0)
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-12)
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-12)
    found = fused_ops.demod_bias_act(torch.from_numpy(x[:, :, :8, :8]), *tail[:3])
    np.testing.assert_allclose(found[0], reference.demod_bias_act(x[:, :, :8, :8], *tail[:3])[0], atol=1e-12)
    assert found[0] is found[1]
    np.testing.assert_allclose(fused_ops.upsample(torch.from_numpy(x)),
                               reference.upfirdn2d(x, filter_gain=4, up=2, pad=(2, 1, 2, 1)), atol=1e-12)
    np.testing.assert_allclose(fused_ops.inverse_haar(torch.from_numpy(bands), tail[3], scale=0.5),
                               reference.inverse_haar(bands, style, scale=0.5), atol=1e-12)


class Picture(torch.nn.Module):
    """A prior's picture, of codes that are the LR's own values. (In a Grain only the features count.)"""

    def __init__(self, prior: GenerativePrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, lr: Tensor) -> Tensor:
        codes = lr.reshape(lr.shape[0], -1)[:, : self.prior.code_count * self.prior.code_width]
        return self.prior(codes.reshape(-1, self.prior.code_count, self.prior.code_width)).picture


def lr_side(prior: GenerativePrior) -> int:
    """Side of an LR with enough values for a `Picture`'s codes."""
    return math.ceil(math.sqrt(prior.code_count * prior.code_width / 3))


def ops_of(model: onnx.ModelProto) -> dict[str, int]:
    """Custom nodes, by name and number of outputs."""
    return Counter(f"{node.op_type}/{len(node.output)}" for node in model.graph.node if node.domain == library.DOMAIN)


def run(model: onnx.ModelProto, lr: Tensor, options: onnxruntime.SessionOptions) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"lr": lr.numpy()})[0]


@pytest.mark.parametrize(
    ("kind", "nodes"),
    # A layer's activation is written where something reads it without the next style: toRGB, or as a feature.
    [("stylegan2", {"DemodBiasAct/2": 1, "DemodBiasAct/1": 1, "FilteredBiasAct/1": 1, "UpFirDn2d/1": 1}),
     ("wavelet", {"DemodBiasAct/1": 3, "InverseHaar/1": 2})])
def test_graphs_equal_the_plain_modules(kind: str, nodes: dict[str, int], ops_library: Path) -> None:
    prior = random_prior(kind)
    side = lr_side(prior)
    fused = decoder_graph(Picture(fused_prior(prior)), side)
    assert ops_of(fused) == nodes
    with_ops = onnxruntime.SessionOptions()
    library.register_library(with_ops, path=ops_library)
    for batch in (1, 3):
        lr = torch.randn(batch, 3, side, side)
        with torch.no_grad():
            expected = Picture(prior)(lr).numpy()
        assert np.abs(run(fused, lr, with_ops) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["stylegan2", "wavelet"])
def test_float16_stays_close_and_finite(kind: str, ops_library: Path) -> None:
    prior = random_prior(kind)
    side = lr_side(prior)
    model = decoder_graph(Picture(fused_prior(prior, torch.float16)), side)
    options = onnxruntime.SessionOptions()
    library.register_library(options, path=ops_library)
    lr = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = Picture(prior)(lr).numpy()
    error = run(model, lr, options) - expected
    assert 10 * np.log10(4 / np.square(error).mean()) > 55  # dB
    extreme = run(model, 6 * lr, options)  # codes of 6 sigma
    assert np.isfinite(extreme).all() and extreme.std() > 0


def test_convolutions_in_float16_cannot_overflow() -> None:
    # The largest activations, style and filters that the form admits: 512 channels, 3x3 taps, all of one sign.
    weight, norm = normalized_filters(torch.full((1, 512, 3, 3), 1e4))
    style, peak = normalized_style(torch.full((1, 512), 1e4))
    assert norm.item() == pytest.approx(1e4 * 4608**0.5) and peak.item() == 1e4
    x = (torch.full((1, 512, 3, 3), CLAMP) * style[:, :, None, None]).half()
    largest = torch.nn.functional.conv2d(x.float(), weight.half().float()).half()
    assert largest.item() == pytest.approx(CLAMP * 4608**0.5, rel=1e-3)
    # A style and filters of zeros stay zeros.
    assert not normalized_style(torch.zeros(1, 4))[0].any() and not normalized_filters(torch.zeros(2, 1, 3, 3))[0].any()


SIDE = TINY.decoder.lr


@pytest.fixture(scope="module")
def exported() -> tuple[Grain, bytes]:
    """A decoder with its weights rounded, and its graph of fused ops."""
    decoder = tiny_grain()
    return decoder, export_decoder(served_decoder(decoder, fused=True), SIDE, WeightStorage.float16)


@pytest.fixture
def built(ops_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is where sessions look for it."""
    monkeypatch.setattr(library, "BUILT", ops_library.parent)


def test_a_whole_decoder_equals_torch(exported: tuple[Grain, bytes], built: None) -> None:
    decoder, model = exported
    lrs = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    comparison = compare_decoder(model, decoder, lrs)
    assert comparison.largest_difference < 1e-5 and comparison.differing_bytes < 0.01
    # Features are read at 8 and 16.
    nodes = ops_of(onnx.load_model_from_string(model))
    assert nodes == {"DemodBiasAct/1": 2, "DemodBiasAct/2": 1, "FilteredBiasAct/1": 2}


@pytest.mark.skipif("CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
                    reason="needs a GPU and onnxruntime-gpu")
def test_cuda_decodes_like_the_cpu(exported: tuple[Grain, bytes], built: None, ops_library: Path) -> None:
    if not library.has_cuda_kernels(ops_library):
        pytest.skip("the library of fused ops was built without nvcc")
    lrs = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    steps = DecoderSession(exported[1], "cuda").decode(lrs).astype(int) - DecoderSession(exported[1]).decode(lrs)
    assert np.abs(steps).max() <= 1


def test_weights_come_back_from_a_fused_graph(exported: tuple[Grain, bytes]) -> None:
    decoder, fused = exported
    loaded = Grain(decoder.config).eval()
    load_parameters(loaded, onnx.load_model_from_string(fused))
    x = torch.rand(1, 3, SIDE, SIDE) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), decoder(x), atol=1e-5, rtol=1e-4)  # two builds: other rounding


def test_without_the_library_the_error_says_what_to_do(
        exported: tuple[Grain, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "BUILT", tmp_path)
    monkeypatch.setattr(library, "PACKAGE", "edgegrain_no_such_package")
    decoder, fused = exported
    path = tmp_path / "decoder.onnx"
    path.write_bytes(fused)
    for model in (fused, path):
        with pytest.raises(DeviceError, match="make ops"):
            DecoderSession(model)
    with pytest.raises(DeviceError, match="make ops"):
        compare_decoder(fused, decoder, np.zeros((1, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(DeviceError, match="make ops"):
        library.find_library(tmp_path / "absent.so")
    lr = np.zeros((1, LR, LR, 3), np.uint8)
    assert DecoderSession(repeating_decoder()).decode(lr).shape == (1, HR, HR, 3)  # the process stays usable
    assert not library.needs_library(tmp_path / "absent.onnx")


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "libedgegrain_ops.so"
    wrong.write_bytes(b"not a library")
    with pytest.raises(DeviceError, match="cannot be used as the library"):
        library.register_library(onnxruntime.SessionOptions(), path=wrong)


def test_a_library_without_cuda_is_refused_for_cuda(ops_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "has_cuda_kernels", lambda path: False)
    with pytest.raises(DeviceError, match="without nvcc"):
        library.register_library(onnxruntime.SessionOptions(), "cuda", ops_library)
    monkeypatch.setattr(library, "has_cuda_kernels", lambda path: True)
    assert library.register_library(onnxruntime.SessionOptions(), "cuda", ops_library) == ops_library


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


# -- channels-last ops and pictures of uint8, as they are served --------------------------------------------------


def export(decoder: Grain | RRDBDecoder, precision: Precision, *, seeded: bool = False) -> bytes:
    served = served_decoder(decoder, getattr(torch, precision.value), fused=True, seeded=seeded)
    return export_decoder(served, SIDE, WeightStorage.float16, ops=Ops.fused, pixels=Pixels.uint8)


def some_lrs(batch: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3), np.uint8)


def test_a_decoder_in_float32(built: None) -> None:
    decoder = tiny_grain()
    model = export(decoder, Precision.float32)
    comparison = compare_decoder(model, decoder, some_lrs())
    assert comparison.differing_bytes < 0.01 and comparison.largest_difference <= 1 / 127.5
    # Rounded weights that are only ordered differently are stored as halves.
    graph = onnx.load_model_from_string(model).graph
    assert onnx.TensorProto.FLOAT16 in {
        tensor.data_type for tensor in graph.initializer if np.prod(tensor.dims) >= 4096}
    assert len([node for node in graph.node if node.op_type == "FusedConv"]) == 29


def test_a_decoder_in_float16_with_seeded_noise(built: None) -> None:
    decoder = tiny_grain(TINY_MOBILE)
    model = export(decoder, Precision.float16, seeded=True)
    comparison = compare_decoder(model, decoder, some_lrs(), Precision.float16)
    assert comparison.psnr > 58 and 0 < comparison.differing_bytes < 0.1
    session = DecoderSession(model)
    assert session.quantizes and session.fused and session.takes_seed
    first = session.decode(some_lrs(), seed=1)
    assert (session.decode(some_lrs(), seed=2) != first).mean() > 0.05
    steps = session.decode(some_lrs()[:1], seed=1).astype(int) - first[:1]
    assert np.abs(steps).max() <= 1 and (steps != 0).mean() < 0.01  # halves at another batch size


def test_a_decoder_without_generator(built: None) -> None:
    decoder = tiny_grain().decoder
    comparison = compare_decoder(export(decoder, Precision.float32), decoder, some_lrs())
    assert comparison.differing_bytes < 0.01


def test_forms_that_do_not_exist() -> None:
    decoder = tiny_grain().decoder
    with pytest.raises(ExportError, match="takes and gives uint8"):
        export_decoder(decoder, SIDE, ops=Ops.fused, pixels=Pixels.float32)
    with pytest.raises(ExportError, match="--storage float16"):
        export_decoder(decoder, SIDE, WeightStorage.compact, ops=Ops.fused, pixels=Pixels.uint8)
    assert DecoderOptions(ops=Ops.fused).pixel_type is Pixels.uint8
    assert DecoderOptions(ops=Ops.fused, pixels=Pixels.float32).pixel_type is Pixels.float32
    assert DecoderOptions().pixel_type is Pixels.float32


@pytest.mark.parametrize("storage", [WeightStorage.float32, WeightStorage.compact])
def test_halves_are_stored_as_halves(storage: WeightStorage) -> None:
    with pytest.raises(ExportError, match=f"not as {storage}; leave --storage out"):
        DecoderOptions(storage, Precision.float16)
    assert DecoderOptions(precision=Precision.float16).stored is WeightStorage.float16
