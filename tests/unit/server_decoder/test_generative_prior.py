"""The hash of a generator: the same on every CPU, another for other weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from server_decoder.generative_prior import GenerativePrior, prior_digest
from server_decoder.mobile_stylegan import MobileStyleGAN, MobileStyleGANConfig
from server_decoder.stylegan2.networks import StyleGAN2, StyleGAN2Config

TINY = MobileStyleGANConfig(size=32, channel_base=256, channel_max=8, code_width=8, mapping_layers=2)


@torch.no_grad()
@pytest.mark.parametrize(("make", "measured"), [
    (lambda: StyleGAN2(StyleGAN2Config(16, 64, 8, code_width=8, mapping_layers=1)), {"mean_code"}),
    (lambda: MobileStyleGAN(TINY), {"mean_code"}),
    (lambda: MobileStyleGAN(replace(TINY, head="rgb")), {"mean_code", "head.weight", "head.bias"})])
def test_hash_covers_everything_but_what_is_measured(make: Callable[[], GenerativePrior], measured: set[str]) -> None:
    prior = make()
    before = prior_digest(prior)
    assert prior.measured == measured
    for name, tensor in prior.state_dict().items():
        kept = tensor.clone()
        tensor.add_(1e-3)
        assert (prior_digest(prior) == before) == (name in measured), name
        tensor.copy_(kept)
    assert prior_digest(prior) == before
