"""IRN, IRN-Color and IRN-Compression on whole pictures: uint8 RGB ``[H, W, 3]`` or grey ``[H, W]``, in and out.

    grey = decolorize(network, picture)                picture = colorize(network, grey)
    lr = downscale(irn, picture)                       picture = upscale(irn, lr)
                                                       picture = upscale(irn, restore_lr(restorer, lr from JPEG))

Networks run on the device of their weights and take the picture in one piece: about 1.2 KB of memory for a pixel of a
picture (IRN-Color), 1.6 KB (IRN) or 3 KB (the JPEG restorer) for a pixel of an LR.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from codec_contract.errors import ImageError
from codec_contract.quantization import network_input, pictures_of
from server_decoder.irn.color import IRNColor
from server_decoder.irn.jpeg_restorer import JPEGRestorer
from server_decoder.irn.network import IRN

Picture = npt.NDArray[np.uint8]


@torch.inference_mode()
def decolorize(network: IRNColor, picture: Picture) -> Picture:
    """The grey picture, uint8 ``[H, W]``, from which `colorize` makes the colours of ``picture`` again.

    It must be stored without loss: JPEG removes the patterns that carry the colours.

    Args:
        network: from `load_irn_color`.
        picture: uint8 ``[H, W, 3]`` RGB, of any size.

    Raises:
        ImageError: it is of another shape or type.
    """
    y, _ = network(_unit(picture, network))
    return _levels(y)[..., 0]


@torch.inference_mode()
def colorize(network: IRNColor, grey: Picture) -> Picture:
    """The picture, uint8 ``[H, W, 3]`` RGB, that `decolorize` made grey; z is 0, as in the authors' training.

    Args:
        network: that made the grey picture.
        grey: uint8 ``[H, W]``. One of another origin holds no colours to restore.

    Raises:
        ImageError: it is of another shape or type.
    """
    return _levels(network.inverse(_unit(grey, network, channels=())))


@torch.inference_mode()
def downscale(irn: IRN, picture: Picture) -> Picture:
    """The LR, uint8 ``[h, w, 3]`` RGB.

    Args:
        irn: from `load_irn`.
        picture: uint8 ``[H, W, 3]`` RGB, sides multiples of the factor.

    Raises:
        ImageError: it is of another shape or type.
        ModelError: a side is no multiple of the factor.
    """
    y, _ = irn(_unit(picture, irn))
    return _levels(y)


@torch.inference_mode()
def restore_lr(restorer: JPEGRestorer, lr: Picture) -> Picture:
    """An LR as it was before JPEG, as far as the network can restore it: uint8 ``[h, w, 3]`` RGB.

    Args:
        restorer: from `load_jpeg_restorer`, for files of one quality.
        lr: uint8 ``[h, w, 3]`` RGB, decoded from a JPEG file of that quality.

    Raises:
        ImageError: it is of another shape or type.
    """
    return _levels(restorer(_unit(lr, restorer)))


@torch.inference_mode()
def upscale(irn: IRN, lr: Picture, *, seed: int | None = None) -> Picture:
    """The picture, uint8 ``[H, W, 3]`` RGB, of an LR.

    Args:
        irn: that made the LR.
        lr: uint8 ``[h, w, 3]`` RGB; one that went through JPEG should be that of `restore_lr`.
        seed: of a normal z, which the authors' programs draw; None for a z of 0, the likeliest one.

    Raises:
        ImageError: it is of another shape or type.
    """
    y = _unit(lr, irn)
    if seed is None:
        z = y.new_zeros(1, irn.config.z_channels, *y.shape[2:])
    else:
        z = irn.sample_z(y, torch.Generator(y.device).manual_seed(seed))
    return _levels(irn.inverse(y, z))


def _unit(picture: Picture, network: nn.Module, channels: tuple[int, ...] = (3,)) -> Tensor:
    """float32 ``[1, C, H, W]`` in [0, 1] on the device of the network."""
    shape = picture.shape
    if picture.dtype != np.uint8 or len(shape) != 2 + len(channels) or shape[2:] != channels or 0 in shape:
        expected = ", ".join(["H", "W", *map(str, channels)])
        raise ImageError(f"expected a picture, uint8 [{expected}], got {picture.dtype} {list(shape)}")
    values = network_input(picture.reshape(1, *shape[:2], -1))
    return (torch.from_numpy(values).to(next(network.parameters()).device) + 1) / 2


def _levels(values: Tensor) -> Picture:
    """uint8 ``[H, W, C]`` of ``[1, C, H, W]`` in [0, 1]."""
    return pictures_of((values.float() * 2 - 1).cpu().numpy())[0]
