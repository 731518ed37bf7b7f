"""The split of parameters between optimizers, learning rates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from codec_contract.errors import EdgegrainError
from edgegrain.training.distributed import Distributed
from edgegrain.training.muon import ConvolutionMuon
from edgegrain.training.optimizers import ADAM_BETAS, annealed, descend, is_matrix, optimizers


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 3, groups=12), nn.Conv2d(12, 8, 3), nn.Conv2d(8, 3, 1))


def test_only_dense_kernels_away_from_rgb_are_matrices():
    weights = [parameter for parameter in network().parameters() if parameter.ndim == 4]
    assert [is_matrix(weight) for weight in weights] == [False, False, True, False]


def test_every_parameter_has_one_optimizer():
    parameters = list(network().parameters())
    adamw, muon = optimizers(parameters, 1e-3, 3.0)
    assert isinstance(muon, ConvolutionMuon)
    assert [group["lr"] for group in muon.param_groups] == [3e-3]
    assert sum(len(group["params"]) for group in adamw.param_groups) == len(parameters) - 1
    assert [type(optimizer) for optimizer in optimizers(parameters, 1e-3, 0.0)] == [torch.optim.AdamW]


def test_without_weight_decay_adamw_is_adam() -> None:
    parameter, twin = (torch.nn.Parameter(torch.full((3,), 2.0)) for _ in range(2))
    (optimizer,) = optimizers([parameter], 0.1, muon=0, weight_decay=0)
    adam = torch.optim.Adam([twin], 0.1, betas=ADAM_BETAS)
    for step in range(3):
        parameter.grad = twin.grad = torch.arange(3.0) + step
        optimizer.step()
        adam.step()
    torch.testing.assert_close(parameter, twin)


def test_rates_rise_hold_and_fall() -> None:
    rates = [annealed(1e-3, progress, step, warm_up=10, hold=0.5) for progress, step in (
        (0.0, 0), (0.5, 9), (0.75, 99), (1.0, 99))]
    assert rates == pytest.approx([1e-4, 1e-3, 1e-3 * (0.01 + 0.99 / 2), 1e-5])
    assert annealed(1e-3, 0.999, 99, warm_up=1, hold=1.0) == annealed(1e-3, 0, 0, warm_up=0, hold=1.0) == 1e-3


@pytest.mark.parametrize(("clip", "expected"), [(0.0, -9.0), (2.0, -1.0), (20.0, -9.0)])
def test_gradients_are_clipped_at_a_norm_above_0(clip: float, expected: float) -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([{"params": [weight], "factor": 1.0}])
    stepped = descend((10 * weight).sum(), [weight], [optimizer], 1.0, Distributed(torch.device("cpu")), clip=clip)
    assert stepped and float(weight) == pytest.approx(expected, abs=1e-4)


def test_a_step_without_a_loss_is_refused() -> None:
    with pytest.raises(EdgegrainError, match="no loss is active in this step.*begins=0, adversarial.ratio=0"):
        descend(torch.tensor(0.0), [], [], 1e-3, Distributed(torch.device("cpu")))
