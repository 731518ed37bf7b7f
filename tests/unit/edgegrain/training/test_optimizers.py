"""AdamW, Muon and what surrounds their steps."""

import pytest
import torch
from torch import nn

from codec_contract.errors import EdgegrainError
from edgegrain.training import optimizers as module
from edgegrain.training.distributed import Distributed
from edgegrain.training.optimizers import ADAM_BETAS, ConvolutionMuon, annealed, descend, optimizers, orthogonalized


def test_every_parameter_has_one_optimizer():
    layers = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 3, groups=12), nn.Conv2d(12, 8, 3), nn.Conv2d(8, 3, 1)
    parameters = list(nn.Sequential(*layers).parameters())
    adamw, muon = optimizers(parameters, 1e-3, 3.0)
    assert isinstance(muon, ConvolutionMuon)
    assert [group["lr"] for group in muon.param_groups] == [3e-3]
    assert muon.param_groups[0]["params"] == [parameters[4]]  # the only dense kernel away from RGB
    assert sum(len(group["params"]) for group in adamw.param_groups) == len(parameters) - 1
    (alone,) = optimizers(parameters, 0.1, muon=0, weight_decay=0)
    (group,) = alone.param_groups
    assert type(alone) is torch.optim.AdamW and len(group["params"]) == len(parameters)
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.1, ADAM_BETAS, 0)


def test_rates_rise_hold_and_fall() -> None:
    at = (0.0, 0), (0.5, 9), (0.75, 99), (1.0, 99)
    rates = [annealed(1e-3, progress, step, warm_up=10, hold=0.5) for progress, step in at]
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


def gradients(*shape: int, count: int = 1) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(sum(shape))
    return [torch.randn(shape, generator=random) for _ in range(count)]


@pytest.fixture(params=[True, False], ids=["bfloat16", "float32"])
def bfloat16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(module, "has_bfloat16", lambda device: request.param)
    return bool(request.param)


def test_matrices_step_like_those_of_torch(bfloat16: bool) -> None:
    shapes = (8, 24), (24, 8), (8, 24)
    weights, twins = ([nn.Parameter(torch.zeros(shape)) for shape in shapes] for _ in range(2))
    ours = ConvolutionMuon(weights, lr=0.1)
    reference = torch.optim.Muon(twins, lr=0.1, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        for index, (weight, twin) in enumerate(zip(weights, twins, strict=True)):
            weight.grad = twin.grad = gradients(*weight.shape, count=9)[3 * index + step]
        ours.step()
        reference.step()
    for weight, twin in zip(weights, twins, strict=True):
        assert twin.abs().max() > 0.05
        torch.testing.assert_close(weight, twin, atol=4e-3, rtol=0)  # torch computes in bfloat16


def test_float32_is_exact_where_bfloat16_is_emulated(bfloat16: bool) -> None:
    (matrix,) = gradients(6, 30)
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    a, b, c = module.COEFFICIENTS
    for _ in range(module.ITERATIONS):
        s = a * s + b * s**3 + c * s**5  # the iteration acts on the singular values alone
    error = (orthogonalized(matrix[None])[0] - u @ torch.diag(s) @ v).abs().max()
    assert error > 1e-3 if bfloat16 else error < 1e-5


def test_channels_last_parameters_step_like_contiguous_ones_and_those_without_a_gradient_stay() -> None:
    (gradient,) = gradients(8, 12, 3, 3)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(torch.ones(8, 12, 3, 3).to(memory_format=layout))
        optimizer = ConvolutionMuon([weight, still := nn.Parameter(torch.ones(8, 8))], lr=0.1)
        for _ in range(2):
            weight.grad = gradient.clone()  # contiguous either way
            optimizer.step()
        assert weight.is_contiguous(memory_format=layout)
        assert torch.equal(still.detach(), torch.ones(8, 8))  # it has no gradient
        results.append(weight.detach())
    assert not torch.equal(results[0], torch.ones(8, 12, 3, 3))
    torch.testing.assert_close(results[0], results[1], atol=2e-3, rtol=0)  # it may compute in bfloat16
