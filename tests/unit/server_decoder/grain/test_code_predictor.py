"""Codes from the features of their resolution: scales, pairs, sharing, and the paper's size."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from server_decoder.grain.code_predictor import CodePredictor, CodesConfig, resolution_of_codes
from server_decoder.mobile_stylegan import MOBILE_STYLEGAN_256, MOBILE_STYLEGAN_1024, MobileStyleGANConfig
from server_decoder.stylegan2.networks import CONFIG_F_1024, StyleGAN2Config

TINY = CodesConfig(widths=6, branch=(6, 8, 10))  # base 8
CODES = (4, 8, 8, 16, 16, 32, 32)
SIZES = {8: 6, 16: 6, 32: 6}


def features(sizes: Mapping[int, int] = SIZES, batch: int = 2) -> list[Tensor]:
    return [torch.randn(batch, channels, size, size) for size, channels in sizes.items()]


def influence(predictor: CodePredictor, code: int) -> list[bool]:
    """Mask of the scales whose features a code depends on, coarse to fine."""
    inputs = [x.requires_grad_() for x in features()]
    gradients = torch.autograd.grad(predictor(inputs)[:, code].square().sum(), inputs, allow_unused=True)
    return [gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients]


@pytest.mark.parametrize(("config", "pairs"), [(CONFIG_F_1024, 9), (MOBILE_STYLEGAN_1024, 8)])
def test_pairs_of_codes(config: StyleGAN2Config | MobileStyleGANConfig, pairs: int) -> None:
    """The paper's nine pairs of StyleGAN2; MobileStyleGAN's where it has two codes per resolution."""
    assert resolution_of_codes(config.code_resolutions) == tuple(4 * 2**pair for pair in range(pairs) for _ in range(2))
    cut = MOBILE_STYLEGAN_256.code_resolutions
    assert resolution_of_codes(cut) == cut == (4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256)


@pytest.mark.parametrize("lr", [16, 128])
def test_every_code_of_the_paper_has_a_scale(lr: int) -> None:
    sizes = {size: 64 for size in (16, 32, 64, 128, 256, 512, 1024) if size >= lr}
    with torch.device("meta"):
        predictor = CodePredictor(CodesConfig(), sizes, CONFIG_F_1024.code_resolutions)
    assert predictor.scale_of_code == tuple(max(lr, 4 * 2**pair) for pair in range(9) for _ in range(2))


def test_a_code_sees_its_scale_and_the_finer_ones() -> None:
    predictor = CodePredictor(TINY, SIZES, CODES, code_width=12)
    assert predictor.scale_of_code == (8, 8, 8, 16, 16, 32, 32)
    assert influence(predictor, 0) == [True, True, True]
    assert influence(predictor, 3) == [False, True, True]
    assert influence(predictor, 6) == [False, False, True]
    coarsest = CodePredictor(replace(TINY, source="coarsest"), SIZES, CODES, code_width=12)
    assert influence(coarsest, 0) == influence(coarsest, 6) == [True, False, False]


def test_other_widths_are_adapted_and_branches_shared() -> None:
    sizes = {8: 20, 16: 12, 32: 6}
    config = CodesConfig(widths=(10, 8, 6), branch=(6, 8, 10), branch_per="resolution")
    predictor = CodePredictor(config, sizes, CODES, code_width=12)
    assert predictor(features(sizes)).shape == (2, 7, 12)
    assert len(predictor.branches) == 4 and len(predictor.codes) == 7
    # Codes 1 and 2 (8x8) are two linear maps of one vector, code 3 (16x16) is not.
    predictor.codes[1].load_state_dict(predictor.codes[2].state_dict())
    predictor.codes[3].load_state_dict(predictor.codes[2].state_dict())
    codes = predictor(features(sizes))
    torch.testing.assert_close(codes[:, 1], codes[:, 2], atol=1e-6, rtol=1e-4)  # two copies of one linear map
    assert (codes[:, 2] - codes[:, 3]).abs().max() > 1e-3
    assert predictor.scales["32"].adapt is None and predictor.scales["8"].adapt is not None


def test_a_scale_that_no_code_uses_has_no_layers_to_spare() -> None:
    """MobileStyleGAN at 1024 has no code at 1024: every parameter still takes part."""
    predictor = CodePredictor(TINY, SIZES, (4, 8, 8, 16, 16), code_width=12)
    predictor(features()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in predictor.parameters())


def test_new_codes_lie_near_the_mean() -> None:
    spread = float(CodePredictor(TINY, SIZES, CODES, code_width=64)(features(batch=8)).detach().std())
    assert 0.02 < spread < 0.5


def test_offsets_come_from_the_features_of_their_place() -> None:
    config = CodesConfig(widths=8, branch=(8, 8, 8, 8), offsets=(8, 16))
    predictor = CodePredictor(config, {16: 6, 32: 5}, (4, 8, 16), 4, {4: 3, 8: 3, 16: 2})
    inputs = features({16: 6, 32: 5})
    assert all((offset == 0).all() for offset in predictor.predict_offsets(inputs).values())
    for convolution in predictor.offsets.values():
        torch.nn.init.normal_(convolution.weight)
    offsets = predictor.predict_offsets(inputs)
    assert {side: tuple(offset.shape) for side, offset in offsets.items()} == {8: (2, 3, 8, 8), 16: (2, 2, 16, 16)}
    inputs[0][:, :, 12, 4] += 1
    moved = predictor.predict_offsets(inputs)
    changed = ((moved[16] - offsets[16]).abs() > 1e-5).any(1)[0].nonzero()
    assert changed.min(0).values.tolist() == [11, 3] and changed.max(0).values.tolist() == [13, 5]
    changed = ((moved[8] - offsets[8]).abs() > 1e-5).any(1)[0].nonzero()
    assert changed.min(0).values.tolist() == [5, 1] and changed.max(0).values.tolist() == [7, 3]
    with pytest.raises(ValueError, match="no offset is possible at 64x64"):
        CodePredictor(replace(config, offsets=(64,)), {16: 6, 32: 5}, (4, 8, 16), 4, {64: 3})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CodePredictor(CodesConfig(), {8: 64, 16: 64}, CODES), "start at 16x16"),
        (lambda: CodePredictor(CodesConfig(widths=(8, 8, 8), branch=(8, 8, 8)), {8: 64, 16: 64}, CODES), "2 scales"),
        (lambda: CodesConfig(source="finest"), "finest"),
        (lambda: CodesConfig(branch_per="pixel"), "pixel"),
    ],
)
def test_impossible_configurations_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
