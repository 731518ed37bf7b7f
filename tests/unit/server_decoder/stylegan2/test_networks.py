"""StyleGAN2's generator: sizes, features, cuts, noise, truncation, style mixing, gradients, ONNX."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from codec_contract.errors import ModelError
from server_decoder.stylegan2 import networks as presets
from server_decoder.stylegan2.networks import CONFIG_F_1024, StyleGAN2, StyleGAN2Config, mix_styles

TINY = StyleGAN2Config(32, channel_base=128, channel_max=12, code_width=16, mapping_layers=3)


@torch.no_grad()
def trained(seed: int = 0) -> StyleGAN2:
    """A generator whose biases and noise strengths have left zero, as after training."""
    torch.manual_seed(seed)
    generator = StyleGAN2(TINY).eval()
    for name, parameter in generator.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            parameter.add_(0.3 * torch.randn(parameter.shape))
    generator.measure_mean_code(1000)
    return generator


@pytest.fixture(scope="module")
def tiny() -> StyleGAN2:
    return trained()


@torch.no_grad()
def codes_for(prior: StyleGAN2, batch: int, seed: int = 1) -> Tensor:
    """Another code for every layer."""
    z = torch.randn(batch * prior.code_count, prior.code_width, generator=torch.Generator().manual_seed(seed))
    return prior.map(z).reshape(batch, prior.code_count, -1)


def test_the_full_size_gives_a_picture_and_features_at_nine_resolutions() -> None:
    with torch.device("meta"):
        generator = StyleGAN2(CONFIG_F_1024)
        picture, features = generator(torch.empty(2, 18, 512))
    assert picture.shape == (2, 3, 1024, 1024)
    assert sum(p.numel() for p in generator.parameters()) == 30_370_060  # as published
    widths = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
    shapes = {side: (2, count, side, side) for side, count in widths.items()}
    assert {side: tuple(f.shape) for side, f in features.items()} == shapes


def test_presets_are_what_their_names_say() -> None:
    assert CONFIG_F_1024.cut(256) == presets.CONFIG_F_256
    with torch.device("meta"):
        assert StyleGAN2(presets.CONFIG_F_256).code_count == 14
        assert sum(p.numel() for p in StyleGAN2(presets.TINY_64).parameters()) < 200_000
        assert StyleGAN2(TINY).code_resolutions == (4, 8, 8, 16, 16, 32, 32, 32)
    for size in (4, 48, 0):
        with pytest.raises(ValueError, match="power of two"):
            StyleGAN2Config(size)


def upsampled(x: Tensor) -> Tensor:
    """Bilinear interpolation of a picture with zeros around it."""
    return F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear")[..., 2:-2, 2:-2]


def test_a_cut_generator_makes_the_same_features_and_the_picture_there(tiny: StyleGAN2) -> None:
    cut = StyleGAN2(TINY.cut(16))
    cut.load_state_dict({name: tensor for name, tensor in tiny.state_dict().items() if name in cut.state_dict()})
    codes = codes_for(tiny, 2)
    with torch.no_grad():
        whole, part = tiny(codes), cut(codes[:, : cut.code_count])
        finest = tiny.to_rgb[-1](whole.features[32], codes[:, 7])
    coarse = {side: whole.features[side] for side in (4, 8, 16)}
    torch.testing.assert_close(part.features, coarse, rtol=1e-4, atol=1e-5)  # two builds: other rounding
    torch.testing.assert_close(upsampled(part.picture) + finest, whole.picture, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="8, 16, 32"):
        TINY.cut(64)


def test_noise_is_constant_unless_given_and_repeatable_by_seed(tiny: StyleGAN2) -> None:
    codes = codes_for(tiny, 2)
    first = tiny.random_noise(2, torch.Generator().manual_seed(5))
    again = tiny.random_noise(2, torch.Generator().manual_seed(5))
    assert [tuple(noise.shape) for noise in first] == [(2, 1, side, side) for side in (4, 8, 8, 16, 16, 32, 32)]
    with torch.no_grad():
        base, seeded = tiny(codes).picture, tiny(codes, first).picture
        stored = [layer.noise for layer in tiny.layers]
        for noise, expected in ((None, base), (again, seeded), (stored, base)):  # computed twice, in floats
            torch.testing.assert_close(tiny(codes, noise).picture, expected, rtol=1e-4, atol=1e-5)
        assert (seeded - base).abs().max() > 1e-3


def test_truncation_pulls_towards_the_mean_of_w(tiny: StyleGAN2) -> None:
    with torch.no_grad():
        w = tiny.map(torch.randn(4000, 16, generator=torch.Generator().manual_seed(9)))
    spread = (w - tiny.mean_code).square().sum(1)
    assert (w.mean(0) - tiny.mean_code).square().sum() < 0.01 * spread.mean()
    torch.testing.assert_close((tiny.truncate(w, 0.5) - tiny.mean_code).square().sum(1), spread / 4)
    torch.testing.assert_close(tiny.truncate(tiny.broadcast(w), 0.0)[3, 2], tiny.mean_code)
    torch.testing.assert_close(tiny.truncate(w, 1.0), w)


def test_style_mixing_takes_coarse_codes_from_one_and_fine_ones_from_the_other(tiny: StyleGAN2) -> None:
    coarse, fine = codes_for(tiny, 2, seed=3), codes_for(tiny, 2, seed=4)
    assert torch.equal(mix_styles(coarse, fine, 3), torch.cat([coarse[:, :3], fine[:, 3:]], 1))
    assert torch.equal(mix_styles(coarse, fine, torch.tensor([0, 8])), torch.stack([fine[0], coarse[1]]))
    with pytest.raises(ModelError, match=r"\[2, 8, 16\] and \[1, 8, 16\]"):
        mix_styles(coarse, fine[:1], 3)


def test_mapping_starts_with_codes_of_unit_size_and_ignores_the_length_of_z() -> None:
    generator = StyleGAN2(replace(TINY, code_width=256, mapping_layers=8))
    z = torch.randn(64, 256)
    with torch.no_grad():
        w = generator.map(z)
        torch.testing.assert_close(generator.map(7 * z), w)
    assert 0.7 < float(w.square().mean().sqrt()) < 1.4
    # Two orders of magnitude slower: a parameter is divided by the rate that multiplies it in use.
    assert abs(float(generator.mapping.layers[3].weight.detach().std()) - 100) < 2


def test_path_length_regularization_reaches_the_synthesis_weights() -> None:
    generator = trained(seed=3)
    codes = codes_for(generator, 2).requires_grad_(True)
    picture = generator(codes).picture
    direction = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)) / 32  # [StyleGAN2] Section 3.2
    (gradient,) = torch.autograd.grad((picture * direction).sum(), codes, create_graph=True)
    lengths = gradient.square().sum(2).mean(1).sqrt()
    assert (lengths > 0).all()
    lengths.square().sum().backward()
    for name, parameter in generator.named_parameters():
        if name.startswith(("layers", "to_rgb")) and name.endswith("weight"):
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_autocast_gives_float32_pictures_near_the_exact_ones(tiny: StyleGAN2) -> None:
    codes = codes_for(tiny, 2)
    with torch.no_grad():
        exact = tiny(codes).picture
        with torch.autocast("cpu", torch.bfloat16):
            z_codes = tiny.map(torch.zeros(1, 16) + 1)
            picture, features = tiny(codes)
    assert z_codes.dtype == picture.dtype == torch.float32
    assert {feature.dtype for feature in features.values()} == {torch.bfloat16}
    assert (picture - exact).abs().max() < 0.05 * exact.abs().max()
