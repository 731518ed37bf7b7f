"""Keys' kernel of bicubic resampling."""

from __future__ import annotations

import numpy as np

from codec_contract.resize import cubic


def test_the_kernel_interpolates() -> None:
    assert cubic(np.array([0.0, 1.0, -1.0, 2.0, 3.0])).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    x = np.linspace(0, 1, 11)
    np.testing.assert_allclose(sum(cubic(x + shift) for shift in (-2, -1, 0, 1)), np.ones(11))
