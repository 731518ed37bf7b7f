"""RGB heads are the least-squares solution."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from server_decoder.mobile_stylegan import fit_rgb_heads
from tests.unit.server_decoder.test_mobile_stylegan import random_prior


def test_fitted_heads_are_the_least_squares_solution() -> None:
    prior = random_prior()
    heads = fit_rgb_heads(prior, (8, 32), pictures=6, seed=3)
    rng = np.random.default_rng(3)
    residuals, columns = ({8: [], 32: []} for _ in range(2))
    for _ in range(6):
        z = torch.from_numpy(rng.standard_normal((1, 24), dtype=np.float32))
        codes = prior.truncate(prior.broadcast(prior.map(z)), float(rng.uniform(0.5, 1)))
        picture, features = prior(codes)
        for size, head in heads.items():
            residuals[size].append(head(features[size]) - F.interpolate(picture, size=(size, size), mode="area"))
            columns[size].append(features[size])
    for size in heads:
        error, feature = torch.cat(residuals[size]).flatten(2), torch.cat(columns[size]).flatten(2)
        correlation = torch.einsum("ncp,nkp->kc", feature, error) / (feature.norm() * error.norm())
        assert correlation.abs().max() < 1e-3 and error.mean((0, 2)).abs().max() < 1e-4  # nothing linear is left
