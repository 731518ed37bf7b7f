"""Fusion: the paper's size, squeeze and excitation, and a beginning that changes nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F

from server_decoder.grain.fusion import FeatureFusion, FusionConfig, PictureFusion, SqueezeExcitation

TINY = FusionConfig(sizes=(4, 8, 16), widths=(8, 6, 4), head=(5,), reduction=4)
INV, GEN = {4: 6, 8: 5, 16: 3}, {4: 12, 8: 10, 16: 8}


def inputs(batch: int = 2) -> tuple[list[torch.Tensor], dict[int, torch.Tensor]]:
    return ([torch.randn(batch, channels, size, size) for size, channels in INV.items()],
            {size: torch.randn(batch, channels, size, size) for size, channels in GEN.items()})


def opened(fusion: FeatureFusion | PictureFusion) -> FeatureFusion | PictureFusion:
    torch.nn.init.normal_(fusion.to_rgb.weight, std=0.1)
    return fusion


def test_the_papers_fusion_has_the_official_number_of_parameters() -> None:
    def conv(a: int, b: int) -> int:
        return 9 * a * b + b

    scales = sum(conv(a, b) + conv(b, b) + 2 * a * (a // 16) for a, b in ((192, 128), (128, 64), (96, 32)))
    head = conv(224, 128) + conv(128, 128) + conv(128, 64) + conv(64, 64) + conv(64, 3) + 2 * 224 * 14
    with torch.device("meta"):
        fusion = FeatureFusion(FusionConfig(), {256: 64, 512: 64, 1024: 64}, {256: 128, 512: 64, 1024: 32})
    assert sum(p.numel() for p in fusion.parameters()) == scales + head == 1_048_835


def test_a_new_fusion_adds_nothing() -> None:
    torch.manual_seed(0)
    f_inv, f_gen = inputs()
    assert not FeatureFusion(TINY, INV, GEN)(f_inv, f_gen).any()
    picture = torch.randn(2, 3, 16, 16)
    assert not PictureFusion(TINY)(picture, picture).any()


def test_but_its_last_convolution_learns_at_once() -> None:
    torch.manual_seed(1)
    fusion = FeatureFusion(TINY, INV, GEN)
    (fusion(*inputs()) - 1).square().sum().backward()
    assert fusion.to_rgb.weight.grad is not None and fusion.to_rgb.weight.grad.abs().sum() > 0


def test_squeeze_and_excitation_is_its_definition() -> None:
    torch.manual_seed(2)
    attention = SqueezeExcitation(8, 4)
    x = torch.randn(2, 8, 5, 5)
    means = x.mean((2, 3))
    weights = torch.sigmoid(F.relu(means @ attention.squeeze.weight[:, :, 0, 0].T)
                            @ attention.excite.weight[:, :, 0, 0].T)
    torch.testing.assert_close(attention(x), x * weights[:, :, None, None])


def test_every_feature_reaches_the_picture() -> None:
    torch.manual_seed(3)
    fusion = opened(FeatureFusion(TINY, INV, GEN))
    f_inv, f_gen = inputs()
    leaves = [x.requires_grad_() for x in (*f_inv, *f_gen.values())]
    y = fusion(f_inv, f_gen)
    assert y.shape == (2, 3, 16, 16)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(y.square().sum(), leaves))


def test_scales_that_are_not_fused_are_passed_over() -> None:
    torch.manual_seed(4)
    config = replace(TINY, sizes=(8, 16), widths=(6, 4))
    f_inv, f_gen = inputs()
    fusion = opened(FeatureFusion(config, INV, GEN))
    changed = [f_inv[0] + 1, *f_inv[1:]]
    torch.testing.assert_close(fusion(f_inv, f_gen), fusion(changed, f_gen), atol=1e-5, rtol=1e-4)  # computed twice


def test_a_prior_without_features_at_full_size() -> None:
    """MobileStyleGAN at 1024: the finest f_inv passes alone."""
    torch.manual_seed(5)
    gen = {size: channels for size, channels in GEN.items() if size < 16}
    fusion = opened(FeatureFusion(TINY, INV, gen))
    f_inv, f_gen = inputs()
    y = fusion(f_inv, {size: f_gen[size] for size in gen})
    assert y.shape == (2, 3, 16, 16)
    assert fusion.scales[-1].convs[0].in_channels == INV[16]


def test_projection_narrows_what_comes_from_the_prior() -> None:
    fusion = opened(FeatureFusion(replace(TINY, project=(4, 3, 2)), INV, GEN))
    assert [scale.convs[0].in_channels for scale in fusion.scales] == [10, 8, 5]
    assert fusion(*inputs()).shape == (2, 3, 16, 16)


def test_impossible_configurations_are_refused() -> None:
    with pytest.raises(ValueError, match="double"):
        FusionConfig(sizes=(4, 16), widths=(8, 8))
    with pytest.raises(ValueError, match="as many widths"):
        FusionConfig(sizes=(4, 8), widths=(8, 8, 8))
    with pytest.raises(ValueError, match="as many widths"):
        FusionConfig(project=(8,))
    with pytest.raises(ValueError, match="words"):
        FusionConfig(kind="words")
    with pytest.raises(ValueError, match=r"\[16\]"):
        FeatureFusion(TINY, {4: 6, 8: 5}, GEN)


def test_configurations_survive_json() -> None:
    for config in (FusionConfig(), replace(TINY, kind="pictures", project=(1, 2, 3))):
        assert FusionConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
