"""Resize nodes as the op ``Upsample``."""

from __future__ import annotations

import onnx_ir as ir

from export.decoder.channels_last_writer import ChannelsLastWriter, last_shape
from export.decoder.graph_values import integer, is_map, sizes, text


def upsampling_mode(node: ir.Node) -> str:
    """The mode of the ``Upsample`` that is the same as a Resize; "" if there is none."""
    value, x = node.outputs[0], node.inputs[0]
    mode, how = text(node, "mode"), text(node, "coordinate_transformation_mode", "half_pixel")
    if not is_map(x) or integer(node, "antialias") or [2 * (size or 0) for size in sizes(x)[2:]] != list(
            sizes(value)[2:]):
        return ""
    if mode == "nearest" and (how, text(node, "nearest_mode", "round_prefer_floor")) == ("asymmetric", "floor"):
        return "nearest"
    return "bilinear" if mode == "linear" and how in ("half_pixel", "pytorch_half_pixel") else ""


def upsample(out: ChannelsLastWriter, x: ir.Value, mode: str, value: ir.Value) -> ir.Value:
    """``x``, a channels-last map, at twice its size; ``value`` is the same in the source."""
    return out.own("Upsample", [x], {"mode": mode}, last_shape(value), value.dtype)
