"""Codes from the features of their resolution: scales, pairs, sharing, and the paper's size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from server_decoder.grain.code_predictor import CodePredictor, CodesConfig, resolution_of_codes
from server_decoder.mobile_stylegan import MOBILE_STYLEGAN_256, MOBILE_STYLEGAN_1024, MobileStyleGANConfig
from server_decoder.stylegan2.networks import CONFIG_F_1024, StyleGAN2Config

TINY = CodesConfig(widths=6, branch=(6, 8, 10))  # base 8
CODES = (4, 8, 8, 16, 16, 32, 32)


def features(sizes: dict[int, int], batch: int = 2) -> list[Tensor]:
    return [torch.randn(batch, channels, size, size) for size, channels in sizes.items()]


def influence(predictor: CodePredictor, inputs: list[Tensor], code: int) -> list[bool]:
    """Mask of the scales whose features a code depends on, coarse to fine."""
    inputs = [x.requires_grad_() for x in inputs]
    gradients = torch.autograd.grad(predictor(inputs)[:, code].square().sum(), inputs, allow_unused=True)
    return [gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients]


@pytest.mark.parametrize(("config", "pairs"), [(CONFIG_F_1024, 9), (MOBILE_STYLEGAN_1024, 8)])
def test_pairs_of_codes(config: StyleGAN2Config | MobileStyleGANConfig, pairs: int) -> None:
    """The paper's nine pairs of StyleGAN2; MobileStyleGAN's where it has two codes per resolution."""
    assert resolution_of_codes(config.code_resolutions) == tuple(4 * 2**pair for pair in range(pairs) for _ in range(2))
    assert resolution_of_codes(MOBILE_STYLEGAN_256.code_resolutions) == (
        4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256)


@pytest.mark.parametrize("lr", [16, 32, 64, 128])
def test_every_lr_size_gives_all_codes(lr: int) -> None:
    sizes = {size: 64 for size in (16, 32, 64, 128, 256, 512, 1024) if size >= lr}
    with torch.device("meta"):
        predictor = CodePredictor(CodesConfig(), sizes, CONFIG_F_1024.code_resolutions)
    codes = predictor([torch.empty(2, 64, size, size, device="meta") for size in sizes])
    assert codes.shape == (2, 18, 512)
    assert predictor.scale_of_code == tuple(max(lr, 4 * 2**pair) for pair in range(9) for _ in range(2))


def test_a_code_sees_its_scale_and_the_finer_ones() -> None:
    torch.manual_seed(0)
    sizes = {8: 6, 16: 6, 32: 6}
    predictor = CodePredictor(TINY, sizes, CODES, code_width=12)
    assert predictor.scale_of_code == (8, 8, 8, 16, 16, 32, 32)
    assert influence(predictor, features(sizes), 0) == [True, True, True]
    assert influence(predictor, features(sizes), 3) == [False, True, True]
    assert influence(predictor, features(sizes), 6) == [False, False, True]


def test_from_the_coarsest_scale_alone() -> None:
    torch.manual_seed(1)
    sizes = {8: 6, 16: 6, 32: 6}
    predictor = CodePredictor(CodesConfig(widths=6, branch=(6, 8, 10), source="coarsest"), sizes, CODES, code_width=12)
    for code in range(7):
        assert influence(predictor, features(sizes), code) == [True, False, False]


def test_joining_is_addition_after_one_halving() -> None:
    torch.manual_seed(2)
    predictor = CodePredictor(TINY, {8: 6, 16: 6}, (4, 8, 16), code_width=12)
    coarse, fine = features({8: 6, 16: 6})
    halved = torch.nn.functional.leaky_relu(predictor.scales["16"].halve[0](fine), 0.2)
    joined = predictor.codes[0](predictor.branches[0](coarse + halved))
    own = predictor.codes[2](predictor.branches[2](halved))
    codes = predictor([coarse, fine])
    torch.testing.assert_close(codes[:, 0], joined)
    torch.testing.assert_close(codes[:, 2], own)


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
    sizes = {8: 6, 16: 6, 32: 6}
    predictor = CodePredictor(TINY, sizes, (4, 8, 8, 16, 16), code_width=12)
    predictor(features(sizes)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in predictor.parameters())


def test_new_codes_lie_near_the_mean() -> None:
    torch.manual_seed(3)
    sizes = {8: 6, 16: 6, 32: 6}
    spread = float(CodePredictor(TINY, sizes, CODES, code_width=64)(features(sizes, 8)).detach().std())
    assert 0.02 < spread < 0.5


def test_offsets_come_from_the_features_of_their_place() -> None:
    torch.manual_seed(3)
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


@pytest.mark.parametrize(("make", "message"), [
    (lambda: CodePredictor(CodesConfig(), {8: 64, 16: 64}, CODES), "start at 16x16"),
    (lambda: CodePredictor(CodesConfig(widths=(8, 8, 8), branch=(8, 8, 8)), {8: 64, 16: 64}, CODES), "2 scales"),
    (lambda: CodesConfig(source="finest"), "finest"), (lambda: CodesConfig(branch_per="pixel"), "pixel")])
def test_impossible_configurations_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
