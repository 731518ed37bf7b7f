"""Bicubic enlargement, equal to Pillow's on floating-point pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from server_decoder.grain.fusion import BicubicEnlargement, enlargement_matrix


@pytest.mark.parametrize(("small", "large"), [(4, 4), (4, 16), (5, 12), (16, 256)])
def test_constants_stay_and_lines_stay_straight_inside(small: int, large: int) -> None:
    matrix = enlargement_matrix(small, large)
    np.testing.assert_allclose(matrix.sum(1), 1)
    positions = (np.arange(large) + 0.5) * small / large - 0.5
    inside = (positions >= 1) & (positions <= small - 2)
    np.testing.assert_allclose((matrix @ np.arange(small))[inside], positions[inside], atol=1e-12)


def test_it_is_pillows_away_from_the_edge() -> None:
    """At the edge Pillow drops the taps outside and scales up the others."""
    rng = np.random.default_rng(0)
    picture = rng.random((8, 8)).astype(np.float32)
    ours = BicubicEnlargement(8, 32)(torch.from_numpy(picture)[None, None])[0, 0].numpy()
    theirs = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(ours[8:24, 8:24], theirs[8:24, 8:24], atol=1e-5)


def test_it_only_enlarges() -> None:
    with pytest.raises(ValueError, match="from a smaller to a larger"):
        enlargement_matrix(8, 4)
