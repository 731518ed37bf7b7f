"""The optimizers of a run: AdamW, and Muon for the weights that are matrices.

Stage 1 reached the same LPIPS with Muon after half the pictures that AdamW alone needed. Biases, depthwise kernels and
the convolutions from or to RGB are trained with AdamW.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError
from edgegrain.training.distributed import Distributed, has_bfloat16

MOMENTUM = 0.95
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the quintic Newton-Schulz iteration, the steepest at zero (Jordan 2024)
ITERATIONS = 5


class ConvolutionMuon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): Nesterov momentum whose matrix is
    orthogonalized before it is applied; ``[out, in, height, width]`` kernels are matrices of ``out`` rows.

    `torch.optim.Muon` takes matrices only and orthogonalizes in bfloat16 on every device: where a CPU emulates it,
    GRAIN's code predictor takes 11.8 s instead of 0.3 s, the rest of a training step 4 s. Steps are scaled to the size
    of AdamW's (Liu et al. 2025, arXiv 2502.16982, section 2.2).
    """

    def __init__(self, parameters: Iterable[Any], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # gradients come from outside
        """Apply the parameters' gradients."""
        for group in self.param_groups:
            alike: defaultdict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                    momentum.lerp_(parameter.grad, 1 - MOMENTUM)
                    update = parameter.grad.lerp(momentum, MOMENTUM).flatten(1)
                    alike[update.shape].append((parameter, update))
            for (rows, columns), found in alike.items():
                size = group["lr"] * 0.2 * math.sqrt(max(rows, columns))
                matrices = orthogonalized(torch.stack([update for _, update in found]))
                for (parameter, _), matrix in zip(found, matrices, strict=True):
                    parameter.sub_(matrix.view(parameter.shape), alpha=size)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the singular vectors of ``[N, rows, columns]``, by Newton-Schulz iterations, in
    bfloat16 where the device computes in it; their singular values are about 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x.to(torch.bfloat16 if has_bfloat16(matrices.device) else torch.float32)
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


ADAM_BETAS = (0.9, 0.99)
WEIGHT_DECAY = 1e-4


def optimizers(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    muon: float,
    weight_decay: float = WEIGHT_DECAY,
    *,
    betas: tuple[float, float] = ADAM_BETAS,
    adam: type[torch.optim.Adam] = torch.optim.AdamW,
) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for matrices at ``muon`` times the learning rate and AdamW for the rest; `descend` takes both."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in parameters:  # dense kernels and linear weights with no RGB on either side are matrices
        dense = parameter.ndim in (2, 4) and min(parameter.shape[:2]) >= 5
        (matrices if muon and dense else others).append(parameter)
    result: list[torch.optim.Optimizer] = []
    if others:
        group = {"params": others, "factor": 1.0}
        result.append(adam([group], lr=learning_rate, betas=betas, weight_decay=weight_decay))
    if matrices:
        result.append(ConvolutionMuon([{"params": matrices, "factor": muon}], lr=learning_rate * muon))
    return result


def descend(
    loss: Tensor,
    parameters: list[nn.Parameter],
    optimizers: Iterable[torch.optim.Optimizer],
    learning_rate: float,
    distributed: Distributed,
    clip: float = 0.0,
) -> bool:
    """Step on a loss's gradients, averaged over all processes and clipped to a norm above 0; False, without a step that
    would destroy the weights, if they are not finite. Each group of ``parameters`` has a factor on the rate."""
    if not loss.requires_grad:
        raise EdgegrainError(
            "no loss is active in this step: give one a weight above 0, or let the adversarial loss alone begin at "
            "once (adversarial.begins=0, adversarial.ratio=0)"
        )
    for parameter in parameters:
        parameter.grad = None
    loss.backward()
    distributed.average_gradients(parameters)
    if not nn.utils.clip_grad_norm_(parameters, clip or math.inf).isfinite():
        return False
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group["factor"]
        optimizer.step()
    return True


@torch.no_grad()
def update_averages(averages: Sequence[Tensor], parameters: Sequence[Tensor], decay: float) -> None:
    """Move averaged weights towards the trained ones by ``1 - decay`` of the difference."""
    torch._foreach_lerp_([*averages], [*parameters], 1 - decay)


def annealed(learning_rate: float, progress: float, step: int, *, warm_up: int, hold: float) -> float:
    """Warm-up over the first steps of a session, a constant part up to ``hold`` of the run's progress, 0...1, and a
    cosine to one hundredth."""
    warm = min(1.0, (step + 1) / max(warm_up, 1))
    if progress <= hold:
        return learning_rate * warm
    phase = min(1.0, (progress - hold) / (1 - hold))
    return learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase)))
