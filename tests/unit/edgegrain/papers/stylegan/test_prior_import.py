"""Reading OpenVINO IR: a small graph in the wheel's form, computed here from its raw constants in its own way."""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from codec_contract.errors import ModelError
from edgegrain.papers.stylegan.prior_import import WHEEL_FILES, IRGraph, build, read_wheel
from server_decoder.mobile_stylegan import MobileStyleGANConfig

CONFIG = MobileStyleGANConfig(size=32, channel_base=128, channel_max=16, code_width=24, mapping_layers=2)
WIDTHS = {4: 16, 8: 16, 16: 8}
SCALE = 0.3


@dataclass
class IRWriter:
    """Layers, edges and constants of a graph, as OpenVINO's model optimizer writes them."""

    layers: list[str] = field(default_factory=list)
    edges: list[str] = field(default_factory=list)
    constants: bytes = b"\0" * 12  # the first constant does not lie at 0
    values: dict[str, Tensor] = field(default_factory=dict)

    def add(self, kind: str, inputs: tuple[int, ...] = (), name: str = "", data: str = "") -> int:
        number = len(self.layers)
        name = name or f"{kind}_{number}"
        self.layers.append(f'<layer id="{number}" name={quoteattr(name)} type="{kind}">{data}</layer>')
        # Ports in reverse: what is read is decided by their numbers, not by the order in the file.
        for port, source in reversed(list(enumerate(inputs))):
            self.edges.append(f'<edge from-layer="{source}" from-port="9" to-layer="{number}" to-port="{port}"/>')
        return number

    def constant(self, values: Tensor, name: str = "") -> int:
        kind = {torch.float32: "f32", torch.int64: "i64"}[values.dtype]
        data = values.numpy().tobytes()
        shape = ", ".join(map(str, values.shape))
        place = f'offset="{len(self.constants)}" size="{len(data)}"'
        number = self.add("Const", name=name, data=f'<data element_type="{kind}" shape="{shape}" {place}/>')
        self.constants += data
        if name:
            self.values[name] = values
        return number

    def graph(self) -> IRGraph:
        layers, edges = "".join(self.layers), "".join(self.edges)
        xml = f'<net version="10"><layers>{layers}</layers><edges>{edges}</edges></net>'
        return IRGraph(xml.encode(), self.constants)


def synthesis_graph(seed: int = 0) -> IRWriter:
    """The layers that matter, with shape arithmetic between some of them as in the wheel."""
    torch.manual_seed(seed)
    ir = IRWriter()
    style = ir.add("Parameter", name="style")

    def affine(name: str, channels: int, scale: float | None) -> int:
        weight = ir.constant(torch.randn(channels, 24) / 5, f"{name}.weight")
        product = ir.add("MatMul", (style, weight))
        added = ir.add("Add", (product, ir.constant(1 + torch.randn(1, channels) / 5, f"{name}.bias")))
        shape = ir.constant(torch.tensor([1, -1, 1, 1]))
        reshaped = ir.add("Reshape", (added, shape))
        if scale is None:
            return reshaped
        return ir.add("Multiply", (reshaped, ir.constant(torch.full((1, 1, 1, 1), scale))))

    def styled(name: str, x: int, channels: int, out: int, size: int, separable: bool) -> int:
        x = ir.add("Multiply", (affine(f"{name}.conv.modulation", channels, SCALE), x))
        if separable:
            depthwise = ir.constant(torch.randn(channels, 1, 1, 3, 3), f"{name}.conv.weight_dw")
            x = ir.add("GroupConvolution", (x, depthwise))
        weight = torch.randn(out, channels, *((1, 1) if separable else (3, 3))) / channels**0.5
        ir.values[f"{name}.weight"] = weight
        x = ir.add("Convolution", (x, ir.constant(weight)))
        noise = torch.randn(1, 1, size, size) * (0.0 if size == 8 else 0.2)
        ir.values[f"{name}.noise"] = noise
        x = ir.add("Add", (x, ir.constant(noise)))
        x = ir.add("Add", (x, ir.constant(torch.randn(1, out, 1, 1) / 5, f"{name}.bias")))
        x = ir.add("PReLU", (x, ir.constant(torch.tensor([0.2]))))
        ir.add("ShapeOf", (x,))
        return x

    x = ir.add("Tile", (ir.constant(torch.randn(1, 16, 4, 4), "m.input.input"),))
    x = styled("m.conv1", x, 16, 16, 4, separable=False)
    for index, size in enumerate((8, 16)):
        name, channels, out = f"m.layers.{index}", WIDTHS[size // 2], WIDTHS[size]
        x = ir.add("Multiply", (affine(f"{name}.up.modulation", channels, None), x))
        x = ir.add("GroupConvolutionBackpropData", (x,))
        x = styled(f"{name}.conv1", x, channels // 4, out, size, separable=True)
        x = styled(f"{name}.conv2", x, out, out, size, separable=True)
    name = "m.layers.1.to_img"
    x = ir.add("Multiply", (affine(f"{name}.conv.modulation", 8, SCALE), x))
    x = ir.add("Convolution", (x, ir.constant(torch.randn(12, 8, 1, 1), f"{name}.conv.weight")))
    ir.add("Add", (x, ir.constant(torch.randn(1, 12, 1, 1), f"{name}.bias")))
    return ir


def mapping_graph(seed: int = 1) -> IRWriter:
    torch.manual_seed(seed)
    ir = IRWriter()
    x = ir.add("Parameter", name="var")
    for index in range(2):
        weight, bias = torch.randn(24, 24) / 4, torch.randn(24)
        ir.values |= {f"{index}.weight": weight, f"{index}.bias": bias}
        product = ir.add("MatMul", (x, ir.constant(weight)))
        ir.add("ShapeOf", (product,))
        reshaped = ir.add("Reshape", (ir.constant(bias), ir.constant(torch.tensor([1, 24]))))
        added = ir.add("Add", (product, reshaped))
        x = ir.add("PReLU", (added, ir.constant(torch.tensor([0.2]))))
    return ir


def run_synthesis(constants: dict[str, Tensor], style: Tensor) -> Tensor:
    """The wheel's computation: detail bands interleaved, an inverse Haar transform of transposed convolutions."""

    def modulate(name: str, x: Tensor, scale: float) -> Tensor:
        factors = style @ constants[f"{name}.weight"].T + constants[f"{name}.bias"]
        return x * factors.reshape(1, -1, 1, 1) * scale

    def haar(x: Tensor) -> Tensor:
        quarter = x.shape[1] // 4
        ll, details = x[:, :quarter], x[:, quarter:].reshape(1, quarter, 3, *x.shape[2:])
        low, high = torch.tensor([1.0, 1]) * 0.5**0.5, torch.tensor([1.0, -1]) * 0.5**0.5

        def grow(x: Tensor, taps: Tensor, vertical: bool) -> Tensor:
            shape, stride = ((1, 1, 2, 1), (2, 1)) if vertical else ((1, 1, 1, 2), (1, 2))
            return F.conv_transpose2d(x, taps.reshape(shape).repeat(quarter, 1, 1, 1), stride=stride, groups=quarter)

        left = grow(ll, low, True) + grow(details[:, :, 0], high, True)
        right = grow(details[:, :, 1], low, True) + grow(details[:, :, 2], high, True)
        return grow(left, low, False) + grow(right, high, False)

    def styled(name: str, x: Tensor) -> Tensor:
        x = modulate(f"{name}.conv.modulation", x, SCALE)
        if f"{name}.conv.weight_dw" in constants:
            depthwise = constants[f"{name}.conv.weight_dw"]
            x = F.conv2d(x, depthwise[:, 0], padding=1, groups=len(depthwise))
        weight = constants[f"{name}.weight"]
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2) + constants[f"{name}.noise"] + constants[f"{name}.bias"]
        return F.leaky_relu(x, 0.2)

    x = styled("m.conv1", constants["m.input.input"])
    for index in range(2):
        name = f"m.layers.{index}"
        x = haar(modulate(f"{name}.up.modulation", x, 1.0))
        x = styled(f"{name}.conv2", styled(f"{name}.conv1", x))
    x = modulate(f"{name}.to_img.conv.modulation", x, SCALE)
    return haar(F.conv2d(x, constants[f"{name}.to_img.conv.weight"]) + constants[f"{name}.to_img.bias"])


def test_imported_network_computes_what_the_graphs_say() -> None:
    mapping, synthesis = mapping_graph(), synthesis_graph()
    prior = build(mapping.graph(), synthesis.graph(), CONFIG)
    z = torch.randn(1, 24, generator=torch.Generator().manual_seed(7))
    x = z / (z.square().mean() + 1e-8).sqrt()
    for index in range(2):
        x = F.leaky_relu(x @ mapping.values[f"{index}.weight"].T + mapping.values[f"{index}.bias"], 0.2) * 2**0.5
    torch.testing.assert_close(prior.map(z), x, rtol=1e-5, atol=1e-6)

    with torch.no_grad():
        picture = prior(prior.broadcast(x)).picture
    wanted = run_synthesis(synthesis.values, x)
    assert wanted.shape == (1, 3, 32, 32) and wanted.std() > 0.1
    torch.testing.assert_close(picture, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())


def test_noise_is_split_into_strength_and_unit_variance() -> None:
    synthesis = synthesis_graph()
    prior = build(mapping_graph().graph(), synthesis.graph(), CONFIG)
    assert prior.conv.noise.square().mean().item() == pytest.approx(1, abs=1e-5)
    stored = synthesis.values["m.layers.1.conv2.noise"]
    conv = prior.blocks[1].conv2
    torch.testing.assert_close(conv.noise_strength * conv.noise, stored)
    assert prior.blocks[0].conv1.noise_strength == 0


def test_mean_code_is_the_mean_of_w() -> None:
    prior = build(mapping_graph().graph(), synthesis_graph().graph(), CONFIG)
    codes = prior.map(torch.from_numpy(np.random.default_rng(99).standard_normal((4096, 24), dtype=np.float32)))
    assert ((codes.mean(0) - prior.mean_code).abs() < 5 * codes.std(0) / 4096**0.5).all()
    assert prior.mean_code.abs().max() > 0.1


def test_other_files_than_the_wheel(tmp_path: Path) -> None:
    text, other, changed, damaged = (tmp_path / f"{name}.whl" for name in ("text", "other", "changed", "damaged"))
    text.write_text("no zip")
    for path, names in (other, ["other/__init__.py"]), (changed, WHEEL_FILES):
        with zipfile.ZipFile(path, "w") as wheel:
            for name in names:
                wheel.writestr(name, bytes(1000), zipfile.ZIP_DEFLATED)
    content = bytearray(changed.read_bytes())
    content[30 + len(next(iter(WHEEL_FILES)))] = 255  # the first byte of deflated data
    damaged.write_bytes(content)
    for path, message in (
        (text, r"not the wheel of random-face 2021\.7\.21\.1"),
        (other, "MappingNetwork.xml"),
        (changed, "SHA-256 73e2096c"),
        (damaged, r"damaged.whl is not the wheel .* or damaged: .*invalid block type"),
    ):
        with pytest.raises(ModelError, match=message):
            read_wheel(path)
