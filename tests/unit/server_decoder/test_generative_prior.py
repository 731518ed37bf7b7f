"""The hash of a generator: the same on every CPU, another for other weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from server_decoder.generative_prior import GenerativePrior, prior_digest
from server_decoder.mobile_stylegan import MobileStyleGAN, MobileStyleGANConfig
from server_decoder.stylegan2.networks import TINY_64, StyleGAN2

TINY = MobileStyleGANConfig(size=64, channel_base=256, channel_max=16, code_width=24, mapping_layers=2)
PRIORS = {
    "stylegan2": lambda: StyleGAN2(TINY_64), "mobile-stylegan": lambda: MobileStyleGAN(TINY),
    "mobile-stylegan-cut": lambda: MobileStyleGAN(replace(TINY, head="rgb"))}


@pytest.fixture(params=PRIORS)
def prior(request: pytest.FixtureRequest) -> GenerativePrior:
    torch.manual_seed(0)
    return PRIORS[request.param]().eval().requires_grad_(False)


def test_hash_leaves_out_what_is_measured(prior: GenerativePrior) -> None:
    before, state = prior_digest(prior), prior.state_dict()
    cut = isinstance(prior, MobileStyleGAN) and prior.config.head == "rgb"
    assert prior.measured == {"mean_code"} | ({"head.weight", "head.bias"} if cut else set())
    for name in prior.measured:
        state[name].add_(1e-6)
    assert prior_digest(prior) == before


def test_hash_covers_everything_else(prior: GenerativePrior) -> None:
    before = prior_digest(prior)
    for name, tensor in prior.state_dict().items():
        if name in prior.measured:
            continue
        kept = tensor.clone()
        tensor.add_(1e-3)
        assert prior_digest(prior) != before, name
        tensor.copy_(kept)
    assert prior_digest(prior) == before
