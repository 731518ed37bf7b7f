"""Filters of fused convolutions against torch's convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from export.decoder.convolution_weights import filters, transposed_filters
from server_decoder.cuda_ops.reference import fused_conv, to_nchw, to_nhwc


@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (3, 0), (4, 1)])
def test_transposed_convolutions_in_phases(kernel: int, padding: int) -> None:
    torch.manual_seed(kernel)
    x, weight = torch.randn(2, 5, 4, 6, dtype=torch.float64), torch.randn(5, 3, kernel, kernel, dtype=torch.float64)
    expected = F.conv_transpose2d(x, weight, stride=2, padding=padding).numpy()
    found = transposed_filters(weight.numpy(), (padding,) * 4)
    assert found is not None
    y, _ = fused_conv(to_nhwc(x.numpy()), found[0], **found[1])
    np.testing.assert_allclose(to_nchw(y), expected, atol=1e-12)


def test_other_transposed_convolutions_have_no_phases() -> None:
    assert transposed_filters(np.zeros((2, 2, 3, 3)), (1, 1, 1, 1)) is None
    assert transposed_filters(np.zeros((2, 2, 5, 5)), (0, 0, 0, 0)) is None


def test_filters_of_convolutions() -> None:
    torch.manual_seed(1)
    x, weight = torch.randn(1, 3, 5, 4, dtype=torch.float64), torch.randn(8, 3, 3, 2, dtype=torch.float64)
    expected = F.conv2d(x, weight, padding=1, stride=2).numpy()
    y, _ = fused_conv(to_nhwc(x.numpy()), filters(weight.numpy()), pads=(1, 1, 1, 1), stride=2)
    np.testing.assert_allclose(to_nchw(y), expected, atol=1e-12)
    expected = F.conv2d(x, weight[:3, :1], groups=3).numpy()
    y, _ = fused_conv(to_nhwc(x.numpy()), filters(weight[:3, :1].numpy()), depthwise=True)
    np.testing.assert_allclose(to_nchw(y), expected, atol=1e-12)
