"""IRN's networks on uint8 pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from codec_contract.errors import ImageError, ModelError
from server_decoder.irn.color import IRNColor, IRNColorConfig
from server_decoder.irn.jpeg_restorer import JPEGRestorer, JPEGRestorerConfig
from server_decoder.irn.network import IRN, IRNConfig
from server_decoder.irn.pictures import colorize, decolorize, downscale, restore_lr, upscale

PICTURE = np.random.default_rng(1).integers(0, 256, (6, 10, 3), np.uint8)
COLOR = IRNColor(IRNColorConfig(blocks=1, growth=4)).eval()
RESCALER = IRN(IRNConfig(blocks=(1,), growth=4)).eval()
RESTORER = JPEGRestorer(JPEGRestorerConfig(4, 2, 1)).eval()


def test_a_new_networks_grey_picture_is_the_rounded_luminance() -> None:
    grey = decolorize(COLOR, PICTURE)
    assert grey.dtype == np.uint8 and grey.shape == (6, 10)
    np.testing.assert_allclose(grey, PICTURE @ [0.299, 0.587, 0.114], atol=0.501)
    # its couplings are the identity, so without chrominance the colours are grey
    np.testing.assert_allclose(colorize(COLOR, grey), np.repeat(grey[..., None], 3, 2), atol=1)


def test_a_new_network_downscales_by_the_mean() -> None:
    lr = downscale(RESCALER, PICTURE)
    assert lr.dtype == np.uint8 and lr.shape == (3, 5, 3)
    np.testing.assert_allclose(lr, PICTURE.reshape(3, 2, 5, 2, 3).mean((1, 3)), atol=0.501)
    np.testing.assert_array_equal(upscale(RESCALER, lr), lr.repeat(2, 0).repeat(2, 1))


def test_a_seed_draws_the_same_z_again() -> None:
    lr = PICTURE[:3, :5]
    once = upscale(RESCALER, lr, seed=3)
    assert (once != upscale(RESCALER, lr)).any() and (once != upscale(RESCALER, lr, seed=4)).any()
    np.testing.assert_array_equal(once, upscale(RESCALER, lr, seed=3))


@torch.no_grad()
def test_the_restorer_takes_and_gives_levels() -> None:
    restored = restore_lr(RESTORER, PICTURE)
    values = RESTORER(torch.from_numpy(PICTURE / np.float32(255)).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    assert restored.dtype == np.uint8 and restored.std() > 0
    np.testing.assert_allclose(restored, (values * 255).clamp(0, 255), atol=0.501)


@pytest.mark.parametrize(("call", "network", "picture"), [
    (decolorize, COLOR, PICTURE[..., 0]), (decolorize, COLOR, PICTURE / 255), (colorize, COLOR, PICTURE),
    (downscale, RESCALER, PICTURE[:0]), (restore_lr, RESTORER, PICTURE[None]), (upscale, RESCALER, PICTURE[..., :2]),
])
def test_other_arrays_are_refused(call: Callable[[Any, Any], Any], network: Any, picture: Any) -> None:
    with pytest.raises(ImageError, match=r"expected a picture, uint8 \[H, W"):
        call(network, picture)


def test_sides_that_do_not_fit_the_factor_are_refused() -> None:
    with pytest.raises(ModelError, match="multiples of 2"):
        downscale(RESCALER, PICTURE[:5])
