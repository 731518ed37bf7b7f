"""GLEAN: the authors' size, a bank that stays frozen, and features that really pass through it."""

import pytest
import torch

from codec_contract.errors import ModelError
from edgegrain.papers.glean.network import GLEAN, FeatureFusion, GLEANConfig
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import PriorConfig
from server_decoder.grain.rrdb_decoder import Scale
from server_decoder.mobile_stylegan import MobileStyleGANConfig
from server_decoder.stylegan2.networks import StyleGAN2Config

STYLEGAN2 = PriorConfig("stylegan2", StyleGAN2Config(32, 256, 16, 12, 2))
MOBILE = PriorConfig("mobile-stylegan", MobileStyleGANConfig(64, "wavelet", 256, 16, code_width=12, mapping_layers=2))
SCALES = (Scale(16, 10, residual=1), Scale(32, 6))
"""From LRs of 8x8 to `STYLEGAN2`'s 32x32."""


def tiny(prior: PriorConfig, **changes: object) -> GLEANConfig:
    return GLEANConfig(prior, lr=8, rrdb=1, width=8, growth=4, head=8, widest=12, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bank", "scales"), [(STYLEGAN2, ()), (STYLEGAN2, SCALES), (MOBILE, ()), (MOBILE, (*SCALES, Scale(64, 5)))]
)
def test_the_bank_is_frozen_and_everything_else_learns(bank: PriorConfig, scales: tuple[Scale, ...]) -> None:
    model = GLEAN(tiny(bank, scales=scales)).train()
    assert not model.prior.training
    for module in model.modules():  # the bank's features reach the picture
        if isinstance(module, FeatureFusion):
            torch.nn.init.normal_(module.conv.weight)
    picture = model(torch.rand(2, 3, 8, 8))
    assert picture.shape == (2, 3, bank.size, bank.size)
    picture.square().mean().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("prior."):
            assert parameter.grad is None and not parameter.requires_grad, name
        else:
            assert parameter.grad is not None and bool((parameter.grad != 0).any()), name


def test_a_new_model_leaves_the_bank_as_it_was() -> None:
    model = GLEAN(tiny(STYLEGAN2, around_mean=True)).eval()
    with torch.no_grad():
        model.to_codes[-1].weight.zero_()
        seen: dict[int, torch.Tensor] = {}
        hook = model.prior.register_forward_hook(lambda *arguments: seen.update(arguments[2].features))
        model(torch.rand(1, 3, 8, 8))
        hook.remove()
        plain = model.prior(model.prior.broadcast(model.prior.mean_code[None])).features
    for side, features in plain.items():
        torch.testing.assert_close(seen[side], features)


def test_the_banks_features_join_the_decoders_scales() -> None:
    """A new decoder's picture does not depend on the bank; it does once the fusion of one scale reads it."""
    model = GLEAN(tiny(STYLEGAN2, scales=SCALES)).eval()
    lr = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        before = model(lr)
        model.to_codes[-1].bias.normal_(std=3.0)
        assert torch.equal(model(lr), before)
        model.up[0].fusion.conv.weight[:, SCALES[0].channels :] = 0.1
        assert (model(lr) - before).abs().max() > 1e-3


def test_scales_begin_at_twice_the_lr_and_end_at_the_banks_size() -> None:
    with pytest.raises(ValueError, match=r"the decoder's scales are \[16, 32\], got \[16\]"):
        tiny(STYLEGAN2, scales=SCALES[:1])
    with pytest.raises(ValueError, match=r"the decoder's scales are \[16, 32, 64\], got \[16, 32\]"):
        tiny(MOBILE, scales=SCALES)


def test_a_given_bank_is_used_and_must_fit() -> None:
    prior: GenerativePrior = STYLEGAN2.build()
    assert GLEAN(tiny(STYLEGAN2), prior).prior is prior
    with pytest.raises(ModelError, match="must make pictures of 64x64, this one makes 32x32"):
        GLEAN(tiny(MOBILE), prior)
    with pytest.raises(ValueError, match="must be smaller"):
        GLEANConfig(STYLEGAN2, lr=32)
