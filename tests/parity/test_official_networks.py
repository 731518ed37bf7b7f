"""The authors' networks, rewritten from the forward passes of their public code, and the package's on the same tensors.

The references share no code with the package: weights are modulated per picture, filters are convolutions of padded
pictures, lists run in the order of the files. Noise is the constant one of the package, where the authors draw it.
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgegrain.papers.face_sr.checkpoints import load_gcfsr_checkpoint, load_glean_checkpoint
from edgegrain.papers.grain.checkpoints import load_grain_checkpoint
from edgegrain.papers.irn.checkpoints import load_irn_checkpoint
from tests import official_checkpoints as official
from tests.official_checkpoints import FILTER, GRAIN_TRUNKS, Tensors


def assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape and expected.std() > 0
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def conv(t: Tensors, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = t[f"{name}.weight"]
    return F.conv2d(x, weight, t.get(f"{name}.bias"), stride, weight.shape[-1] // 2)


def bend(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def fused(x: Tensor, bias: Tensor) -> Tensor:
    return 2**0.5 * bend(x + bias.reshape(1, -1, *[1] * (x.ndim - 2)))


def filtered(x: Tensor, before: int, after: int, gain: float = 1.0) -> Tensor:
    planes = F.pad(x, (before, after, before, after))
    return F.conv2d(planes, gain * FILTER.expand(x.shape[1], 1, 4, 4), groups=x.shape[1])


def enlarged(x: Tensor) -> Tensor:
    sparse = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    sparse[..., ::2, ::2] = x
    return filtered(sparse, 2, 1, 4)


def modulated(
    x: Tensor, code: Tensor, weight: Tensor, affine: tuple[Tensor, Tensor], *, up: bool = False, demodulate: bool = True
) -> Tensor:
    scale = weight[0, 0].numel() ** -0.5
    results = []
    for picture, w in zip(x, code, strict=True):
        style = affine[0] @ w * len(w) ** -0.5 + affine[1]
        kernel = scale * weight[0] * style[None, :, None, None]
        if demodulate:
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            results.append(filtered(F.conv_transpose2d(picture[None], kernel.transpose(0, 1), stride=2), 1, 1, 4))
        else:
            results.append(F.conv2d(picture[None], kernel, padding=kernel.shape[-1] // 2))
    return torch.cat(results)


def dense(t: Tensors, name: str, x: Tensor, convs: int = 5) -> Tensor:
    features = [x]
    for index in range(1, convs):
        features.append(bend(conv(t, f"{name}.conv{index}", torch.cat(features, 1))))
    return conv(t, f"{name}.conv{convs}", torch.cat(features, 1))


def rrdb(t: Tensors, name: str, x: Tensor, block: str = "RDB") -> Tensor:
    y = x
    for index in (1, 2, 3):
        y = 0.2 * dense(t, f"{name}.{block}{index}", y) + y
    return 0.2 * y + x


def stylegan2(t: Tensors, codes: Tensor, part: str = "") -> tuple[Tensor, list[Tensor]]:
    """Rosinality's generator: its picture, and the features of each size."""

    def affine(name: str) -> tuple[Tensor, Tensor]:
        return t[f"{name}.conv.modulation.weight"], t[f"{name}.conv.modulation.bias"]

    x, features, picture = t[f"{part}input.input"].expand(len(codes), -1, -1, -1), [], torch.zeros(())
    for index in range(codes.shape[1] - 1):
        name = f"{part}convs.{index - 1}" if index else f"{part}conv1"
        x = modulated(x, codes[:, index], t[f"{name}.conv.weight"], affine(name), up=index % 2 == 1)
        x = fused(x + t[f"{name}.noise.weight"] * t[f"{part}noises.noise_{index}"], t[f"{name}.activate.bias"])
        if index % 2 == 0:
            features.append(x)
            name = f"{part}to_rgbs.{index // 2 - 1}" if index else f"{part}to_rgb1"
            rgb = modulated(x, codes[:, index + 1], t[f"{name}.conv.weight"], affine(name), demodulate=False)
            picture = (enlarged(picture) if index else 0) + rgb + t[f"{name}.bias"]
    return picture, features


# --- GRAIN -----------------------------------------------------------------------------------------------------------


def grain_encoder(t: Tensors, picture: Tensor) -> Tensor:
    x = conv(t, "enc.conv_first", picture)
    for index in range(2):
        x = bend(conv(t, f"enc.body.{index}.0", x, 2))
    x = x + conv(t, "enc.trunk_conv", rrdb(t, "enc.RRDB_trunk.0", x))
    return conv(t, "enc.out.2", bend(conv(t, "enc.out.0", x)))


def grain_decoder(t: Tensors, lr: Tensor) -> tuple[Tensor, list[Tensor]]:
    x, features = conv(t, "dec.conv_first", lr), []
    for size, count in GRAIN_TRUNKS.items():
        y = x = x if size == 16 else F.interpolate(x, scale_factor=2, mode="nearest")
        for index in range(count):
            name = f"dec.RRDB_trunk{size}.{index}"
            if size == 64:
                y = 0.2 * (0.2 * dense(t, f"{name}.RDB1", y, 4) + y) + y
            else:
                y = rrdb(t, name, y)
        x = x + conv(t, f"dec.trunk_conv{size}", y)
        features.append(x)
    return conv(t, "dec.out.4", bend(conv(t, "dec.out.2", bend(conv(t, "dec.out.0", x))))), features


def grain_predictor(t: Tensors, features: list[Tensor]) -> Tensor:
    latents: list[Tensor] = []
    finer: Tensor | None = None
    for style in (4, 3, 2, 1, 0):
        name = f"encoder.styles.{style}"
        x = features[max(style - 2, 0)]
        x = x if finer is None else x + finer
        if style > 2:
            x = finer = bend(conv(t, f"{name}.conv_first.0", x, 2))
            for index in range(style - 3):
                x = bend(conv(t, f"{name}.convs.{2 * index}", x, 2))
        for head in (1, 2):
            y = x
            for index in range(4):
                y = bend(conv(t, f"{name}.convs{head}.{2 * index}", y, 2))
            latents.append(F.linear(y.flatten(1), t[f"{name}.linear{head}.weight"], t[f"{name}.linear{head}.bias"]))
    return torch.stack(latents[::-1], 1)


def squeezed(t: Tensors, name: str, x: Tensor) -> Tensor:
    return x * torch.sigmoid(conv(t, f"{name}.fc2", F.relu(conv(t, f"{name}.fc1", x.mean((2, 3), keepdim=True)))))


def grain_fused(t: Tensors, f_inv: list[Tensor], f_gen: list[Tensor]) -> Tensor:
    parts = []
    for index, (a, b) in enumerate(zip(f_inv, f_gen, strict=True), 1):
        x = squeezed(t, f"se{index}", torch.cat([a, b], 1))
        x = bend(conv(t, f"conv{index}.2", bend(conv(t, f"conv{index}.0", x))))
        parts.append(F.interpolate(x, scale_factor=2 ** (3 - index), mode="nearest") if index < 3 else x)
    x = squeezed(t, "se4", torch.cat(parts, 1))
    for index in range(4):
        x = bend(conv(t, f"out.{2 * index}", x))
    return conv(t, "out.8", x)


@torch.no_grad()
def test_grain(tmp_path: Path) -> None:
    files = official.grain_files()
    for name, content in files.items():
        torch.save(content, tmp_path / name)
    encoder, decoder, _ = load_grain_checkpoint([tmp_path / name for name in files])
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(8)) * 2 - 1
    lr = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(9)) * 2 - 1
    invertible, codes = official.grain_invertible(), official.grain_codes()
    assert_equal(encoder(picture), grain_encoder(invertible, picture))
    hr, features = grain_decoder(invertible, lr)
    latents = grain_predictor(codes, features) + files["stylegan2-ffhq-config-f.pt"]["latent_avg"]
    found, (_, generated) = decoder.forward_all(lr), stylegan2(codes, latents, "decoder.")
    assert_equal(found.invertible, hr)
    assert_equal(found.codes, latents)
    assert_equal(found.final, grain_fused(official.grain_fusion(), features, generated[-3:]))


# --- IRN -------------------------------------------------------------------------------------------------------------


def irn_forward(t: Tensors, x: Tensor) -> Tensor:
    for index in range(1 + max(int(name.split(".")[1]) for name in t)):
        name, channels = f"operations.{index}", x.shape[1]
        if f"{name}.conv_weights" in t:
            cells = x.unflatten(3, (-1, 3)).unflatten(2, (-1, 3)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
            bands = F.conv2d(cells, t[f"{name}.conv_weights"].repeat(channels, 1)[..., None, None], groups=channels)
            x = bands.unflatten(1, (channels, 9)).transpose(1, 2).flatten(1, 2)
            continue
        if f"{name}.haar_weights" in t:
            bands = F.conv2d(x, t[f"{name}.haar_weights"], stride=2, groups=channels) / 4
            x = bands.unflatten(1, (channels, 4)).transpose(1, 2).flatten(1, 2)
            continue
        low = x[:, :3] + dense(t, f"{name}.F", x[:, 3:])
        scale = torch.sigmoid(dense(t, f"{name}.H", low)) * 2 - 1
        x = torch.cat([low, x[:, 3:] * scale.exp() + dense(t, f"{name}.G", low)], 1)
    return x


@torch.no_grad()
@pytest.mark.parametrize(
    ("state", "size", "zipped"),
    [(official.irn_state(), (16, 24), False), (official.irn_x3_state(), (12, 18), True)],
    ids=["4x, as torch 1.x wrote it", "3x"],
)
def test_irn(state: Tensors, size: tuple[int, int], zipped: bool, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "irn.pth", _use_new_zipfile_serialization=zipped)
    irn, _ = load_irn_checkpoint(tmp_path / "irn.pth")
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(10))
    assert_equal(torch.cat(irn(x), 1), irn_forward(state, x))
    assert_equal(irn.inverse(*irn(x)), x)


# --- GLEAN -----------------------------------------------------------------------------------------------------------


def glean_forward(t: Tensors, lr: Tensor) -> Tensor:
    x = conv(t, "encoder.0.0.conv_first", lr)
    x = x + conv(t, "encoder.0.0.conv_body", rrdb(t, "encoder.0.0.body.0", x, "rdb"))
    f8 = bend(conv(t, "encoder.0.1", x))
    f4 = bend(conv(t, "encoder.1.2", bend(conv(t, "encoder.1.0", f8, 2))))
    flat = bend(conv(t, "encoder.2.0", f4)).flatten(1)
    latent = F.linear(flat, t["encoder.2.3.weight"], t["encoder.2.3.bias"]).view(len(lr), -1, official.CODE)

    def styled(index: int, g: Tensor) -> Tensor:
        name = f"generator.convs.{index - 1}" if index else "generator.conv1"
        affine = (t[f"{name}.conv.style_modulation.linear.weight_orig"], t[f"{name}.conv.style_modulation.bias"])
        g = modulated(g, latent[:, index], t[f"{name}.conv.weight_orig"], affine, up=index % 2 == 1)
        noise = t[f"{name}.noise_injector.weight"] * t[f"generator.injected_noise_{index}"]
        return fused(g + noise, t[f"{name}.activate.bias"])

    g = styled(0, t["generator.constant_input.input"].expand(len(lr), -1, -1, -1))
    details = []
    for block, encoded in enumerate((f4, f8, None)):
        if encoded is not None:
            g = conv(t, f"fusion_out.{block}", torch.cat([g, encoded], 1))
        g = styled(2 * block + 2, styled(2 * block + 1, g))
        details += [g] if g.shape[-1] > 8 else []
    hr = F.pixel_shuffle(conv(t, "decoder.0.upsample_conv", f8), 2)
    hr = F.pixel_shuffle(conv(t, "decoder.1.upsample_conv", torch.cat([hr, details[0]], 1)), 2)
    return conv(t, "decoder.2.2", bend(conv(t, "decoder.2.0", torch.cat([hr, details[1]], 1))))


@torch.no_grad()
def test_glean(tmp_path: Path) -> None:
    torch.save(official.glean_file(), tmp_path / "glean.pth")
    network, _ = load_glean_checkpoint(tmp_path / "glean.pth")
    lr = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(11)) * 2 - 1
    assert_equal(network(lr), glean_forward(official.glean_state(), lr))


# --- GCFSR -----------------------------------------------------------------------------------------------------------


def gcfsr_forward(t: Tensors, x: Tensor, in_size: Tensor, noise: list[Tensor]) -> Tensor:
    def layer(name: str, y: Tensor, down: bool = False) -> Tensor:
        weight = t[f"{name}.{int(down)}.weight"]
        weight = weight * weight[0].numel() ** -0.5
        y = F.conv2d(filtered(y, 2, 2), weight, stride=2) if down else F.conv2d(y, weight, padding=1)
        return fused(y, t[f"{name}.{int(down) + 1}.bias"])

    def styled(name: str, y: Tensor, code: Tensor, index: int, level: int | None = None) -> Tensor:
        affine = t[f"{name}.modulated_conv.modulation.weight"], t[f"{name}.modulated_conv.modulation.bias"]
        y = modulated(y, code, t[f"{name}.modulated_conv.weight"], affine, up=level is None)
        y = y + t[f"{name}.weight"] * noise[index]
        if level is not None:
            norm = (scales1[level] ** 2 + scales2[level] ** 2 + 1e-8).sqrt()
            y = y * (scales1[level] / norm)[..., None, None] + shifts[level] * (scales2[level] / norm)[..., None, None]
        return fused(y, t[f"{name}.activate.bias"])

    def to_rgb(name: str, y: Tensor, code: Tensor) -> Tensor:
        affine = t[f"{name}.modulated_conv.modulation.weight"], t[f"{name}.modulated_conv.modulation.bias"]
        return modulated(y, code, t[f"{name}.modulated_conv.weight"], affine, demodulate=False) + t[f"{name}.bias"]

    feat = layer("conv_body_first", x)
    scales1, scales2, shifts = [], [], []
    for index in range(3):
        feat = layer(f"conv_body_down.{index - 1}", feat, True) if index else feat
        scales1.append(F.linear(in_size, t[f"condition_scale1.{index}.weight"], t[f"condition_scale1.{index}.bias"]))
        scales2.append(F.linear(in_size, t[f"condition_scale2.{index}.weight"], t[f"condition_scale2.{index}.bias"]))
        weight, bias = t[f"condition_shift.{index}.0.weight"], t[f"condition_shift.{index}.0.bias"]
        shifts.append(F.conv2d(feat, weight * weight[0].numel() ** -0.5, bias, padding=1))
    scales1, scales2, shifts = scales1[::-1], scales2[::-1], shifts[::-1]
    flat = layer("final_down2", layer("final_down1", feat, True), True).flatten(1)
    latent = F.linear(flat, t["final_linear.weight"] * flat.shape[1] ** -0.5)
    latent = fused(latent, t["final_linear.bias"]).view(len(x), -1, official.CODE)
    out = styled("style_conv1", layer("final_conv", feat), latent[:, 0], 0, 0)
    skip = to_rgb("to_rgb1", out, latent[:, 1])
    for block in range(2):
        out = styled(f"style_convs.{2 * block}", out, latent[:, 2 * block + 1], 2 * block + 1)
        out = styled(f"style_convs.{2 * block + 1}", out, latent[:, 2 * block + 2], 2 * block + 2, block + 1)
        skip = enlarged(skip) + to_rgb(f"to_rgbs.{block}", out, latent[:, 2 * block + 3])
    return skip


@torch.no_grad()
@pytest.mark.parametrize("blind", [False, True])
def test_gcfsr(tmp_path: Path, blind: bool) -> None:
    state = official.gcfsr_state(blind=blind)
    torch.save(state if blind else official.gcfsr_file(), tmp_path / "gcfsr.pth")
    network, _ = load_gcfsr_checkpoint(tmp_path / "gcfsr.pth")
    assert network.config.blind == blind
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(12)) * 2 - 1
    strength = torch.tensor([0.25, 1.0])
    noise = [layer.noise for layer in network.layers]
    found = network(x) if blind else network(x, strength)
    in_size = torch.ones(1) if blind else strength[:, None]
    assert_equal(found, gcfsr_forward(state, x, in_size, noise))
    # the result depends on the signs that the public code keeps and the paper's equation drops
    assert any((network.modulations[level].weights(torch.ones(1, 1))[0] < 0).any() for level in range(3))
