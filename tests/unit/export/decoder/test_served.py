"""The exported form of decoders: equal to the modules it stands for, in float16 close to them and free of overflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from codec_contract.errors import ExportError
from codec_contract.pixels import network_input
from edge_encoder.integer_network import run_reference
from export.decoder import DecoderOptions, Precision
from export.decoder.export import compare_decoder, export_decoder, find_decoder, random_decoder
from export.decoder.served import CLAMP, activated, normalized_filters, normalized_style, served_decoder
from server_decoder.cuda_ops import library
from server_decoder.grain.fusion import channel_means
from server_decoder.grain.grain import Grain
from tests.tiny_grain import TINY, tiny_grain

KINDS = ["grain-smoke", "grain-smoke-mobile"]
PRODUCTS = {torch.ops.aten.convolution, torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm}


class HalvesInFloat32(TorchDispatchMode):
    """Convolutions and matrix products of halves sum in float32 and round their result to a half, as on GPUs.

    torch's own CPU kernels for halves give the same up to the order of the sums, and take tens of times as long.
    """

    def __torch_dispatch__(
            self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        half = [isinstance(item, Tensor) and item.dtype == torch.float16 for item in args]
        if func.overloadpacket not in PRODUCTS or not any(half):
            return func(*args, **(kwargs or {}))
        wide = [item.float() if narrow else item for item, narrow in zip(args, half, strict=True)]
        return func(*wide, **(kwargs or {})).half()  # operands of one product have one type


def lr_values(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1


def psnr(found: Tensor, expected: Tensor) -> float:
    return float(10 * torch.log10(4 / (found - expected).square().mean()))


@pytest.fixture(scope="module", params=KINDS)
def decoder(request: pytest.FixtureRequest) -> Grain:
    return random_decoder(request.param).decoder


def test_channel_means_of_halves_do_not_overflow() -> None:
    x = torch.full((1, 2, 64, 64), 250.0)  # their sum is 16 times the largest half
    x[:, 1, ::2] = -250
    torch.testing.assert_close(channel_means(x.half()), channel_means(x))
    assert channel_means(x.half())[0, :, 0, 0].tolist() == [250, 0]
    torch.testing.assert_close(channel_means(x[:, :, :8, :8].half()), channel_means(x[:, :, :8, :8]))


@torch.no_grad()
def test_the_form_computes_the_same(decoder: Grain) -> None:
    served = served_decoder(decoder)
    expected, found = decoder(lr_values()), served(lr_values())
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert list(served.state_dict()) == list(decoder.state_dict())
    assert all(tensor.data_ptr() == served.state_dict()[name].data_ptr()
               for name, tensor in decoder.state_dict().items())


@torch.no_grad()
def test_halves_stay_close(decoder: Grain) -> None:
    served = served_decoder(decoder, half=True)
    found = served.forward_all(lr_values())
    assert {found.final.dtype, found.style.dtype, found.codes.dtype, found.invertible.dtype} == {torch.float32}
    assert {feature.dtype for feature in [*found.f_inv, *found.f_gen.values()]} == {torch.float16}
    expected = decoder.forward_all(lr_values())
    for name in ("final", "style", "invertible"):
        assert psnr(getattr(found, name), getattr(expected, name)) > 60
    assert decoder.decoder.conv_first.weight.dtype == torch.float32  # the original is as it was


@torch.no_grad()
def test_halves_do_not_overflow_at_six_sigma(decoder: Grain) -> None:
    served = served_decoder(decoder, half=True)
    generator = torch.Generator().manual_seed(3)
    served.prior.mean_code = 6 * torch.randn(served.prior.code_width, generator=generator)
    found = served.forward_all(lr_values())
    for tensor in [found.final, found.style, *found.f_gen.values()]:
        assert tensor.isfinite().all() and tensor.std() > 0
    largest = max(feature.abs().max().item() for feature in found.f_gen.values())
    assert largest < CLAMP + 4  # offsets come on top


def test_a_graph_with_halves_and_ops_of_onnx() -> None:
    decoder, lr = tiny_grain(), TINY.decoder.lr
    lrs = np.random.default_rng(0).integers(0, 256, (3, lr, lr, 3), np.uint8)
    plain = export_decoder(decoder, lr, DecoderOptions(precision=Precision.float16))
    assert not library.needs_library(plain) and len(plain) < 4 * sum(p.numel() for p in decoder.parameters())
    result = compare_decoder(plain, decoder, lrs, Precision.float16)
    assert result.psnr > 75 and result.largest_difference > 1e-5  # close, and not in float32
    with pytest.raises(ExportError, match="differs from torch by"):
        compare_decoder(plain, decoder, lrs)


@torch.no_grad()
def test_halves_on_real_lrs_and_on_those_that_no_encoder_makes(default_bundle: Path, portrait: np.ndarray) -> None:
    source = find_decoder(default_bundle)
    real = torch.from_numpy(network_input(run_reference(source.network, portrait[None])))
    x = torch.cat([real, lr_values(1).sign()])
    expected = source.decoder(x)
    with HalvesInFloat32():
        found = served_decoder(source.decoder, half=True)(x)
    assert found.isfinite().all()
    assert psnr(found[0], expected[0]) >= 50 and psnr(found[1], expected[1]) > 40


def test_activations_of_trained_codes_are_not_cut_in_float16() -> None:
    largest = torch.full((1, 1, 1, 1), 461.0)  # of zoo/faces-256-lr16-small-grain
    plain, _ = activated(largest.half(), torch.ones(1, 1), torch.zeros(1, 1, 1, 1), None, None)
    assert plain.item() == pytest.approx(461, rel=1e-3)


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
