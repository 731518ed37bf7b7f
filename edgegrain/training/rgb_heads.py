"""RGB heads of a MobileStyleGAN, at which it is cut to smaller pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from server_decoder.mobile_stylegan import MobileStyleGAN

_RIDGE = 1e-6  # of the mean squared feature: keeps the weights of nearly equal channels bounded


@torch.no_grad()
def fit_rgb_heads(
    model: MobileStyleGAN, sizes: Iterable[int] | None = None, pictures: int = 32, seed: int = 0,
    report: Callable[[float], None] = lambda part: None,
) -> dict[int, nn.Conv2d]:
    """One 1x1 convolution from features to RGB per resolution (None: all from 32 on), fitted by least squares to
    ``pictures`` of the whole generator, with truncations between 0.5 and 1. ``report`` gets the progress, 0...1."""
    sizes = [size for size in model.feature_channels if size >= 32] if sizes is None else list(sizes)
    rng = np.random.default_rng(seed)
    device = model.mean_code.device
    moments: dict[int, tuple[Tensor, Tensor]] = {}
    for index in range(pictures):
        z = torch.from_numpy(rng.standard_normal((1, model.code_width), dtype=np.float32)).to(device)
        codes = model.truncate(model.broadcast(model.map(z)), float(rng.uniform(0.5, 1)))
        picture, features = model(codes)
        for size in sizes:
            x = torch.cat([features[size].flatten(2)[0], features[size].new_ones(1, size * size)])  # [C + 1, size²]
            y = F.adaptive_avg_pool2d(picture, size).flatten(2)[0]  # [3, size²]
            xx, xy = moments.get(size, (0.0, 0.0))
            moments[size] = (xx + (x @ x.T).double(), xy + (x @ y.T).double())
        report((index + 1) / pictures)
    return {size: _solve(*moments[size]) for size in sizes}


def _solve(xx: Tensor, xy: Tensor) -> nn.Conv2d:
    """``xx`` ``[C + 1, C + 1]``: second moments of features and 1; ``xy`` ``[C + 1, 3]``: those with the picture."""
    ridge = _RIDGE * xx.diagonal()[:-1].mean()
    solution = torch.linalg.solve(xx + ridge * torch.eye(len(xx), dtype=xx.dtype, device=xx.device), xy).float()
    head = nn.Conv2d(len(xx) - 1, 3, 1, device=xx.device).requires_grad_(False)
    head.weight.copy_(solution[:-1].T[:, :, None, None])
    head.bias.copy_(solution[-1])  # type: ignore[union-attr]
    return head
