"""The two public families of StyleGAN2 checkpoints.

- **rosinality**: training checkpoints of rosinality/stylegan2-pytorch and files converted with it: ``g_ema``, ``d``
  and ``latent_avg`` in one dictionary.
- **NVIDIA**: the names of stylegan2-ada-pytorch and stylegan3, as plain tensors: ``mapping...`` and ``synthesis...`` of
  a generator, ``b4...`` of a discriminator; or both with the prefixes ``G_ema.`` and ``D.``.

Both compute the same as `StyleGAN2`: the equalized learning rate scales weights when they are used, mapping parameters
are stored divided by its rate, and weights of upsampling layers are those of a transposed convolution. So tensors only
change their names and lose or gain dimensions of one.

Two things that are not learned may be absent from rosinality's files. Without ``latent_avg`` (training checkpoints) the
mean code is measured from the mapping network; without any ``noises.*`` (files from before April 2020) the constant
noise is drawn, always the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from codec_contract.errors import ExistsError, ModelError
from edgegrain.papers.convert import Names, Options, Report, TensorFile, TensorMap, count, fill, open_tensors, rename
from edgegrain.training.adversarial import Discriminator
from server_decoder.stylegan2 import NVIDIA_LICENCE
from server_decoder.stylegan2.layers import StyledLayer, mean_code
from server_decoder.stylegan2.networks import BASE, StyleGAN2, StyleGAN2Config, write_states
from server_decoder.weight_file import described_network

_LARGEST = StyleGAN2Config(8192)  # of the sizes that are recognized
_LICENCE = f"the file states none; NVIDIA's networks: {NVIDIA_LICENCE}"


@dataclass(frozen=True)
class Layout:
    """The names of one family."""

    name: str
    filter_suffix: str  # ends the names of low-pass filters, which are constants here
    generator: Names  # of a `StyleGAN2`
    discriminator: Callable[[int], Names] = lambda size: {}  # size -> the names of a `Discriminator`
    prefixes: tuple[str, ...] = ("",)  # of a generator's names in a file, preferred ones first; then a discriminator's
    discriminator_prefixes: tuple[str, ...] = ("",)
    optional: tuple[str, ...] = ()  # those of `generator` that files may lack
    mean_code: str = ""  # its name if it stands outside the generator


def listed(name: str, index: int) -> str:
    """Layers in the StyleGAN2 of rosinality and all that follow it: ``conv1``, then ``convs.0``, ``convs.1``, ..."""
    return f"{name}s.{index - 1}" if index else f"{name}1"


ROSINALITY = Layout(
    "rosinality",
    ".kernel",
    {
        "constant": "input.input",
        "mapping.layers.#.*": lambda index, end: f"style.{index + 1}.{end}",  # style.0 is the normalization
        "layers.#.noise": "noises.noise_{0}",
        "layers.#.noise_strength": lambda index: f"{listed('conv', index)}.noise.weight",
        "layers.#.bias": lambda index: f"{listed('conv', index)}.activate.bias",
        "layers.#.conv.*": lambda index, end: f"{listed('conv', index)}.conv.{end}",
        "to_rgb.#.*": lambda index, end: f"{listed('to_rgb', index)}.{end}",
    },
    lambda size: {  # every convolution is a sequence of (filter,) convolution and activation, which has the bias
        "from_rgb.weight": "convs.0.0.weight",
        "from_rgb.bias": "convs.0.1.bias",
        "blocks.#.conv1.weight": lambda index: f"convs.{index + 1}.conv1.0.weight",
        "blocks.#.conv1.bias": lambda index: f"convs.{index + 1}.conv1.1.bias",
        "blocks.#.conv2.weight": lambda index: f"convs.{index + 1}.conv2.1.weight",
        "blocks.#.conv2.bias": lambda index: f"convs.{index + 1}.conv2.2.bias",
        "blocks.#.skip.weight": lambda index: f"convs.{index + 1}.skip.1.weight",
        "conv.weight": "final_conv.0.weight",
        "conv.bias": "final_conv.1.bias",
        "linear.*": "final_linear.0.{0}",
        "score.*": "final_linear.1.{0}",
    },
    ("g_ema.", ""),
    ("d.", ""),
    optional=("layers.#.noise",),
    mean_code="latent_avg",
)


def _nvidia_layer(index: int) -> str:
    # conv0 of a block upsamples; the first block has conv1 only
    return f"synthesis.b{BASE << (index + 1) // 2}.conv{(index + 1) % 2}"


NVIDIA = Layout(
    "NVIDIA",
    "resample_filter",
    {
        "mean_code": "mapping.w_avg",
        "constant": f"synthesis.b{BASE}.const",
        "mapping.layers.#.*": "mapping.fc{0}.{1}",
        "layers.#.noise": lambda index: f"{_nvidia_layer(index)}.noise_const",
        "layers.#.noise_strength": lambda index: f"{_nvidia_layer(index)}.noise_strength",
        "layers.#.bias": lambda index: f"{_nvidia_layer(index)}.bias",
        "layers.#.conv.weight": lambda index: f"{_nvidia_layer(index)}.weight",
        "layers.#.conv.modulation.*": lambda index, end: f"{_nvidia_layer(index)}.affine.{end}",
        "to_rgb.#.bias": lambda index: f"synthesis.b{BASE << index}.torgb.bias",
        "to_rgb.#.conv.weight": lambda index: f"synthesis.b{BASE << index}.torgb.weight",
        "to_rgb.#.conv.modulation.*": lambda index, end: f"synthesis.b{BASE << index}.torgb.affine.{end}",
    },
    lambda size: {
        "from_rgb.*": f"b{size}.fromrgb.{{0}}",
        "blocks.#.conv1.*": lambda index, end: f"b{size >> index}.conv0.{end}",
        "blocks.#.conv2.*": lambda index, end: f"b{size >> index}.conv1.{end}",
        "blocks.#.skip.*": lambda index, end: f"b{size >> index}.skip.{end}",
        "conv.*": f"b{BASE}.conv.{{0}}",
        "linear.*": f"b{BASE}.fc.{{0}}",
        "score.*": f"b{BASE}.out.{{0}}",
    },
    ("G_ema.", "G.", ""),
    ("D.", ""),
)


def find_generator(
    source: TensorFile, layout: Layout, ours: str, theirs: str
) -> tuple[StyleGAN2Config, Names, tuple[str, ...]]:
    """Sizes, names and low-pass filters of the generator called ``theirs`` in a file and ``ours`` in the network."""
    part = source.under(theirs)
    config = _generator_config(part, layout)
    names = dict(layout.generator)
    for pattern in layout.optional:
        layers = (pattern.replace("#", str(index)) for index in range(len(config.layer_resolutions)))
        if not any(rename(layer, layout.generator) in part.tensors for layer in layers):
            del names[pattern]
    return config, _under(names, ours, theirs), _filters(source, theirs, layout)


@torch.no_grad()
def complete(generator: StyleGAN2, ours: str, *tensor_maps: TensorMap) -> None:
    """Make what no file had for the generator and nobody learns: constant noise, mean code."""
    placed = {name for tensor_map in tensor_maps for name in tensor_map.names.values()}
    if f"{ours}layers.0.noise" not in placed:
        random = torch.Generator().manual_seed(0)
        for layer in cast(Iterable[StyledLayer], generator.layers):
            layer.noise.copy_(torch.randn(layer.noise.shape, generator=random))
    if f"{ours}mean_code" not in placed:
        generator.mean_code.copy_(mean_code(generator.mapping, generator.config.code_width))


def load_stylegan2_checkpoint(path: Path, layout: Layout) -> tuple[dict[str, StyleGAN2 | Discriminator], TensorMap]:
    """``generator``, ``discriminator`` or both; their sizes follow from the tensors."""
    source = open_tensors(path)
    networks: dict[str, StyleGAN2 | Discriminator] = {}
    names: dict[str, str | Callable[..., str]] = {}
    prefixes: list[str] = []
    unused: tuple[str, ...] = ()
    constant, conv = rename("constant", layout.generator), rename("conv.weight", layout.discriminator(2 * BASE))
    if (prefix := _prefix(source, layout.prefixes, constant)) is not None:
        sizes, found, unused = find_generator(source, layout, "generator.", prefix)
        networks["generator"] = described_network(path, lambda: StyleGAN2(sizes))
        if layout.mean_code in source.tensors:
            names["generator.mean_code"] = layout.mean_code
        names |= found
        prefixes.append(prefix)
    if (prefix := _prefix(source, layout.discriminator_prefixes, conv)) is not None:
        config = _discriminator_config(source.under(prefix), layout)
        networks["discriminator"] = described_network(path, lambda: Discriminator(config))
        names |= _under(layout.discriminator(config.size), "discriminator.", prefix)
        unused += _filters(source, prefix, layout)
        prefixes.append(prefix)
    if not networks:
        raise ModelError(
            f"{path} holds no StyleGAN2 in the {layout.name} layout: expected a generator with {constant!r} or a "
            f"discriminator with {conv!r}, found {', '.join(sorted(source.tensors)[:4])}, ..."
        )
    unused += tuple(name for name in source.tensors if not name.startswith(tuple(prefixes)))
    tensor_map = fill(nn.ModuleDict(networks), source, names, unused)
    if isinstance(generator := networks.get("generator"), StyleGAN2):
        complete(generator, "generator.", tensor_map)
    return networks, tensor_map


def convert(source: str, files: Sequence[Path], out: Path, options: Options) -> Report:
    """Rewrite a checkpoint as the weight file ``out``; ``source`` is ``stylegan2-`` and the layout's name."""
    layout, (path,) = NVIDIA if source == "stylegan2-nvidia" else ROSINALITY, files
    if out.is_dir():
        inside = out / f"{path.stem}.safetensors"
        raise ModelError(f"{out} is a folder, and the result is one file; name it, for example {inside}")
    if out.exists() and not options.force:
        raise ExistsError(out)
    networks, tensor_map = load_stylegan2_checkpoint(path, layout)
    states = {name: network.state_dict() for name, network in networks.items()}
    config = next(iter(networks.values())).config  # without a generator, those of the mapping network mean nothing
    metadata = {"layout": layout.name, "source": path.name, "source_sha256": tensor_map.sha256, "licence": _LICENCE}
    metadata["origin"] = f"{path.name}, SHA-256 {tensor_map.sha256[:16]}"
    write_states(out, config, states, options.force, metadata)
    parameters = {name: count(network) for name, network in networks.items()}
    return Report(source, str(out), parameters, [tensor_map])


def _under(names: Names, ours: str, theirs: str) -> Names:
    return {f"{ours}*": lambda end: (found := rename(end, names)) and theirs + found}


def _prefix(source: TensorFile, prefixes: tuple[str, ...], marker: str) -> str | None:
    """The first prefix with which ``marker`` is there."""
    return next((prefix for prefix in prefixes if f"{prefix}{marker}" in source.tensors), None)


def _generator_config(part: TensorFile, layout: Layout) -> StyleGAN2Config:
    channels = {}
    for index, side in enumerate(_LARGEST.resolutions):
        if (name := rename(f"to_rgb.{index}.conv.weight", layout.generator)) in part.tensors:
            channels[side] = part.dimension(name, -3)
    mapping = [rename(f"mapping.layers.{index}.weight", layout.generator) for index in range(32)]
    held = [name for name in mapping if name in part.tensors]
    if not held:
        raise ModelError(f"{part.path} has no mapping network: expected {mapping[0]!r}")
    return _config(channels, part, part.dimension(held[0], -1), len(held))


def _discriminator_config(part: TensorFile, layout: Layout) -> StyleGAN2Config:
    for size in reversed(_LARGEST.resolutions[1:]):
        sides, names = StyleGAN2Config(size).resolutions, layout.discriminator(size)
        blocks = [f"blocks.{index}.conv1.weight" for index in range(len(sides) - 1)]
        first, *weights = [rename(ours, names) for ours in ("from_rgb.weight", "conv.weight", *reversed(blocks))]
        if first in part.tensors and weights[1] in part.tensors:  # of the block at 8x8
            held = [(side, name) for side, name in zip(sides, weights, strict=True) if name in part.tensors]
            return _config({side: part.dimension(name, 0) for side, name in held}, part)
    raise ModelError(f"{part.path}: expected a discriminator with a first convolution and residual blocks down to 8x8")


def _config(channels: dict[int, int], part: TensorFile, code_width: int = 512, layers: int = 8) -> StyleGAN2Config:
    """The configuration with these channels by resolution."""
    size = max(channels, default=0)
    if size <= BASE or len(channels) != len(StyleGAN2Config(size).resolutions):
        raise ModelError(
            f"{part.path}: expected layers at {BASE}x{BASE}, {2 * BASE}x{2 * BASE} and every doubling, "
            f"found them at {', '.join(map(str, channels)) or 'none'}"
        )
    with part.reading("StyleGAN2"):
        config = StyleGAN2Config(size, size * channels[size], max(channels.values()), code_width, layers)
    if channels != {side: config.channels(side) for side in config.resolutions}:
        found = ", ".join(f"{width} at {side}" for side, width in channels.items())
        raise ModelError(f"{part.path}: expected channels that halve with each resolution from some on, got {found}")
    return config


def _filters(source: TensorFile, theirs: str, layout: Layout) -> tuple[str, ...]:
    """The filters under a prefix; all published networks use [1, 3, 3, 1]."""
    return tuple(name for name in source.tensors if name.startswith(theirs) and name.endswith(layout.filter_suffix))
