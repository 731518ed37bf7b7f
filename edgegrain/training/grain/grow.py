"""Growing trained networks.

A larger invertible decoder begins with the picture of the trained one, a decoder with fewer blocks near it, and an
encoder with more blocks with the LR of the trained one.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from codec_contract.errors import BundleError
from edge_encoder.architectures import EncoderConfig
from edge_encoder.twin import EncoderTwin
from server_decoder.grain.rrdb_decoder import RESIDUAL_SCALE, RRDB, DecoderScale, ResidualBlock, RRDBDecoder


@torch.no_grad()
def grow(decoder: RRDBDecoder, trained: RRDBDecoder) -> None:
    """Give ``decoder`` the weights of another one; what it has beyond that begins without effect on the picture.

    New blocks add zero. Of a scale with more blocks the last ones are left out, which changes the picture: a little, if
    they did little. New channels are computed from random weights, and nothing reads them yet. A sub-pixel
    convolution becomes a bilinear interpolation with the mean of its four kernels, which changes the picture a little.
    A decoder of larger LRs takes over the scales that it has; its first convolution, and so its picture, is learned
    from the beginning.
    """
    new, old = decoder.config, trained.config
    sizes, skipped = [scale.size for scale in new.scales], len(old.scales) - len(new.scales)
    if sizes != [scale.size for scale in old.scales[max(skipped, 0):]] or new.head != old.head:
        raise BundleError(f"a decoder grows from one with the same head and the scales {sizes}, got one with the head "
                          f"{list(old.head)} and the scales {[scale.size for scale in old.scales]}")
    scales = old.scales[skipped:]
    for a, b in zip(new.scales, scales, strict=True):
        if a.channels < b.channels:
            raise BundleError(f"a decoder grows from a narrower one, but the one given is wider at {b.size}x{b.size}")
        if b.rrdb + b.dense and (a.channels, a.growth, a.dense) != (b.channels, b.growth, b.dense):
            raise BundleError(f"the dense blocks at {b.size}x{b.size} have another width; only their number may grow")
        if a.rrdb != b.rrdb and b.dense + b.residual:
            raise BundleError(f"other blocks follow the RRDBs at {b.size}x{b.size}, whose number must stay the same")
    own, given = decoder.state_dict(), _finer(trained.state_dict(), skipped)
    _silence_new_blocks(decoder, set(given))
    for name, target in own.items():
        if name not in given:
            continue
        source = given[name]
        if name.startswith("upsamples.") and source.dim() == 4 and old.upsampling == "subpixel":
            source = source.transpose(0, 1)  # transposed convolutions are [in, out, ...]
            if new.upsampling == "subpixel":
                target = target.transpose(0, 1)
            else:
                source = _as_convolution(source)
        _fill(target, source)
    for index, (a, b) in enumerate(zip(new.scales, scales, strict=True)):
        if a.rrdb and b.rrdb:  # an RRDB whose dense blocks add nothing is x + 0.2 x
            own[f"scales.{index}.conv.weight"].div_((1 + RESIDUAL_SCALE) ** (a.rrdb - b.rrdb))


@torch.no_grad()
def deepened(encoder: nn.Module, trained: object) -> bool:
    """Let a new exact encoder that only has more residual blocks than one of this configuration begin with its LRs: the
    further blocks add zero, and the caller gives it the weights of the others. False for any other encoder.
    """
    if not isinstance(encoder, EncoderTwin) or not isinstance(trained, EncoderConfig):
        return False
    config = encoder.config
    if (config.channels != trained.channels or config != replace(trained, blocks=config.blocks)
            or any(a < b for a, b in zip(config.blocks, trained.blocks, strict=True))):
        return False
    for stage, count in enumerate(trained.blocks):
        for index in range(count, config.blocks[stage]):
            for parameter in encoder.get_submodule(f"stages.{stage}.{index}.project").parameters():
                parameter.zero_()
    return True


def _finer(weights: dict[str, Tensor], skipped: int) -> dict[str, Tensor]:
    """The weights by their names in a decoder without the first ``skipped`` scales."""
    if not skipped:
        return weights
    found = {}
    for name, tensor in weights.items():
        part, index, *rest = name.split(".")
        if part in ("scales", "upsamples"):
            if int(index) >= skipped:
                found[".".join((part, str(int(index) - skipped), *rest))] = tensor
        elif part != "conv_first":
            found[name] = tensor
    return found


def _silence_new_blocks(decoder: RRDBDecoder, given: set[str]) -> None:
    for name, module in decoder.named_modules():
        last: list[nn.Module] = []
        if isinstance(module, ResidualBlock):
            last = [module.conv2]
        elif isinstance(module, RRDB):
            last = [block.convs()[-1] for block in module.dense_blocks()]
        elif isinstance(module, DecoderScale) and module.conv is not None and f"{name}.conv.weight" not in given:
            last = [module.conv]
        if not any(key.startswith(f"{name}.") for key in given) or isinstance(module, DecoderScale):
            for convolution in last:
                for parameter in convolution.parameters():
                    parameter.zero_()


def _as_convolution(kernels: Tensor) -> Tensor:
    """The four kernels ``[out, in, 2, 2]`` of a sub-pixel convolution as the centre of one of 3x3."""
    result = kernels.new_zeros(*kernels.shape[:2], 3, 3)
    result[:, :, 1, 1] = kernels.mean((2, 3))
    return result


def _fill(target: Tensor, source: Tensor) -> None:
    """Copy a smaller tensor into the first channels; the copied channels read none of the new ones."""
    if target.dim() == 4:
        target[:len(source), source.shape[1]:] = 0
        target[:len(source), :source.shape[1]] = source
    else:
        target[:len(source)] = source
