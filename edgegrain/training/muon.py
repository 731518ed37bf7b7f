"""Muon for convolution kernels and linear weights (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

`torch.optim.Muon` takes matrices only and orthogonalizes in bfloat16 on every device. A CPU that emulates bfloat16 then
needs 11.8 s instead of 0.3 s to update GRAIN's code predictor (4.3 M parameters, two threads of an AMD EPYC with AVX2);
the rest of a training step takes 4 s there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from edgegrain.training.device import has_bfloat16

MOMENTUM = 0.95
COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Coefficients of the quintic Newton-Schulz iteration, the steepest at zero (Jordan et al. 2024)."""
ITERATIONS = 5
_SMALLEST_NORM = 1e-7


class ConvolutionMuon(torch.optim.Optimizer):
    """Nesterov momentum whose matrix is orthogonalized before it is applied; ``[out, in, height, width]`` kernels are
    matrices ``[out, in * height * width]``.

    Steps are scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982, section 2.2). Parameters without a
    gradient do not change.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # gradients come from outside
        """Apply the parameters' gradients."""
        for group in self.param_groups:
            alike: defaultdict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._momentum(parameter).flatten(1)
                    alike[update.shape].append((parameter, update))
            for (rows, columns), found in alike.items():
                size = group["lr"] * 0.2 * math.sqrt(max(rows, columns))
                matrices = orthogonalized(torch.stack([update for _, update in found]))
                for (parameter, _), matrix in zip(found, matrices, strict=True):
                    parameter.sub_(matrix.view(parameter.shape), alpha=size)

    def _momentum(self, parameter: Tensor) -> Tensor:
        """Nesterov's update of a parameter."""
        gradient, state = parameter.grad, self.state[parameter]
        if gradient is None:
            raise ValueError("the parameter has no gradient")
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(state["momentum"], MOMENTUM)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the singular vectors of ``[N, rows, columns]``, by Newton-Schulz iterations, in
    bfloat16 where the device computes in it, else in float32. Singular values of the result are about 0.7 to 1.2.
    """
    a, b, c = COEFFICIENTS
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x.to(torch.bfloat16 if has_bfloat16(matrices.device) else torch.float32)
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(_SMALLEST_NORM)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)
