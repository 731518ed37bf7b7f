"""Public StyleGAN2 checkpoints: both layouts, computed here from their raw tensors, against the converted networks.

The references below are written for the files' own names and conventions and share no code with the package: weights
modulated per picture, transposed convolutions or zero insertion.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from codec_contract.errors import ModelError
from edgegrain.papers import convert as conversion
from edgegrain.papers.convert import Options, Report
from edgegrain.papers.stylegan.checkpoints import NVIDIA, ROSINALITY, Layout, load_stylegan2_checkpoint
from edgegrain.training.adversarial import Discriminator, load_discriminator
from server_decoder.prior_store import prior_licence
from server_decoder.stylegan2.networks import StyleGAN2, StyleGAN2Config, load_stylegan2, save_stylegan2
from tests.official_checkpoints import FILTER, Tensors, stylegan2_generator
from tests.parity.test_official_networks import filtered, fused, stylegan2
from tests.unit.edgegrain.conftest import same

CHANNELS = {4: 12, 8: 12, 16: 8, 32: 4}
CONFIG = StyleGAN2Config(32, channel_base=128, channel_max=12, code_width=10, mapping_layers=3)
WIDTH, MAPPING, SIDES = 10, 3, (4, 8, 16, 32)


# --- synthetic checkpoints -------------------------------------------------------------------------------------------


def rosinality_generator() -> Tensors:
    return stylegan2_generator(CHANNELS, code=WIDTH, mapping=MAPPING)


def rosinality_discriminator() -> Tensors:
    shapes = {"convs.0.0.weight": (4, 3, 1, 1), "convs.0.1.bias": (4,)}
    shapes |= {"final_conv.0.weight": (12, 13, 3, 3), "final_conv.1.bias": (12,)}
    shapes |= {"final_linear.0.weight": (12, 192), "final_linear.0.bias": (12,)}
    shapes |= {"final_linear.1.weight": (1, 12), "final_linear.1.bias": (1,)}
    for block, side in enumerate(reversed(SIDES[1:]), start=1):
        name, inputs, outputs = f"convs.{block}", CHANNELS[side], CHANNELS[side // 2]
        shapes |= {f"{name}.conv1.0.weight": (inputs, inputs, 3, 3), f"{name}.conv1.1.bias": (inputs,)}
        shapes |= {f"{name}.conv2.1.weight": (outputs, inputs, 3, 3), f"{name}.conv2.2.bias": (outputs,)}
        shapes[f"{name}.skip.1.weight"] = (outputs, inputs, 1, 1)
    filters = (f"convs.{block}.{part}.0.kernel" for block in (1, 2, 3) for part in ("conv2", "skip"))
    return {name: torch.randn(shape) for name, shape in shapes.items()} | {name: FILTER.clone() for name in filters}


def rosinality_file() -> dict[str, object]:
    generator = rosinality_generator()
    return {
        "g": {name: torch.zeros_like(tensor) for name, tensor in generator.items()},
        "g_ema": generator,
        "d": rosinality_discriminator(),
        "latent_avg": torch.randn(WIDTH),
        "g_optim": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.002}]},
        "args": argparse.Namespace(size=32, latent=WIDTH),
    }


def nvidia_generator() -> Tensors:
    t: Tensors = {"mapping.w_avg": torch.randn(WIDTH), "synthesis.b4.const": torch.randn(12, 4, 4)}
    for index in range(MAPPING):
        t[f"mapping.fc{index}.weight"] = 100 * torch.randn(WIDTH, WIDTH)
        t[f"mapping.fc{index}.bias"] = 20 * torch.randn(WIDTH)
    for side in SIDES:
        t[f"synthesis.b{side}.resample_filter"] = FILTER.clone()
        for layer in ("conv1", "torgb") if side == 4 else ("conv0", "conv1", "torgb"):
            name, inputs = f"synthesis.b{side}.{layer}", CHANNELS[side // 2 if layer == "conv0" else side]
            outputs, kernel = (3, 1) if layer == "torgb" else (CHANNELS[side], 3)
            t |= {f"{name}.weight": torch.randn(outputs, inputs, kernel, kernel), f"{name}.bias": torch.randn(outputs)}
            t[f"{name}.affine.weight"] = torch.randn(inputs, WIDTH)
            t[f"{name}.affine.bias"] = 1 + 0.3 * torch.randn(inputs)
            if layer != "torgb":
                t |= {f"{name}.noise_strength": torch.randn(()), f"{name}.noise_const": torch.randn(side, side)}
                t[f"{name}.resample_filter"] = FILTER.clone()
    return t


def nvidia_discriminator() -> Tensors:
    shapes = {"b32.fromrgb": (4, 3, 1, 1), "b4.conv": (12, 13, 3, 3), "b4.fc": (12, 192), "b4.out": (1, 12)}
    for side in SIDES[1:]:
        inputs, outputs = CHANNELS[side], CHANNELS[side // 2]
        shapes |= {f"b{side}.conv0": (inputs, inputs, 3, 3), f"b{side}.conv1": (outputs, inputs, 3, 3)}
        shapes[f"b{side}.skip"] = (outputs, inputs, 1, 1)
    t = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    t |= {f"{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items() if not name.endswith("skip")}
    filtering = [name for name, shape in shapes.items() if len(shape) == 4] + [f"b{side}" for side in SIDES[1:]]
    return t | {f"{name}.resample_filter": FILTER.clone() for name in filtering}


# --- what those files mean -------------------------------------------------------------------------------------------


def resample(x: Tensor, kernel: Tensor, pad: tuple[int, int], up: int = 1, down: int = 1) -> Tensor:
    """Zeros after every pixel, zeros around (before, after), convolution with the kernel, every ``down``-th value."""
    batch, channels, height, width = x.shape
    sparse = x.new_zeros(batch, channels, height * up, width * up)
    sparse[:, :, ::up, ::up] = x
    planes = F.pad(sparse, (*pad, *pad)).flatten(0, 1)[:, None]
    out = F.conv2d(planes, kernel.flip(0, 1)[None, None])[:, :, ::down, ::down]
    return out.reshape(batch, channels, *out.shape[-2:])


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def dense(x: Tensor, weight: Tensor, bias: Tensor, rate: float = 1.0) -> Tensor:
    return x @ (weight * rate / math.sqrt(weight.shape[1])).T + bias * rate


def mapped(z: Tensor, t: Tensors, name: str, first: int) -> Tensor:
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for index in range(first, first + MAPPING):
        x = lrelu(dense(x, t[f"{name}{index}.weight"], t[f"{name}{index}.bias"], rate=0.01))
    return x


def per_picture_weights(weight: Tensor, style: Tensor, demodulate: bool) -> Tensor:
    weight = weight[None] * style[:, None, :, None, None]  # [B, out, in, k, k]
    return weight / (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt() if demodulate else weight


def nvidia_picture(t: Tensors, codes: Tensor) -> Tensor:
    def styled(name: str, x: Tensor, code: Tensor, up: bool) -> Tensor:
        style = dense(code, t[f"{name}.affine.weight"], t[f"{name}.affine.bias"])
        weights = per_picture_weights(t[f"{name}.weight"], style, True)  # demodulation makes their scale irrelevant
        if up:  # first the filter on the spread pixels, then a true convolution: conv2d correlates, so mirror
            x = resample(x, 4 * t[f"{name}.resample_filter"], (3, 2), up=2)
            x = torch.cat([F.conv2d(a[None], w.flip(2, 3)) for a, w in zip(x, weights, strict=True)])
        else:
            x = torch.cat([F.conv2d(a[None], w, padding=1) for a, w in zip(x, weights, strict=True)])
        x = x + t[f"{name}.noise_const"] * t[f"{name}.noise_strength"]
        return lrelu(x + t[f"{name}.bias"].view(1, -1, 1, 1))

    x, index, picture = t["synthesis.b4.const"].repeat(len(codes), 1, 1, 1), 0, torch.zeros(len(codes), 3, 2, 2)
    for side in SIDES:
        name = f"synthesis.b{side}"
        if side > 4:
            x, index = styled(f"{name}.conv0", x, codes[:, index], True), index + 1
        x, index = styled(f"{name}.conv1", x, codes[:, index], False), index + 1
        style = dense(codes[:, index], t[f"{name}.torgb.affine.weight"], t[f"{name}.torgb.affine.bias"])
        style = style / math.sqrt(CHANNELS[side])
        weights = per_picture_weights(t[f"{name}.torgb.weight"], style, False)
        rgb = torch.cat([F.conv2d(a[None], w) for a, w in zip(x, weights, strict=True)])
        picture = resample(picture, 4 * t[f"{name}.resample_filter"], (2, 1), up=2)
        picture = picture + rgb + t[f"{name}.torgb.bias"].view(1, 3, 1, 1)
    return picture


def with_deviation(x: Tensor) -> Tensor:
    """Four pictures, one group."""
    deviation = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
    return torch.cat([x, deviation.expand(len(x), 1, 4, 4)], 1)


def conv(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(x, weight / math.sqrt(weight[0].numel()), stride=stride, padding=padding)


def rosinality_scores(t: Tensors, pictures: Tensor) -> Tensor:
    x = fused(conv(pictures, t["convs.0.0.weight"]), t["convs.0.1.bias"])
    for block in (1, 2, 3):
        name = f"convs.{block}"
        y = fused(conv(x, t[f"{name}.conv1.0.weight"], padding=1), t[f"{name}.conv1.1.bias"])
        y = fused(conv(filtered(y, 2, 2), t[f"{name}.conv2.1.weight"], stride=2), t[f"{name}.conv2.2.bias"])
        x = (y + conv(filtered(x, 1, 1), t[f"{name}.skip.1.weight"], stride=2)) / math.sqrt(2)
    x = fused(conv(with_deviation(x), t["final_conv.0.weight"], padding=1), t["final_conv.1.bias"])
    x = lrelu(dense(x.flatten(1), t["final_linear.0.weight"], t["final_linear.0.bias"]))
    return dense(x, t["final_linear.1.weight"], t["final_linear.1.bias"])[:, 0]


def nvidia_scores(t: Tensors, pictures: Tensor) -> Tensor:
    def act(x: Tensor, name: str, gain: float = 1.0) -> Tensor:
        return lrelu(x + t[name].view(1, -1, 1, 1)) * gain

    x, half = act(conv(pictures, t["b32.fromrgb.weight"]), "b32.fromrgb.bias"), math.sqrt(0.5)
    for side in (32, 16, 8):
        name = f"b{side}"
        skip = conv(resample(x, t[f"{name}.skip.resample_filter"], (1, 1), down=2), t[f"{name}.skip.weight"]) * half
        y = act(conv(x, t[f"{name}.conv0.weight"], padding=1), f"{name}.conv0.bias")
        y = resample(y, t[f"{name}.conv1.resample_filter"], (2, 2))
        x = skip + act(conv(y, t[f"{name}.conv1.weight"], stride=2), f"{name}.conv1.bias", half)
    x = act(conv(with_deviation(x), t["b4.conv.weight"], padding=1), "b4.conv.bias")
    x = lrelu(dense(x.flatten(1), t["b4.fc.weight"], t["b4.fc.bias"]))
    return dense(x, t["b4.out.weight"], t["b4.out.bias"])[:, 0]


# --- tests -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rosinality(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(rosinality_file(), tmp_path / "rosinality.pt")
    return tmp_path / "rosinality.pt"


def convert(path: Path, out: Path, layout: Layout = ROSINALITY) -> Report:
    return conversion.convert(f"stylegan2-{layout.name.lower()}", [path], out, Options())


def loaded(tensors: Tensors, layout: Layout, folder: Path) -> Any:
    """The generator, or the discriminator alone."""
    save_file(tensors, folder / "file.safetensors")
    networks, _ = load_stylegan2_checkpoint(folder / "file.safetensors", layout)
    return next(iter(networks.values()))


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """z, another code for every layer, pictures."""
    generator = torch.Generator().manual_seed(7)
    z, codes, small = (torch.randn(4, *shape, generator=generator) for shape in ((WIDTH,), (8, WIDTH), (3, 4, 4)))
    return z, codes, 3 * F.interpolate(small, (32, 32), mode="bilinear")


def check(got: Tensor, wanted: Tensor) -> None:
    assert wanted.std() > 0.1
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("layout", [ROSINALITY, NVIDIA], ids=lambda layout: layout.name)
@torch.no_grad()
def test_a_converted_checkpoint_computes_the_same(layout: Layout, tmp_path: Path) -> None:
    content: dict[str, Any] = rosinality_file()
    t, d, mean, mapping, scores = content["g_ema"], content["d"], content["latent_avg"], "style.", rosinality_scores
    if layout is NVIDIA:
        content = {"G_ema": nvidia_generator(), "D": nvidia_discriminator()}
        t, d, scores = content["G_ema"], content["D"], nvidia_scores
        mean, mapping = t["mapping.w_avg"], "mapping.fc"
    torch.save(content, tmp_path / "theirs.pt")
    report = convert(tmp_path / "theirs.pt", tmp_path / "ours.safetensors", layout)
    generator, discriminator = (load(tmp_path / "ours.safetensors") for load in (load_stylegan2, load_discriminator))
    assert generator.config == CONFIG and not generator.training
    parts = {"generator": generator, "discriminator": discriminator}
    assert report.parameters == {name: conversion.count(network) for name, network in parts.items()}
    assert torch.equal(generator.mean_code, mean)
    z, codes, pictures = inputs()
    check(generator.map(z), mapped(z, t, mapping, 1 if layout is ROSINALITY else 0))
    picture = nvidia_picture(t, codes) if layout is NVIDIA else stylegan2(t, codes)[0]
    check(generator(codes).picture, picture)
    check(discriminator(pictures), scores(d, pictures))


def test_a_1024_like_checkpoint_can_be_cut(rosinality: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours.safetensors"
    convert(rosinality, ours)
    whole, cut = load_stylegan2(ours), load_stylegan2(ours, CONFIG.cut(16), cut_to=16)
    _, codes, _ = inputs()
    with torch.no_grad():
        picture, features = cut(codes[:, :6])
        wanted = whole(codes)
    assert picture.shape == (4, 3, 16, 16)
    check(features[16], wanted.features[16])
    assert torch.equal(cut.mean_code, whole.mean_code)
    with pytest.raises(ModelError, match="cannot cut this generator to 64x64"):
        load_stylegan2(ours, cut_to=64)
    with pytest.raises(ModelError, match=r"size=32.*expected .*size=16.*cut_to=16 drops finer layers"):
        load_stylegan2(ours, CONFIG.cut(16))


def test_the_header_tells_where_the_weights_came_from(rosinality: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours.safetensors"
    convert(rosinality, ours)
    with safe_open(ours, "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "edgegrain-stylegan2-1"
    assert StyleGAN2Config(**json.loads(metadata["config"])) == CONFIG
    assert (metadata["layout"], metadata["source"]) == ("rosinality", "rosinality.pt")
    assert len(metadata["source_sha256"]) == 64
    assert prior_licence(ours) == (
        f"rosinality.pt, SHA-256 {metadata['source_sha256'][:16]}: the file states none; "
        "NVIDIA's networks: Nvidia Source Code License-NC, non-commercial use only"
    )
    with pytest.raises(ModelError, match=r"is a folder, .* name it, for example .*rosinality\.safetensors"):
        convert(rosinality, tmp_path)


BARE = [(nvidia_generator, NVIDIA), (nvidia_discriminator, NVIDIA)]
BARE += [(rosinality_generator, ROSINALITY), (rosinality_discriminator, ROSINALITY)]


@pytest.mark.parametrize(("make", "layout"), BARE)
def test_a_file_may_hold_one_bare_network(make: Callable[[], Tensors], layout: Layout, tmp_path: Path) -> None:
    save_file(make(), tmp_path / "theirs.safetensors")
    ours, part = tmp_path / "ours.safetensors", make.__name__.partition("_")[2]
    assert list(convert(tmp_path / "theirs.safetensors", ours, layout).parameters) == [part]
    loaders: dict[str, Callable[[Path], Any]] = {"generator": load_stylegan2, "discriminator": load_discriminator}
    assert loaders.pop(part)(ours).config.size == 32
    for load in loaders.values():
        with pytest.raises(ModelError, match="holds no"):
            load(ours)


def test_without_a_stored_mean_the_mapping_network_is_asked(tmp_path: Path) -> None:
    tensors = rosinality_generator()
    generator = loaded({f"g_ema.{name}": tensor for name, tensor in tensors.items()}, ROSINALITY, tmp_path)
    w = mapped(torch.randn(20_000, WIDTH, generator=torch.Generator().manual_seed(1)), tensors, "style.", 1)
    assert (generator.mean_code - w.mean(0)).abs().max() < 0.05 * w.std()


def test_old_files_have_no_noise_and_get_the_same_every_time(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in rosinality_generator().items() if not name.startswith("noises.")}
    first, again = (loaded(tensors, ROSINALITY, tmp_path) for _ in range(2))
    noises = [layer.noise for layer in first.layers]
    assert all(torch.equal(noise, layer.noise) for noise, layer in zip(noises, again.layers, strict=True))
    assert abs(float(noises[6].std()) - 1) < 0.1
    assert not torch.equal(noises[5], noises[6])
    with pytest.raises(ModelError, match=r"6 tensors missing \(noises\.noise_0"):
        loaded({**tensors, "noises.noise_3": torch.zeros(1, 1, 16, 16)}, ROSINALITY, tmp_path)


@pytest.mark.parametrize(("make", "layout"), BARE)
def test_every_tensor_is_needed_and_no_other_taken(make: Callable[[], Tensors], layout: Layout, tmp_path: Path) -> None:
    tensors = make()
    loaded(tensors, layout, tmp_path)
    needed = [name for name in tensors if not name.endswith(("kernel", "resample_filter"))]  # constants may be absent
    for name in needed[::7]:
        with pytest.raises(ModelError):
            loaded({other: tensor for other, tensor in tensors.items() if other != name}, layout, tmp_path)
    with pytest.raises(ModelError, match=r"1 tensor unknown \(mapping\.embed\.weight"):
        loaded(tensors | {"mapping.embed.weight": torch.zeros(2)}, layout, tmp_path)


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    shape, channels = torch.zeros(8, 8, 1, 1), torch.zeros(3, 7, 1, 1)
    misshapen = r"b16\.conv1\.weight is \[8, 8, 1, 1\], expected \[8, 8, 3, 3\]"
    for layout, tensors, message in (
        (NVIDIA, nvidia_generator() | {"synthesis.b16.conv1.weight": shape}, misshapen),
        (NVIDIA, nvidia_generator() | {"synthesis.b16.torgb.weight": channels}, "12 at 4, 12 at 8, 7 at 16, 4 at 32"),
        (ROSINALITY, nvidia_generator(), "rosinality layout: expected a generator with 'input.input'"),
        (ROSINALITY, {"conv.weight": shape}, r"expected a generator with .* found conv\.weight"),
    ):
        with pytest.raises(ModelError, match=message):
            loaded(tensors, layout, tmp_path)


@pytest.mark.parametrize("load", [load_stylegan2, load_discriminator])
def test_files_of_others_are_no_priors(load: Callable[[Path], object], tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("other", "absent"):
        with pytest.raises(ModelError, match="edgegrain convert --from stylegan2-"):
            load(tmp_path / f"{name}.safetensors")


def test_networks_of_ours_round_trip(tmp_path: Path) -> None:
    generator, discriminator = StyleGAN2(CONFIG), Discriminator(CONFIG)
    path = tmp_path / "ours.safetensors"
    save_stylegan2(path, generator, discriminator, metadata={"pictures": "12"})
    assert same(load_stylegan2(path, CONFIG), generator) and same(load_discriminator(path, CONFIG), discriminator)
    with safe_open(path, "pt") as file:
        assert file.metadata()["pictures"] == "12"
    with pytest.raises(ModelError, match="expected"):
        load_discriminator(path, CONFIG.cut(16))
    tensors, header = load_file(path), {"format": "edgegrain-stylegan2-1", "config": json.dumps({"size": 32})}
    save_file(tensors, path, metadata=header)
    with pytest.raises(ModelError, match="does not fit the sizes in its header"):
        load_stylegan2(path)
