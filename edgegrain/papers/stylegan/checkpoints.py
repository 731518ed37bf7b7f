"""Names and shapes of tensors in the two public families of StyleGAN2 checkpoints, and their translation.

- **rosinality**: training checkpoints of rosinality/stylegan2-pytorch and files converted with it: ``g_ema``, ``d``
  and ``latent_avg`` in one dictionary.
- **NVIDIA**: the names of stylegan2-ada-pytorch and stylegan3, as plain tensors: ``mapping...`` and ``synthesis...`` of
  a generator, ``b4...`` of a discriminator; or both with the prefixes ``G_ema.`` and ``D.``.

Both compute the same as `StyleGAN2`: the equalized learning rate scales weights when they are used, mapping parameters
are stored divided by its rate, and weights of upsampling layers are those of a transposed convolution. So tensors only
change their names and lose or gain dimensions of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec_contract.errors import ExistsError, ModelError
from edgegrain.papers.tensor_map import TensorFile, TensorMap, file_sha256, place, read_tensors
from server_decoder.stylegan2 import NVIDIA_LICENCE
from server_decoder.stylegan2.layers import BILINEAR, MappingNetwork, mean_code
from server_decoder.stylegan2.networks import BASE, Discriminator, StyleGAN2, StyleGAN2Config, write_states

FILTER = "a low-pass filter, a constant here"
_LARGEST = 8192  # sizes and depths that are recognized
_DEEPEST = 32


@dataclass(frozen=True)
class Layout:
    """The names of one family.

    Attributes:
        name: in messages.
        generator: configuration -> names in `StyleGAN2` and names in the file.
        discriminator: the same for a discriminator.
        generator_prefixes: possible prefixes of a generator's names in a file, preferred ones first.
        discriminator_prefixes: the same for a discriminator's.
        filter_suffix: names with this end hold low-pass filters, which are constants here.
        shared: names without a prefix that belong to the generator.
        optional: beginnings of names of tensors that are not learned; files may lack all of a kind, which are then
            replaced.
    """

    name: str
    generator: Callable[[StyleGAN2Config], dict[str, str]]
    discriminator: Callable[[StyleGAN2Config], dict[str, str]]
    generator_prefixes: tuple[str, ...]
    discriminator_prefixes: tuple[str, ...]
    filter_suffix: str
    shared: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def _pair(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.weight": f"{theirs}.weight", f"{ours}.bias": f"{theirs}.bias"}


def _rosinality_generator(config: StyleGAN2Config) -> dict[str, str]:
    names = {"mean_code": "latent_avg", "constant": "input.input"}
    for index in range(config.mapping_layers):
        names |= _pair(f"mapping.layers.{index}", f"style.{index + 1}")  # style.0 is the normalization
    for index in range(len(config.layer_resolutions)):
        ours, theirs = f"layers.{index}", f"convs.{index - 1}" if index else "conv1"
        names |= {f"{ours}.conv.weight": f"{theirs}.conv.weight",
                  **_pair(f"{ours}.conv.modulation", f"{theirs}.conv.modulation"),
                  f"{ours}.noise_strength": f"{theirs}.noise.weight", f"{ours}.noise": f"noises.noise_{index}",
                  f"{ours}.bias": f"{theirs}.activate.bias"}
    for index in range(len(config.resolutions)):
        ours, theirs = f"to_rgb.{index}", f"to_rgbs.{index - 1}" if index else "to_rgb1"
        names |= {f"{ours}.conv.weight": f"{theirs}.conv.weight", f"{ours}.bias": f"{theirs}.bias",
                  **_pair(f"{ours}.conv.modulation", f"{theirs}.conv.modulation")}
    return names


def _rosinality_discriminator(config: StyleGAN2Config) -> dict[str, str]:
    # Every convolution is a sequence of (filter,) convolution and activation: the activation owns the bias.
    names = {"from_rgb.weight": "convs.0.0.weight", "from_rgb.bias": "convs.0.1.bias",
             "conv.weight": "final_conv.0.weight", "conv.bias": "final_conv.1.bias",
             **_pair("linear", "final_linear.0"), **_pair("score", "final_linear.1")}
    for index in range(len(config.resolutions) - 1):
        ours, theirs = f"blocks.{index}", f"convs.{index + 1}"
        names |= {f"{ours}.conv1.weight": f"{theirs}.conv1.0.weight", f"{ours}.conv1.bias": f"{theirs}.conv1.1.bias",
                  f"{ours}.conv2.weight": f"{theirs}.conv2.1.weight", f"{ours}.conv2.bias": f"{theirs}.conv2.2.bias",
                  f"{ours}.skip.weight": f"{theirs}.skip.1.weight"}
    return names


def _nvidia_generator(config: StyleGAN2Config) -> dict[str, str]:
    names = {"mean_code": "mapping.w_avg", "constant": f"synthesis.b{BASE}.const"}
    for index in range(config.mapping_layers):
        names |= _pair(f"mapping.layers.{index}", f"mapping.fc{index}")
    for index, resolution in enumerate(config.layer_resolutions):
        # conv0 of a block upsamples; the first block has no other than conv1
        ours, theirs = f"layers.{index}", f"synthesis.b{resolution}.conv{(index + 1) % 2}"
        names |= {f"{ours}.conv.weight": f"{theirs}.weight", f"{ours}.bias": f"{theirs}.bias",
                  **_pair(f"{ours}.conv.modulation", f"{theirs}.affine"),
                  f"{ours}.noise_strength": f"{theirs}.noise_strength", f"{ours}.noise": f"{theirs}.noise_const"}
    for index, resolution in enumerate(config.resolutions):
        ours, theirs = f"to_rgb.{index}", f"synthesis.b{resolution}.torgb"
        names |= {f"{ours}.conv.weight": f"{theirs}.weight", f"{ours}.bias": f"{theirs}.bias",
                  **_pair(f"{ours}.conv.modulation", f"{theirs}.affine")}
    return names


def _nvidia_discriminator(config: StyleGAN2Config) -> dict[str, str]:
    names = {**_pair("from_rgb", f"b{config.size}.fromrgb"), **_pair("conv", f"b{BASE}.conv"),
             **_pair("linear", f"b{BASE}.fc"), **_pair("score", f"b{BASE}.out")}
    for index, resolution in enumerate(reversed(config.resolutions[1:])):
        ours, theirs = f"blocks.{index}", f"b{resolution}"
        names |= {**_pair(f"{ours}.conv1", f"{theirs}.conv0"), **_pair(f"{ours}.conv2", f"{theirs}.conv1"),
                  f"{ours}.skip.weight": f"{theirs}.skip.weight"}
    return names


ROSINALITY = Layout("rosinality", _rosinality_generator, _rosinality_discriminator, ("g_ema.", ""), ("d.", ""),
                    ".kernel", shared=("latent_avg",), optional=("latent_avg", "noises."))
NVIDIA = Layout("NVIDIA", _nvidia_generator, _nvidia_discriminator, ("G_ema.", "G.", ""), ("D.", ""),
                "resample_filter")


@dataclass(frozen=True)
class Networks:
    """The networks of a file, with the names of `StyleGAN2` and `Discriminator`.

    Attributes:
        config: sizes; without a generator, those of the mapping network mean nothing.
        generator: state of a `StyleGAN2`, float32; None if the file has none.
        discriminator: state of a `Discriminator`, float32; None if the file has none.
        names: the file's name of every tensor that was used -> ours, after ``generator.`` or ``discriminator.``.
    """

    config: StyleGAN2Config
    generator: dict[str, Tensor] | None
    discriminator: dict[str, Tensor] | None
    names: dict[str, str]


def translate(tensors: Mapping[str, Tensor], layout: Layout, source: str) -> Networks:
    """Rename a file's tensors, strictly: every tensor of a network is used, none may be missing.

    Two things that are not learned may be absent from rosinality files. Without ``latent_avg`` (training checkpoints)
    the mean code is measured from the mapping network; without any ``noises.*`` (files from before April 2020) the
    constant noise is drawn, always the same.

    Args:
        tensors: the file's, nested dictionaries joined by dots.
        layout: `ROSINALITY` or `NVIDIA`.
        source: name of the file in messages.
    """
    blank = StyleGAN2Config(_LARGEST)
    prefix, generator = _select(tensors, layout.generator_prefixes, layout.generator(blank)["constant"])
    other_prefix, discriminator = _select(tensors, layout.discriminator_prefixes,
                                          layout.discriminator(blank)["conv.weight"])
    if generator is None and discriminator is None:
        raise ModelError(f"{source} holds no StyleGAN2 in the {layout.name} layout: expected a generator with "
                         f"{layout.generator(blank)['constant']!r} or a discriminator with "
                         f"{layout.discriminator(blank)['conv.weight']!r}, {_found(tensors)}")
    configs = []
    names: dict[str, str] = {}
    if generator is not None:
        shared = {name: tensors[name] for name in layout.shared if name in tensors}
        config, generator, used = translate_generator({**generator, **shared}, layout, source)
        names |= {theirs if theirs in shared else prefix + theirs: f"generator.{ours}" for theirs, ours in used.items()}
        configs.append(config)
    if discriminator is not None:
        config = _discriminator_config(discriminator, layout, source)
        names |= {other_prefix + theirs: f"discriminator.{ours}"
                  for ours, theirs in layout.discriminator(config).items()}
        discriminator = _rename(discriminator, layout, layout.discriminator(config), config, Discriminator,
                                f"{source}: discriminator")
        configs.append(config)
    if _widths(configs[0]) != _widths(configs[-1]):
        raise ModelError(f"{source}: generator ({_describe(configs[0])}) and discriminator ({_describe(configs[1])}) "
                         "differ")
    return Networks(configs[0], generator, discriminator, names)


def translate_generator(tensors: Mapping[str, Tensor], layout: Layout, source: str
                        ) -> tuple[StyleGAN2Config, dict[str, Tensor], dict[str, str]]:
    """Rename a generator's tensors, as `translate` does.

    Args:
        tensors: the generator's, by the layout's names without a prefix.
        layout: of the names.
        source: name of the file in messages.

    Returns:
        Its sizes, the state of a `StyleGAN2`, and for every tensor that was used its name and ours.
    """
    config = _generator_config(tensors, layout, source)
    names = layout.generator(config)
    state = _rename(tensors, layout, names, config, StyleGAN2, f"{source}: generator")
    return config, _complete(state, config), {theirs: ours for ours, theirs in names.items() if theirs in tensors}


def _select(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...], marker: str
            ) -> tuple[str, dict[str, Tensor] | None]:
    """The first prefix with which ``marker`` is there, and the tensors that have it, without it."""
    for prefix in prefixes:
        if prefix + marker in tensors:
            return prefix, {name.removeprefix(prefix): tensor for name, tensor in tensors.items()
                            if name.startswith(prefix)}
    return "", None


def _generator_config(tensors: Mapping[str, Tensor], layout: Layout, source: str) -> StyleGAN2Config:
    names = layout.generator(StyleGAN2Config(_LARGEST, mapping_layers=_DEEPEST))
    channels = {resolution: _dimension(tensors[name], -3, source, name)
                for index, resolution in enumerate(StyleGAN2Config(_LARGEST).resolutions)
                if (name := names[f"to_rgb.{index}.conv.weight"]) in tensors}
    mapping = [name for index in range(_DEEPEST) if (name := names[f"mapping.layers.{index}.weight"]) in tensors]
    if not mapping:
        raise ModelError(f"{source} has no mapping network: expected {names['mapping.layers.0.weight']!r}")
    return _config(channels, source, _dimension(tensors[mapping[0]], -1, source, mapping[0]), len(mapping))


def _discriminator_config(tensors: Mapping[str, Tensor], layout: Layout, source: str) -> StyleGAN2Config:
    for size in reversed(StyleGAN2Config(_LARGEST).resolutions[1:]):
        config = StyleGAN2Config(size)
        names = layout.discriminator(config)
        weights = [names[f"blocks.{index}.conv1.weight"] for index in range(len(config.resolutions) - 1)]
        if names["from_rgb.weight"] in tensors and weights[-1] in tensors:
            weights = [names["conv.weight"], *reversed(weights)]  # coarse to fine
            return _config({resolution: _dimension(tensors[name], 0, source, name)
                            for resolution, name in zip(config.resolutions, weights, strict=True) if name in tensors},
                           source)
    raise ModelError(f"{source}: expected a discriminator with a first convolution and residual blocks down to 8x8")


def _config(channels: dict[int, int], source: str, code_width: int = 512, mapping_layers: int = 8) -> StyleGAN2Config:
    """The configuration with these channels by resolution."""
    size = max(channels, default=0)
    if size <= BASE or len(channels) != len(StyleGAN2Config(size).resolutions):
        raise ModelError(f"{source}: expected layers at {BASE}x{BASE}, {2 * BASE}x{2 * BASE} and every doubling, found "
                         f"them at {', '.join(map(str, channels)) or 'none'}")
    config = StyleGAN2Config(size, size * channels[size], max(channels.values()), code_width, mapping_layers)
    if _widths(config) != tuple(channels.values()):
        raise ModelError(f"{source}: expected channels that halve with every resolution from some maximum on, got "
                         f"{', '.join(f'{count} at {resolution}' for resolution, count in channels.items())}")
    return config


def _widths(config: StyleGAN2Config) -> tuple[int, ...]:
    return tuple(config.channels(resolution) for resolution in config.resolutions)


def _dimension(tensor: Tensor, index: int, source: str, name: str) -> int:
    """One dimension of a weight that the configuration is read from."""
    if tensor.ndim < 2 or tensor.ndim < -index or not tensor.numel():
        raise ModelError(f"{source}: {name} has the shape {list(tensor.shape)}, expected a weight")
    return tensor.shape[index]


def _rename(tensors: Mapping[str, Tensor], layout: Layout, names: Mapping[str, str], config: StyleGAN2Config,
            network: Callable[[StyleGAN2Config], nn.Module], source: str) -> dict[str, Tensor]:
    """A network's state under our names, float32, after all checks."""
    spared = tuple(start for start in layout.optional if not any(name.startswith(start) for name in tensors))
    filters = {name: FILTER for name in tensors if name.endswith(layout.filter_suffix)}
    for name in filters:
        _check_filter(tensors[name], f"{source}: {name}")
    with torch.device("meta"):
        wanted = network(config).state_dict()
    return place(TensorFile(Path(source), "", tensors), wanted, unused=filters,
                 theirs=lambda ours: None if names[ours].startswith(spared) else names[ours]).state


def _complete(state: dict[str, Tensor], config: StyleGAN2Config) -> dict[str, Tensor]:
    """A generator's state, completed by absent tensors that are not learned: constant noise, mean code."""
    if "layers.0.noise" not in state:
        random = torch.Generator().manual_seed(0)
        state |= {f"layers.{index}.noise": torch.randn(1, 1, side, side, generator=random)
                  for index, side in enumerate(config.layer_resolutions)}
    if "mean_code" not in state:
        mapping = MappingNetwork(config.code_width, config.mapping_layers)
        mapping.load_state_dict({name.removeprefix("mapping."): tensor for name, tensor in state.items()
                                 if name.startswith("mapping.")})
        state["mean_code"] = mean_code(mapping, config.code_width)
    return state


def _check_filter(kernel: Tensor, source: str) -> None:
    taps = torch.tensor(BILINEAR)
    wanted = torch.outer(taps, taps) / taps.sum() ** 2
    kernel = kernel.float().cpu()
    if kernel.ndim == 1:
        kernel = torch.outer(kernel, kernel)
    if kernel.shape != wanted.shape or not torch.allclose(kernel / kernel.sum(), wanted, atol=1e-4):
        raise ModelError(f"{source} is another low-pass filter than [1, 3, 3, 1], which all published networks use")


def _describe(config: StyleGAN2Config) -> str:
    return f"{config.size}x{config.size}, channels {', '.join(map(str, _widths(config)))}"


def _found(tensors: Mapping[str, Tensor]) -> str:
    return f"found {', '.join(sorted(tensors)[:4])}, ..." if tensors else "found no tensors"


_LICENCE = f"the file states none; NVIDIA's networks: {NVIDIA_LICENCE}"
_MADE = {"mean_code": "the mean of 10,000 mapped codes: the file has none",
         "noise": "drawn from a seed: the file has no noise"}


class Conversion(NamedTuple):
    """Result of `convert`.

    Attributes:
        config: sizes of the networks.
        parameters: trainable numbers by network, ``{"generator": 30370060, "discriminator": 29012513}``.
        tensor_map: of the source.
    """

    config: StyleGAN2Config
    parameters: dict[str, int]
    tensor_map: TensorMap


def convert(source: Path, target: Path, layout: Layout, force: bool = False) -> Conversion:
    """Rewrite a public checkpoint as a weight file.

    Args:
        source: ``.safetensors`` or a torch file of plain tensors.
        target: the safetensors file to write.
        layout: of the source.
        force: whether to replace ``target`` if it exists.
    """
    if target.is_dir():
        inside = target / f"{source.stem}.safetensors"
        raise ModelError(f"{target} is a folder, and the result is one file; name it, for example {inside}")
    if target.exists() and not force:
        raise ExistsError(target)
    tensors = read_tensors(source)
    networks = translate(tensors, layout, str(source))
    parts = {"generator": networks.generator, "discriminator": networks.discriminator}
    states = {name: state for name, state in parts.items() if state is not None}
    digest = file_sha256(source)
    write_states(target, networks.config, states, force, {
        "layout": layout.name, "source": source.name, "source_sha256": digest, "licence": _LICENCE,
        "origin": f"{source.name}, SHA-256 {digest[:16]}"})
    ours = {f"{network}.{name}" for network, state in states.items() for name in state}
    unused = {name: FILTER if name.endswith(layout.filter_suffix) else "no part of the generator or the discriminator"
              for name in sorted(tensors.keys() - networks.names.keys())}
    made = {name: _MADE[name.rpartition(".")[2]] for name in sorted(ours - set(networks.names.values()))}
    return Conversion(networks.config, {name: _parameters(networks.config, name) for name in states},
                      TensorMap(source.name, digest, networks.names, unused, made))


def _parameters(config: StyleGAN2Config, network: str) -> int:
    with torch.device("meta"):
        module = StyleGAN2(config) if network == "generator" else Discriminator(config)
    return sum(parameter.numel() for parameter in module.parameters())
