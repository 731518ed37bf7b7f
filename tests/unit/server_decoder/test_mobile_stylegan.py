"""MobileStyleGAN against formulas written the other way round, its codes, its noise, its files."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder import mobile_stylegan as module
from server_decoder.generative_prior import Area, Window
from server_decoder.mobile_stylegan import MobileStyleGAN, MobileStyleGANConfig, StyledConv
from server_decoder.mobile_stylegan import load_mobile_stylegan as load
from server_decoder.mobile_stylegan import save_mobile_stylegan as save
from server_decoder.stylegan2.networks import StyleGAN2, StyleGAN2Config

TINY = MobileStyleGANConfig(size=64, channel_base=256, channel_max=16, code_width=24, mapping_layers=2)
FINE = MobileStyleGANConfig(128, "rgb", 1024, 8, code_width=24, mapping_layers=2)
close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


def random_prior(config: MobileStyleGANConfig = TINY, seed: int = 0) -> MobileStyleGAN:
    """Every parameter is random, noise strengths and biases too."""
    torch.manual_seed(seed)
    prior = MobileStyleGAN(config).eval().requires_grad_(False)
    for parameter in prior.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter) / max(1, parameter[0].numel() if parameter.ndim else 1) ** 0.5)
    prior.mean_code.normal_()
    return prior


@pytest.fixture(scope="module")
def prior() -> MobileStyleGAN:
    return random_prior()


def random_codes(prior: MobileStyleGAN, batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, prior.code_count, prior.code_width, generator=torch.Generator().manual_seed(seed))


def modulated(conv: nn.Conv2d, x: Tensor, style: Tensor) -> Tensor:
    """Convolution of one picture with the weights of its own: the style scales them, not the activations."""
    weight = conv.weight * (style[:, None, None, None] if conv.groups > 1 else style[None, :, None, None])
    return F.conv2d(x, weight, conv.bias, padding=conv.padding, groups=conv.groups)


def reference(prior: MobileStyleGAN, codes: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
    """One picture, from codes ``[L, C]``, layer by layer."""

    def styled(layer: StyledConv, x: Tensor, code: Tensor) -> Tensor:
        style = layer.affine.weight @ code + layer.affine.bias
        if isinstance(layer.conv, nn.Conv2d):
            x = modulated(layer.conv, x, style)
        else:
            pointwise = layer.conv.pointwise
            x = F.conv2d(modulated(layer.conv.depthwise, x, style), pointwise.weight, pointwise.bias)
        x = x + layer.noise_strength * layer.noise
        return torch.where(x > 0, x, 0.2 * x)

    def haar(bands: Tensor) -> Tensor:
        quarter = bands.shape[1] // 4
        ll, b1, b2, b3 = (bands[:, band * quarter : (band + 1) * quarter] for band in range(4))
        one = torch.ones(2, 2)
        rows, columns = torch.tensor([[1.0, 1], [-1, -1]]), torch.tensor([[1.0, -1], [1, -1]])
        return 0.5 * sum(map(torch.kron, (ll, b1, b2, b3), (one, rows, columns, rows * columns)))

    x = styled(prior.conv, prior.input, codes[0])
    features = {4: x}
    for index, block in enumerate(prior.blocks):
        first, second = codes[1 + 2 * index], codes[2 + 2 * index]
        x = haar(x * (block.affine.weight @ first + block.affine.bias)[None, :, None, None])
        x = styled(block.conv2, styled(block.conv1, x, first), second)
        features[x.shape[-1]] = x
    if isinstance(prior.head, module.WaveletHead):
        style = prior.head.affine.weight @ codes[-1] + prior.head.affine.bias
        return haar(modulated(prior.head.conv, x, style)), features
    return F.conv2d(x, prior.head.weight, prior.head.bias), features


@pytest.mark.parametrize("head", ["wavelet", "rgb"])
def test_equals_modulated_weights(head: str) -> None:
    prior = random_prior(MobileStyleGANConfig(32, head, 256, 16, code_width=24, mapping_layers=2))
    codes = random_codes(prior)
    picture, features = prior(codes)
    assert picture.shape == (2, 3, 32, 32)
    for index in range(2):
        own = {resolution: feature[index : index + 1] for resolution, feature in features.items()}
        close((picture[index : index + 1], own), reference(prior, codes[index]))
    assert {resolution: feature.shape[1] for resolution, feature in features.items()} == prior.feature_channels


def test_sizes_of_the_published_network() -> None:
    with torch.device("meta"):
        whole, shorter = MobileStyleGAN(module.MOBILE_STYLEGAN_1024), MobileStyleGAN(module.MOBILE_STYLEGAN_256)
    assert whole.code_resolutions == (4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 512, 512)
    assert shorter.code_resolutions == whole.code_resolutions[:13] and shorter.code_count == 13
    assert whole.feature_channels == {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64}
    # With 699,024 numbers of constant noise these are the 8.0 M of the wheel's synthesis network.
    synthesis = sum(p.numel() for name, p in whole.named_parameters() if not name.startswith("mapping"))
    assert synthesis == 7_306_395 and sum(p.numel() for p in whole.mapping.parameters()) == 8 * (512 * 512 + 512)
    assert isinstance(shorter.head, nn.Conv2d) and shorter.head.weight.shape == (3, 128, 1, 1)


def test_noise_is_the_stored_one_unless_given(prior: MobileStyleGAN) -> None:
    codes = random_codes(prior)
    stored = [module.noise for module in prior.modules() if isinstance(module, StyledConv)]
    picture = prior(codes).picture
    close(prior(codes, stored).picture, picture)
    per_picture = [torch.cat([noise, torch.zeros_like(noise)]) for noise in stored]
    mixed = prior(codes, per_picture).picture
    torch.testing.assert_close(mixed[0], picture[0])
    assert (mixed[1] - picture[1]).abs().max() > 1e-3


@pytest.mark.parametrize("config", [FINE, replace(FINE, head="wavelet"), TINY])
def test_a_window_is_that_part_of_the_whole_picture(config: MobileStyleGANConfig) -> None:
    prior = random_prior(config)
    codes = random_codes(prior)
    noise = [torch.randn(2, *module.noise.shape[1:]) for module in prior.modules() if isinstance(module, StyledConv)]
    offsets = {16: torch.randn(2, config.channels(16), 16, 16), 32: torch.tanh}
    half, far = config.size // 2, config.size - 16
    whole, own = (prior(codes, maps, offsets).picture for maps in (noise, None))
    for corner in ((0, 0, half), (half - 10, 6, half), (far, far, 16), (2, half, 2), (0, 0, config.size)):
        window = Window(*corner)
        synthesis = prior(codes, noise, offsets, window)
        torch.testing.assert_close(synthesis.picture, Area.of(window).of_maps(whole), rtol=1e-4, atol=1e-4)
        assert synthesis.features[16].shape[-1] == 16
    window = Window(half - 10, 6, config.size // 4)
    synthesis = prior(codes, None, offsets, window)
    torch.testing.assert_close(synthesis.picture, Area.of(window).of_maps(own), rtol=1e-4, atol=1e-4)
    if config.size == 128:  # a window saves time: its finest features are about as small as it is
        finest = config.resolutions[-1]
        assert synthesis.features[finest].shape[-1] == finest // 4


def test_windows_that_cannot_be_computed(prior: MobileStyleGAN) -> None:
    codes = random_codes(prior)
    for outside in (Window(0, 40, 32), Window(-2, 0, 8), Window(0, 0, 0)):
        with pytest.raises(ModelError, match="no part of a picture of 64x64"):
            prior(codes, window=outside)
    with pytest.raises(ModelError, match="even pixels"):
        prior(codes, window=Window(1, 0, 8))
    fine = random_prior(FINE)
    with pytest.raises(ModelError, match=r"no offsets above 64x64, got some at \[128\]"):
        fine(random_codes(fine), offsets={128: torch.zeros(2, 8, 128, 128)}, window=Window(0, 0, 64))
    other = StyleGAN2(StyleGAN2Config(size=16, channel_base=128, channel_max=8, code_width=8, mapping_layers=1))
    with pytest.raises(ModelError, match="StyleGAN2 computes whole pictures only"):
        other(torch.zeros(1, other.code_count, 8), window=Window(0, 0, 8))


def test_wrong_codes_and_configurations(prior: MobileStyleGAN) -> None:
    with pytest.raises(ModelError, match=r"\[batch, 8, 24\].*got \[2, 24\]"):
        prior(torch.zeros(2, 24))
    with pytest.raises(ModelError, match="cannot cut this generator to 64x64.*8, 16, 32"):
        TINY.cut(64)
    for wrong in ({"size": 8}, {"size": 48}, {"head": "xyz"}, {"channel_base": 64, "size": 64}):
        with pytest.raises(ValueError, match="got|unknown head"):
            MobileStyleGANConfig(**{"channel_max": 16, **wrong})  # type: ignore[arg-type]


def test_gradients_with_respect_to_codes() -> None:
    """Frozen inside GRAIN, the prior still has to pass gradients on; some of its operations work in place."""
    prior = random_prior(MobileStyleGANConfig(16, "wavelet", 64, 4, code_width=4, mapping_layers=1)).double()
    codes = random_codes(prior, 1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda codes: prior(codes).picture.sum((2, 3)), (codes,), atol=1e-6)


def test_bfloat16_autocast_stays_near() -> None:
    prior = random_prior().to(memory_format=torch.channels_last)
    codes = random_codes(prior)
    picture, features = prior(codes)
    with torch.autocast("cpu", torch.bfloat16):
        low, low_features = prior(codes)
    assert low_features[32].dtype == torch.bfloat16
    assert module.modulate(low_features[32], torch.ones(1, 8)).dtype == torch.bfloat16
    assert low_features[32].is_contiguous(memory_format=torch.channels_last)
    assert (low.float() - picture).square().mean() < 1e-3 * picture.square().mean()


def test_file_round_trip_and_cut(prior: MobileStyleGAN, tmp_path: Path) -> None:
    heads = {16: nn.Conv2d(16, 3, 1), 32: nn.Conv2d(8, 3, 1)}
    path = save(prior, tmp_path / "prior.safetensors", heads, {"licence": "none"})
    codes = random_codes(prior)
    whole = load(path, TINY)
    assert not whole.training and not any(parameter.requires_grad for parameter in whole.parameters())
    close(whole(codes).picture, prior(codes).picture)  # two builds
    torch.testing.assert_close(whole.mean_code, prior.mean_code, rtol=0, atol=0)

    shorter = load(path, TINY.cut(16), cut_to=16)
    assert shorter.size == 16 and shorter.code_resolutions == (4, 8, 8, 16, 16)
    features = prior(codes).features[16]
    picture, cut_features = shorter(codes[:, :5])
    close(cut_features[16], features)
    torch.testing.assert_close(picture, heads[16](features))

    again = save(shorter, tmp_path / "cut.safetensors")
    close(load(again)(codes[:, :5]).picture, picture)
    with pytest.raises(FileExistsError, match="force"):
        save(prior, path)


def test_files_that_do_not_fit(prior: MobileStyleGAN, tmp_path: Path) -> None:
    path = save(prior, tmp_path / "prior.safetensors", {32: nn.Conv2d(8, 3, 1)})
    with pytest.raises(ModelError, match="no RGB head at 16x16; it has heads at 32"):
        load(path, cut_to=16)
    with pytest.raises(ModelError, match="expected .*size=32.*cut_to=32"):
        load(path, TINY.cut(32))
    (tmp_path / "short").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="holds no MobileStyleGAN"):
        load(tmp_path / "short")
    header = {"format": "edgegrain-mobile-stylegan-1", "config": '{"size": 64}'}
    for metadata, message in (
        (None, "edgegrain prior fetch"),
        (header, "does not fit the sizes in its header"),
        (header | {"config": '{"sise": 64}'}, "sise"),
    ):
        save_file({"input": torch.zeros(1)}, tmp_path / "other", metadata)
        with pytest.raises(ModelError, match=message):
            load(tmp_path / "other")


def test_fitted_heads_are_the_least_squares_solution() -> None:
    prior = random_prior()
    heads = module.fit_rgb_heads(prior, (8, 32), pictures=6, seed=3)
    rng = np.random.default_rng(3)
    residuals, columns = ({8: [], 32: []} for _ in range(2))
    for _ in range(6):
        z = torch.from_numpy(rng.standard_normal((1, 24), dtype=np.float32))
        codes = prior.truncate(prior.broadcast(prior.map(z)), float(rng.uniform(0.5, 1)))
        picture, features = prior(codes)
        for size, head in heads.items():
            residuals[size].append(head(features[size]) - F.interpolate(picture, size=(size, size), mode="area"))
            columns[size].append(features[size])
    for size in heads:
        error, feature = torch.cat(residuals[size]).flatten(2), torch.cat(columns[size]).flatten(2)
        correlation = torch.einsum("ncp,nkp->kc", feature, error) / (feature.norm() * error.norm())
        assert correlation.abs().max() < 1e-3 and error.mean((0, 2)).abs().max() < 1e-4  # nothing linear is left
