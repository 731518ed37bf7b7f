"""The transformer of the coder's limit: its distribution adds up to 1, it is causal, and it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.quality import coder_limit
from benchmarks.quality.coder_limit import LRTransformer, Shape, mean_bits, mixture_bits, report, train

SMALL = Shape(width=16, layers=1, heads=2, components=2, dropout=0.0)


@torch.no_grad()
def test_probabilities_of_all_levels_add_up_to_one() -> None:
    torch.manual_seed(0)
    parameters = 2 * torch.randn(5, 3 * 4)
    values = torch.arange(256.0) / 127.5 - 1
    bits = mixture_bits(parameters[:, None].expand(5, 256, 12), values.expand(5, 256))
    torch.testing.assert_close((-bits).exp2().sum(1), torch.ones(5), atol=1e-3, rtol=0)


@torch.no_grad()
def test_a_pixel_does_not_see_itself_or_later_ones() -> None:
    torch.manual_seed(0)
    model = LRTransformer(4, SMALL).eval()
    levels = torch.randint(0, 256, (1, 16, 3)).float()
    changed = levels.clone()
    changed[:, 9:] = 255 - changed[:, 9:]
    seen: list[torch.Tensor] = []
    model.layers.register_forward_hook(lambda module, arguments, output: seen.append(output))
    model(levels), model(changed)
    torch.testing.assert_close(seen[0][:, :10], seen[1][:, :10])
    assert (seen[0][:, 10:] - seen[1][:, 10:]).abs().max() > 1e-3


@torch.no_grad()
def test_no_later_sample_changes_the_bits_of_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = LRTransformer(4, SMALL).eval()
    levels = torch.randint(120, 136, (1, 16, 3)).float()  # near each other, or all bits are those of the floor
    changed = levels.clone()
    changed[:, 9, 1:] = 255 - changed[:, 9, 1:]  # green and blue of a pixel, and all pixels after it
    changed[:, 10:] = 255 - changed[:, 10:]
    found: list[torch.Tensor] = []
    monkeypatch.setattr(coder_limit, "mixture_bits", lambda *given: found.append(mixture_bits(*given)) or found[-1])
    model(levels), model(changed)
    for red, green in zip(found[:2], found[3:5], strict=True):
        torch.testing.assert_close(red[:, :9], green[:, :9])
    torch.testing.assert_close(found[0][:, 9], found[3][:, 9])
    assert not torch.equal(found[1][:, 9], found[4][:, 9])


def test_it_learns_what_the_lrs_have_in_common() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (1, 4, 4, 1))
    lrs = np.clip(base + rng.integers(-3, 4, (100, 4, 4, 3)), 0, 255).astype(np.uint8)
    torch.manual_seed(0)
    before = mean_bits(LRTransformer(4, SMALL), lrs)
    assert mean_bits(train(lrs, steps=400, batch=8, shape=SMALL), lrs) < 0.8 * before


def test_the_report_names_what_is_left() -> None:
    assert report(350.0, 315.0) == {"coder_bytes": 350.0, "transformer_bytes": 315.0, "left": 0.1}
