"""The exact encoder as integers: its format, its int64 reference and its file.

A network is a list of layers in the order of execution. Every tensor is an integer picture with values 0...255;
``"image"`` is the input, the output of the last layer is the LR. A layer computes

    acc = conv(x, W) + b                                      W int8, b int32
    y   = clamp(floor((acc + 2^(s-1) + 1/2) * 2^-s + skip), 0, 255)

with one shift ``s`` per output channel. ``acc`` is an integer, so the floored value never is: the nearest decision
boundary is half an accumulator unit away. `run_reference` is the reference that every export is compared with; it uses
no floating-point numbers.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codec_contract.errors import BundleError, ExportError, ImageError
from codec_contract.files import write_atomically
from codec_contract.pixels import describe_array

INPUT = "image"
FORMAT = "edgegrain-integer-network-1"


@dataclass(frozen=True)
class IntegerConv:
    """One layer. Arrays are read-only; see the module docstring for the arithmetic."""

    name: str  # unique; also of its output
    input: str  # name of the layer (or "image") that is convolved
    weight: np.ndarray  # int8 [O, I / groups, kh, kw]
    bias: np.ndarray  # int32 [O] in accumulator units, without the rounding offset and the guard half
    shift: np.ndarray  # int32 [O], 1...22
    stride: int | tuple[int, int] = 1  # the same in both directions, or (vertical, horizontal)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # zeros added at (top, left, bottom, right)
    groups: int = 1  # or the number of input channels (depthwise)
    skip: str | None = None  # name of the layer whose output is added before flooring

    @property
    def kernel(self) -> tuple[int, int]:
        """(height, width)."""
        return int(self.weight.shape[2]), int(self.weight.shape[3])

    @property
    def strides(self) -> tuple[int, int]:
        """(vertical, horizontal)."""
        return (self.stride, self.stride) if isinstance(self.stride, int) else self.stride

    @property
    def out_channels(self) -> int:
        """Channels O of the output."""
        return int(self.weight.shape[0])

    @property
    def in_channels(self) -> int:
        """Channels I of the input."""
        return int(self.weight.shape[1]) * self.groups

    def scale(self) -> np.ndarray:
        """float32 ``[O]``: the power of two 2^-s of every output channel."""
        return np.ldexp(np.float32(1), -self.shift).astype(np.float32)

    def exported_weight(self) -> np.ndarray:
        """float32 weights with the output scale folded in: W * 2^-s, exact."""
        return (self.weight.astype(np.float32) * self.scale()[:, None, None, None]).astype(np.float32)

    def exported_bias(self) -> np.ndarray:
        """float32 bias with rounding offset, guard half and output scale: (b + 2^(s-1) + 1/2) * 2^-s, exact."""
        total = self.bias.astype(np.float64) + np.ldexp(1.0, self.shift - 1) + 0.5
        return (total * np.ldexp(1.0, -self.shift)).astype(np.float32)


@dataclass(frozen=True)
class IntegerNetwork:
    """A chain of `IntegerConv` layers from ``uint8 [hr, hr, 3]`` to ``uint8 [lr, lr, 3]``."""

    architecture: str
    hr: int
    lr: int
    layers: tuple[IntegerConv, ...]

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """Name of every tensor -> (channels, height, width)."""
        sizes = {INPUT: (3, self.hr, self.hr)}
        for layer in self.layers:
            _, height, width = sizes[layer.input]
            size = convolved((height, width), layer.kernel, layer.strides, layer.padding)
            sizes[layer.name] = (layer.out_channels, *size)
        return sizes


def convolved(
    size: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int], padding: tuple[int, int, int, int]
) -> tuple[int, int]:
    """Output (height, width) of a convolution of (height, width); ``padding`` at (top, left, bottom, right)."""
    top, left, bottom, right = padding
    height, width = size[0] + top + bottom, size[1] + left + right
    return (height - kernel[0]) // strides[0] + 1, (width - kernel[1]) // strides[1] + 1


def validate_network(network: IntegerNetwork) -> None:
    """Check the wiring, shapes and value ranges; raise `BundleError` naming the layer that is wrong."""
    if not isinstance(network.architecture, str):
        raise BundleError(f"the architecture of the integer encoder is a text, got {network.architecture!r}")
    channels = {INPUT: 3}
    for layer in network.layers:
        sources = [layer.input, *([] if layer.skip is None else [layer.skip])]
        for name in (layer.name, *sources):
            if not isinstance(name, str) or not name:
                raise BundleError(f"layers of the integer encoder have names, also as input and skip; got {name!r}")
        where, weight = f"layer {layer.name!r} of the integer encoder", layer.weight
        if layer.name in channels:
            raise BundleError(f"{where} appears twice; layer names must be unique")
        for source in sources:
            if source not in channels:
                raise BundleError(f"{where} reads {source!r}, which is not the output of an earlier layer")
        if weight.dtype != np.int8 or weight.ndim != 4 or weight.size == 0:
            raise BundleError(f"{where} has weights {describe_array(weight)}, expected int8 [O, I / groups, kh, kw]")
        out, expected, given = layer.out_channels, layer.in_channels, channels[layer.input]
        if layer.groups not in (1, given) or expected != given:
            raise BundleError(f"{where} expects {expected} channels in {layer.groups} groups, gets {given}")
        if layer.skip and channels[layer.skip] != out:
            raise BundleError(f"{where} adds {channels[layer.skip]} channels to {out}")
        for label, array in (("bias", layer.bias), ("shift", layer.shift)):
            if array.dtype != np.int32 or array.shape != (out,):
                raise BundleError(f"{where}: {label} is {describe_array(array)}, expected int32 [{out}]")
        if layer.shift.min() < 1 or layer.shift.max() > 22:
            raise BundleError(f"{where}: shifts must lie in 1...22, found {layer.shift.min()}...{layer.shift.max()}")
        if min(layer.strides) < 1 or min(layer.padding) < 0:
            raise BundleError(f"{where}: stride {layer.stride} or padding {layer.padding} is not allowed")
        if layer.groups == 1 and max(layer.strides) == 1 and max(layer.kernel) > 1:
            reason = "runtimes compute those with Winograd kernels, which are not exact"
            advice = "use depthwise or 1x1 convolutions"
            raise BundleError(f"{where} is a dense {layer.kernel} convolution of stride 1: {reason}; {advice}")
        channels[layer.name] = out
    sizes = network.sizes()
    for layer in network.layers:
        if layer.skip and sizes[layer.skip] != sizes[layer.name]:
            raise BundleError(f"layer {layer.name!r} adds {layer.skip!r} of another size")
    if not network.layers or sizes[network.layers[-1].name] != (3, network.lr, network.lr):
        raise BundleError(f"the integer encoder does not end in 3 channels of {network.lr} x {network.lr}")


def run_reference(network: IntegerNetwork, rgb: np.ndarray) -> np.ndarray:
    """Run a validated encoder in int64: the definition of its output, ``[N, hr, hr, 3]`` to ``[N, lr, lr, 3]``."""
    check_pictures(rgb, network.hr)
    tensors = {INPUT: rgb.astype(np.int64)}
    for layer in network.layers:
        value = unclamped(layer, accumulate(layer, tensors[layer.input]), tensors)
        tensors[layer.name] = np.clip(value, 0, 255)
    return tensors[network.layers[-1].name].astype(np.uint8)


def check_pictures(rgb: Any, hr: int) -> None:
    """Raise `ImageError` unless these are pictures for an encoder, uint8 ``[N, hr, hr, 3]``."""
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.shape[1:] != (hr, hr, 3):
        found, advice = describe_array(rgb), "fit the picture with codec_contract.fit first"
        raise ImageError(f"the encoder takes uint8 [N, {hr}, {hr}, 3], got {found}; {advice}")


def unclamped(layer: IntegerConv, acc: np.ndarray, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """int64 values of a layer before the clamp, from its accumulators and, for a skip, the tensors made so far."""
    shift = layer.shift.astype(np.int64)
    # floor((acc + 2^(s-1) + 1/2) / 2^s) equals the integer shift: the half never reaches the next multiple.
    value: np.ndarray = (acc + (np.int64(1) << (shift - 1))) >> shift
    return value + tensors[layer.skip] if layer.skip else value


def accumulate(layer: IntegerConv, x: np.ndarray) -> np.ndarray:
    """int64 accumulators ``[N, h', w', O]`` of one layer for NHWC integers ``x``: conv(x, W) + b."""
    height, width = convolved((x.shape[1], x.shape[2]), layer.kernel, layer.strides, layer.padding)
    top, left, bottom, right = layer.padding
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    weight = layer.weight.astype(np.int64)
    down, across = layer.strides
    acc = np.broadcast_to(layer.bias.astype(np.int64), (x.shape[0], height, width, layer.out_channels)).copy()
    for i, j in np.ndindex(layer.kernel):
        tap = x[:, i : i + height * down : down, j : j + width * across : across]
        if layer.groups == 1:
            # numpy multiplies int64 matrices without BLAS, a hundred times slower than float64. Products of a byte and
            # an int8 summed over fewer than 2^37 channels stay below 2^53, which float64 holds exactly.
            acc += (tap.astype(np.float64) @ weight[:, :, i, j].T.astype(np.float64)).astype(np.int64)
        else:
            acc += tap * weight[:, 0, i, j]
    return acc


def integer_digest(network: IntegerNetwork) -> bytes:
    """SHA-256, 32 bytes, over everything that fixes the encoder's output, independent of how it is stored."""
    sha = hashlib.sha256(FORMAT.encode())
    sha.update(json.dumps(_structure(network), sort_keys=True, separators=(",", ":")).encode())
    for layer in network.layers:
        for array, dtype in ((layer.weight, "<i1"), (layer.bias, "<i4"), (layer.shift, "<i4")):
            sha.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
    return sha.digest()


def save_integer_network(network: IntegerNetwork, path: str | Path, *, force: bool = False) -> None:
    """Write the network as a safetensors file."""
    from safetensors.numpy import save as to_bytes

    validate_network(network)
    names = [(layer, name) for layer in network.layers for name in ("weight", "bias", "shift")]
    tensors = {f"{layer.name}.{name}": np.ascontiguousarray(getattr(layer, name)) for layer, name in names}
    data = to_bytes(tensors, metadata={"format": FORMAT, "structure": json.dumps(_structure(network))})
    write_atomically(path, data, force=force)


def load_integer_network(source: str | Path | bytes) -> IntegerNetwork:
    """Read a network from a safetensors file or its bytes."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        tensors = from_bytes(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header.get("__metadata__", {})
        if metadata.get("format") != FORMAT:
            raise BundleError(f"not an integer encoder: format {metadata.get('format')!r}, expected {FORMAT!r}")
        structure = json.loads(metadata["structure"])
        layers = tuple(_layer(layer, tensors) for layer in structure["layers"])
        hr, lr = operator.index(structure["hr"]), operator.index(structure["lr"])
        network = IntegerNetwork(structure["architecture"], hr, lr, layers)
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise BundleError(f"the integer encoder cannot be read ({error}); download the bundle again") from error
    validate_network(network)
    return network


def _layer(source: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> IntegerConv:
    name, stride = source["name"], source["stride"]
    weight, bias, shift = (tensors[f"{name}.{array}"] for array in ("weight", "bias", "shift"))
    if not isinstance(stride, int):
        down, across = map(operator.index, stride)
        stride = down, across
    top, left, bottom, right = map(operator.index, source["padding"])
    padding, groups = (top, left, bottom, right), operator.index(source["groups"])
    return IntegerConv(name, source["input"], weight, bias, shift, stride, padding, groups, source["skip"])


def _structure(network: IntegerNetwork) -> dict:
    names = ("name", "input", "stride", "padding", "groups", "skip")
    layers = [{name: getattr(layer, name) for name in names} for layer in network.layers]
    return {"architecture": network.architecture, "hr": network.hr, "lr": network.lr, "layers": layers}


ACTIVATION_MAX = 255
ACCUMULATOR_LIMIT = 2**23  # float32 has a 24-bit significand; one bit is for the guard half
DEPTHWISE_L1 = 112  # largest sum of |w| over the nine taps of a depthwise channel of stride 1
DEPTHWISE_MAX = 48  # largest |w| there: one heavy corner tap weighs most in the transformed domain


def layer_bound(layer: IntegerConv) -> np.ndarray:
    """int64 ``[O]``: the bound of every partial sum of a layer, in any order: sum |w| * 255 + |b + 2^(s-1)| + 1/2
    (rounded up) + 255 * 2^s for a skip."""
    weight, bias, shift = (array.astype(np.int64) for array in (layer.weight, layer.bias, layer.shift))
    bound = np.abs(weight).sum((1, 2, 3)) * ACTIVATION_MAX + np.abs(bias + (np.int64(1) << (shift - 1))) + 1
    return bound + (np.int64(ACTIVATION_MAX) << shift) if layer.skip else bound


def is_winograd_shaped(groups: int, stride: int, kernel: int) -> bool:
    """True if runtimes may compute such a layer with Winograd kernels (dense ones are not allowed at all)."""
    return groups > 1 and stride == 1 and kernel > 1


def prove_bound(network: IntegerNetwork) -> dict[str, float]:
    """Prove that float32 holds every accumulator of a network: layer -> logarithm, base 2, of its largest bound."""
    validate_network(network)
    bounds = {}
    for layer in network.layers:
        bound, magnitude = layer_bound(layer), np.abs(layer.weight.astype(np.int64))
        limits = [("the accumulator can reach", bound, ACCUMULATOR_LIMIT - 1, "stays exact in float32")]
        if is_winograd_shaped(layer.groups, max(layer.strides), max(layer.kernel)):
            exact = "in magnitude stays exact in Winograd kernels"
            limits += [
                ("depthwise weights sum to", magnitude.sum((1, 2, 3)), DEPTHWISE_L1, exact),
                ("depthwise weights reach", magnitude.max((1, 2, 3)), DEPTHWISE_MAX, exact),
            ]
        for what, value, limit, why in limits:
            if value.max() > limit:
                found = f"layer {layer.name!r}, channel {value.argmax()}: {what} {value.max()}, up to {limit} {why}"
                raise ExportError(f"{found}; lower that channel's weight scale and lower again")
        bounds[layer.name] = float(np.log2(bound.max()))
    return bounds
