"""The choice of a picture's textures: for each cell the one whose picture LPIPS finds nearest to the original."""

from __future__ import annotations

import numpy as np
import torch

from codec_contract.quantization import dequantize
from codec_contract.rgb import Rgb
from codec_contract.texture_map import TextureMap
from edgegrain.metrics.lpips import LPIPS
from edgegrain.training.levels import picture_levels
from server_decoder.super_resolution.textures import TEXTURES, textured


@torch.no_grad()
def choose_textures(enlarged: Rgb, original: Rgb, factor: int, side: int, lpips: LPIPS) -> TextureMap:
    """The textures of ``side`` × ``side`` cells.

    Every texture is tried on the whole picture, so that a cell is judged without its neighbours' textures.

    Args:
        enlarged: the restored picture, uint8 ``[S, S, 3]``, enlarged by ``factor``.
        original: of the same size.
        factor, side: of the map.
        lpips: the distance, on its device.
    """
    def features(picture: Rgb) -> list[torch.Tensor]:
        return lpips.features(dequantize(picture_levels(picture, lpips.shift.device)))

    wanted = features(original)
    distances = [lpips.cell_distances(features(textured(enlarged, TextureMap(factor, (number,)))), wanted, side)
                 for number in range(len(TEXTURES))]
    return TextureMap(factor, tuple(np.argmin([each[0].flatten().tolist() for each in distances], 0).tolist()))
