"""Muon's steps: orthogonal, torch's own on matrices, in float32 where bfloat16 is emulated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgegrain.training import muon
from edgegrain.training.muon import ConvolutionMuon, orthogonalized


def gradients(*shape: int, count: int = 1) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(sum(shape))
    return [torch.randn(shape, generator=random) for _ in range(count)]


@pytest.fixture(params=[True, False], ids=["bfloat16", "float32"])
def bfloat16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(muon, "has_bfloat16", lambda device: request.param)
    return bool(request.param)


def test_a_step_is_an_orthogonal_matrix_of_adamws_size(bfloat16: bool) -> None:
    weight = nn.Parameter(torch.zeros(8, 12, 3, 3))
    (weight.grad,) = gradients(8, 12, 3, 3)
    ConvolutionMuon([weight], lr=0.1).step()
    values = torch.linalg.svdvals(weight.detach().flatten(1))
    # lr * 0.2 * sqrt(longer side); five Newton-Schulz steps leave the singular values between about 0.7 and 1.2.
    ideal = 0.1 * 0.2 * (12 * 9) ** 0.5
    assert values.min() > 0.6 * ideal
    assert values.max() < 1.3 * ideal


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
    a, b, c = muon.COEFFICIENTS
    for _ in range(muon.ITERATIONS):
        s = a * s + b * s**3 + c * s**5  # the iteration acts on the singular values alone
    error = (orthogonalized(matrix[None])[0] - u @ torch.diag(s) @ v).abs().max()
    assert error > 1e-3 if bfloat16 else error < 1e-5


def test_channels_last_parameters_step_like_contiguous_ones() -> None:
    (gradient,) = gradients(8, 12, 3, 3)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(torch.ones(8, 12, 3, 3).to(memory_format=layout))
        optimizer = ConvolutionMuon([weight], lr=0.1)
        for _ in range(2):
            weight.grad = gradient.clone()  # contiguous either way
            optimizer.step()
        assert weight.is_contiguous(memory_format=layout)
        results.append(weight.detach())
    assert not torch.equal(results[0], torch.ones(8, 12, 3, 3))
    torch.testing.assert_close(results[0], results[1], atol=2e-3, rtol=0)  # it may compute in bfloat16


def test_parameters_without_a_gradient_stay() -> None:
    weight = nn.Parameter(torch.ones(8, 8))
    ConvolutionMuon([weight], lr=0.1).step()
    assert torch.equal(weight.detach(), torch.ones(8, 8))
