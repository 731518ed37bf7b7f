"""StyleGAN2's generator in configuration F ([StyleGAN2] Section 4, Appendix B), and its weight files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder.generative_prior import GenerativePrior, Noise, Offsets, Synthesis, Window, with_offset
from server_decoder.stylegan2.layers import BilinearFilter, MappingNetwork, StyledLayer, ToRGB, mean_code
from server_decoder.weight_file import WeightKind, described_network, fill, read_config, read_weights, save_network

BASE = 4  # side of the learned constant


@dataclass(frozen=True)
class StyleGAN2Config:
    """Sizes of a StyleGAN2; the defaults are configuration F's ([StyleGAN2] Appendix B)."""

    size: int = 1024  # side of its picture, a power of two
    channel_base: int = 32768  # a layer at resolution r has ``min(channel_max, channel_base // r)`` channels
    channel_max: int = 512  # most channels of a layer
    code_width: int = 512  # length of z and of a code
    mapping_layers: int = 8  # fully connected layers from z to w

    def __post_init__(self) -> None:
        if self.size < 2 * BASE or self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two from {2 * BASE} on, got {self.size}")
        if min(self.channels(self.size), self.code_width, self.mapping_layers) < 1:
            raise ValueError(f"every layer needs channels, a code a width, the mapping a layer; got {self}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the feature maps: 4, 8, ..., size."""
        return tuple(2**power for power in range(BASE.bit_length() - 1, self.size.bit_length()))

    @property
    def layer_resolutions(self) -> tuple[int, ...]:
        """The resolution of every styled layer: one at 4, then two each. Noise comes one per layer."""
        return (BASE, *(resolution for resolution in self.resolutions[1:] for _ in range(2)))

    @property
    def code_resolutions(self) -> tuple[int, ...]:
        """The resolution each code steers: code i drives layer i, the last one only the last toRGB."""
        return (*self.layer_resolutions, self.size)

    def channels(self, resolution: int) -> int:
        return min(self.channel_max, self.channel_base // resolution)

    def cut(self, size: int) -> StyleGAN2Config:
        if size not in self.resolutions[1:]:
            raise ModelError(
                f"cannot cut this generator to {size}x{size}; it makes pictures at "
                f"{', '.join(map(str, self.resolutions[1:]))}"
            )
        return replace(self, size=size)


CONFIG_F_1024 = StyleGAN2Config()
CONFIG_F_512 = StyleGAN2Config(512)
CONFIG_F_256 = StyleGAN2Config(256)
TINY_64 = StyleGAN2Config(64, channel_base=512, channel_max=32, code_width=32, mapping_layers=2)


def mix_styles(coarse: Tensor, fine: Tensor, crossover: int | Tensor) -> Tensor:
    """Style mixing ([StyleGAN] Section 3.1): the first ``crossover`` codes of ``coarse``, the others of ``fine``.

    All codes are ``[B, L, code_width]``; ``crossover`` is one integer, or one for every picture, int64 ``[B]``.
    """
    if coarse.ndim != 3 or coarse.shape != fine.shape:
        raise ModelError(
            f"style mixing takes two tensors of codes [batch, codes, width], got {list(coarse.shape)} and "
            f"{list(fine.shape)}"
        )
    index = torch.arange(coarse.shape[1], device=coarse.device)
    limit = torch.as_tensor(crossover, device=coarse.device).reshape(-1, 1)
    return torch.where((index < limit)[:, :, None], coarse, fine)


class StyleGAN2(GenerativePrior):
    """Mapping and synthesis network.

    Code i steers layer i; the toRGB of a resolution shares its code with the first layer of the next. The picture is
    the sum of all toRGBs, each upsampled to the next resolution, so a generator that was cut makes the picture there.
    Of the ``layers``, coarse to fine, one is at 4x4, then two per resolution, the first of which upsamples.
    """

    def __init__(self, config: StyleGAN2Config = CONFIG_F_1024) -> None:
        super().__init__()
        self.config = config
        self.size = config.size
        self.code_width = width = config.code_width
        self.code_resolutions = config.code_resolutions
        self.feature_channels = {resolution: config.channels(resolution) for resolution in config.resolutions}
        self.mapping = MappingNetwork(width, config.mapping_layers)
        self.register_buffer("mean_code", torch.zeros(width))
        channels = [config.channels(resolution) for resolution in config.layer_resolutions]
        self.constant = nn.Parameter(torch.randn(1, channels[0], BASE, BASE))  # N(0, 1): [StyleGAN2] Appendix B
        sizes = zip(channels[:1] + channels, channels, config.layer_resolutions, strict=False)
        self.layers = nn.ModuleList(StyledLayer(*layer, width, up=index % 2 == 1) for index, layer in enumerate(sizes))
        self.to_rgb = nn.ModuleList(ToRGB(count, width) for count in self.feature_channels.values())
        self.filter = BilinearFilter()

    @torch.no_grad()
    def measure_mean_code(self, count: int = 10_000, seed: int = 0) -> None:
        """Set `mean_code` to the mean of ``count`` mapped latents, for truncation after training."""
        self.mean_code.copy_(mean_code(self.mapping, self.code_width, count, seed))

    def random_noise(self, batch: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Fresh noise from N(0, 1) for every layer, ``[batch, 1, r, r]``, of the parameters' type and device."""
        device = self.mean_code.device if generator is None else generator.device
        shapes = ((batch, 1, side, side) for side in self.config.layer_resolutions)
        return [torch.randn(shape, generator=generator, device=device).to(self.mean_code) for shape in shapes]

    def synthesize(self, codes: Tensor, noise: Noise, offsets: Offsets, window: Window | None = None) -> Synthesis:
        """`GenerativePrior.forward`, of whole pictures only."""
        if window is not None:
            raise ModelError("StyleGAN2 computes whole pictures only, no windows; train with window=0")
        x = with_offset(self.layers[0](self.constant, codes[:, 0], noise[0]), offsets.get(BASE))
        picture = self.to_rgb[0](x, codes[:, 1])
        features = {BASE: x}
        for index, resolution in enumerate(self.config.resolutions[1:], start=1):
            for layer in (2 * index - 1, 2 * index):
                x = self.layers[layer](x, codes[:, layer], noise[layer])
            x = with_offset(x, offsets.get(resolution))
            picture = self.filter.upsample(picture) + self.to_rgb[index](x, codes[:, 2 * index + 1])
            features[resolution] = x  # [B, C, resolution, resolution]
        return Synthesis(picture, features)


# Weight files: tensors ``generator.*``, ``discriminator.*`` or both, float32.
FORMAT = "edgegrain-stylegan2-1"
_KIND = WeightKind(
    "StyleGAN2",
    "config",
    lambda fields: StyleGAN2Config(**fields),
    {"format": FORMAT},
    "edgegrain convert --from stylegan2-rosinality makes such a file of a public checkpoint",
)


def save_stylegan2(
    path: Path,
    generator: StyleGAN2,
    discriminator: nn.Module | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
) -> None:
    """Write networks as a weight file."""
    states = {"generator": generator.state_dict(), "discriminator": discriminator.state_dict() if discriminator else {}}
    write_states(path, generator.config, states, force, metadata or {})


def load_stylegan2(path: Path, config: StyleGAN2Config | None = None, *, cut_to: int | None = None) -> StyleGAN2:
    """A generator from a weight file, in evaluation mode; ``config`` are the expected sizes.

    ``cut_to`` drops the layers above this resolution: the picture then is the sum of the toRGBs up to there.
    """
    stored, state = load_state(path, "generator")
    wanted = stored if cut_to is None else stored.cut(cut_to)
    if config is not None and config != wanted:
        hint = f"; cut_to={config.size} drops finer layers" if cut_to is None and config.size < stored.size else ""
        raise ModelError(f"{path} holds a generator of {wanted}, expected {config}{hint}")
    generator = described_network(path, lambda: StyleGAN2(wanted))
    # Layers are numbered from coarse to fine, so those of a cut generator keep their names.
    kept = generator.state_dict().keys()
    fill(generator, {name: tensor for name, tensor in state.items() if name in kept or cut_to is None}, path)
    return generator.eval()


def write_states(
    path: Path,
    config: StyleGAN2Config,
    states: Mapping[str, Mapping[str, Tensor]],
    force: bool,
    metadata: Mapping[str, str],
) -> None:
    """Write the state dicts of generator, discriminator or both, by these names."""
    state = {f"{network}.{name}": tensor for network, tensors in states.items() for name, tensor in tensors.items()}
    save_network(path, _KIND, asdict(config), state, entries=metadata, dtype=torch.float32, force=force)


def load_state(path: Path, network: str) -> tuple[StyleGAN2Config, dict[str, Tensor]]:
    """Configuration and the state of one network; the other network is not read."""
    config, state = read_config(path, _KIND), read_weights(path, _KIND, f"{network}.")
    if not state:
        raise ModelError(f"{path} holds no {network}")
    return config, state
