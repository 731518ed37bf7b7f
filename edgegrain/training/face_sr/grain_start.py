"""A GLEAN that begins with the picture of GRAIN's invertible decoder."""

from __future__ import annotations

import torch

from codec_contract.errors import ModelError
from server_decoder.face_sr.glean import GLEAN
from server_decoder.grain.rrdb_decoder import RRDBDecoder


@torch.no_grad()
def begin_with_grain(network: GLEAN, decoder: RRDBDecoder) -> None:
    """Give RRDBs, scales and RGB head the weights of ``decoder``; the bank begins without effect on the picture.

    Args:
        network: new, with `GLEANConfig.scales`. It may have fewer blocks; the last ones of ``decoder`` are left out.
        decoder: of the same sizes and widths.

    Raises:
        ModelError: ``network`` has the paper's decoder, or ``decoder`` other sizes, widths or fewer blocks.
    """
    wanted = [name for name in network.state_dict() if name.startswith(("features.", "up.", "to_rgb."))
              and ".fusion." not in name]
    given = {_name_in_glean(name): tensor for name, tensor in decoder.state_dict().items()}
    own = network.state_dict()
    unfit = [name for name in wanted if name not in given or given[name].shape != own[name].shape]
    if not network.config.scales or network.config.lr != decoder.config.lr or unfit:
        raise ModelError(f"GLEAN begins with a GRAIN decoder of the same sizes and widths, the one given has "
                         f"{decoder.config.scales}, GLEAN {network.config}")
    for name in wanted:
        own[name].copy_(given[name])


def _name_in_glean(name: str) -> str:
    part, *rest = name.split(".")
    if part == "conv_first":
        return f"features.{name}"
    if part == "head":
        return ".".join(("to_rgb", *rest))
    index = int(rest[0])
    if part == "upsamples":
        return ".".join(("up", str(index), "upsample", *rest[1:]))
    if index == 0:
        return ".".join(("features", {"blocks": "body", "conv": "conv_body"}[rest[1]], *rest[2:]))
    return ".".join(("up", str(index - 1), "scale", *rest[1:]))
