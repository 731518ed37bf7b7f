"""Fusion: the paper's size, squeeze and excitation, and a beginning that changes nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from server_decoder.grain import fusion as module
from server_decoder.grain.fusion import BicubicEnlargement, FeatureFusion, FusionConfig, PictureFusion

TINY = FusionConfig(sizes=(4, 8, 16), widths=(8, 6, 4), head=(5,), reduction=4)
INV, GEN = {4: 6, 8: 5, 16: 3}, {4: 12, 8: 10, 16: 8}


def inputs() -> tuple[list[torch.Tensor], dict[int, torch.Tensor]]:
    f_inv, f_gen = ({size: torch.randn(2, count, size, size) for size, count in of.items()} for of in (INV, GEN))
    return list(f_inv.values()), f_gen


def opened(fusion: FeatureFusion | PictureFusion) -> FeatureFusion | PictureFusion:
    torch.nn.init.normal_(fusion.to_rgb.weight, std=0.1)
    return fusion


def test_a_new_fusion_adds_nothing_but_its_last_convolution_learns_at_once() -> None:
    fusion, picture = FeatureFusion(TINY, INV, GEN), torch.randn(2, 3, 16, 16)
    added = fusion(*inputs())
    assert not added.any() and not PictureFusion(TINY)(picture, picture).any()
    (added - 1).square().sum().backward()
    assert fusion.to_rgb.weight.grad is not None and fusion.to_rgb.weight.grad.abs().sum() > 0


def test_scales_that_are_not_fused_are_passed_over_and_the_prior_s_part_is_narrowed() -> None:
    f_inv, f_gen = inputs()
    fusion = opened(FeatureFusion(replace(TINY, sizes=(8, 16), widths=(6, 4), project=(3, 2)), INV, GEN))
    assert [scale.convs[0].in_channels for scale in fusion.scales] == [8, 5]  # projection narrows the prior's part
    changed = [f_inv[0] + 1, *f_inv[1:]]
    torch.testing.assert_close(fusion(f_inv, f_gen), fusion(changed, f_gen), atol=1e-5, rtol=1e-4)  # computed twice


def test_a_prior_without_features_at_full_size() -> None:
    """MobileStyleGAN at 1024: the finest f_inv passes alone."""
    gen = {size: channels for size, channels in GEN.items() if size < 16}
    fusion = opened(FeatureFusion(TINY, INV, gen))
    f_inv, f_gen = inputs()
    y = fusion(f_inv, {size: f_gen[size] for size in gen})
    assert y.shape == (2, 3, 16, 16)
    assert fusion.scales[-1].convs[0].in_channels == INV[16]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FusionConfig(sizes=(4, 16), widths=(8, 8)), "double"),
        (lambda: FusionConfig(sizes=(4, 8), widths=(8, 8, 8)), "as many widths"),
        (lambda: FusionConfig(project=(8,)), "as many widths"),
        (lambda: FusionConfig(kind="words"), "words"),
        (lambda: FusionConfig(base="lr"), "unknown base of the fusion 'lr'"),
        (lambda: FeatureFusion(TINY, {4: 6, 8: 5}, GEN), r"\[16\]"),
    ],
)
def test_impossible_configurations_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_bicubic_enlargement_is_pillows_away_from_the_edge() -> None:
    """At the edge Pillow drops the taps outside and scales up the others."""
    picture = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    ours = BicubicEnlargement(8, 32)(torch.from_numpy(picture)[None, None])[0, 0].numpy()
    theirs = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(ours[8:24, 8:24], theirs[8:24, 8:24], atol=1e-5)
    np.testing.assert_allclose(module.enlargement_matrix(5, 12).sum(1), 1)
