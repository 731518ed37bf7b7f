"""Enlargers of the comparison: what they begin with, windows, files of ncnn, unfinished runs."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.quality import enlargers
from benchmarks.quality.enlargers import TRAINED, VARIANTS, Options, Variant, begin, train_variant
from benchmarks.quality.prior_enlarger import PriorEnlarger, PriorFeatures
from benchmarks.quality.span_network import Span, load_span
from codec_contract.errors import EdgegrainError, ModelError
from edge_encoder.lowering import box_network
from edgegrain.training.family import RunOptions
from edgegrain.training.super_resolution.recipes import SUPER_RESOLUTION_RECIPES
from export.decoder.sources import DecoderSource
from server_decoder.grain.grain import Grain
from server_decoder.grain.presets import PRESETS
from server_decoder.mobile_stylegan.generator import MobileStyleGAN, MobileStyleGANConfig
from server_decoder.super_resolution.network import SuperResolution
from server_decoder.window import Area, Window

SMOKE = SUPER_RESOLUTION_RECIPES["smoke-enlarge"]
NONE = Options("faces", "faces-256-lr16-small-grain", None)


@pytest.fixture
def features() -> PriorFeatures:
    torch.manual_seed(0)
    source = DecoderSource("smoke", Grain(PRESETS["grain-smoke-mobile"]), box_network(64, 16))
    return PriorFeatures(source, MobileStyleGAN(MobileStyleGANConfig(256, "wavelet", 512, 32, 32, 2)))


def random_parameters(network: nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def test_an_enlarger_with_a_generator_begins_with_the_pictures_of_the_one_without(features: PriorFeatures) -> None:
    trained = SuperResolution(SMOKE.network)
    random_parameters(trained)
    network = PriorEnlarger(trained, 64, features)
    picture = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        for factor in (2, 4):
            torch.testing.assert_close(network(picture, factor), trained(picture, factor), rtol=1e-4, atol=1e-5)
        for join in (*network.coarse.joins.values(), network.coarse.fine, network.of_picture):  # type: ignore[union-attr]
            before = network(picture)
            random_parameters(join)
            assert (network(picture) - before).abs().mean() > 1e-4
    assert not any(name.startswith("features") for name in network.state_dict())


def test_windows_are_parts_of_the_whole_picture(features: PriorFeatures) -> None:
    torch.manual_seed(1)
    picture, windows = torch.rand(1, 3, 64, 64) * 2 - 1, [Window(0, 24, 16), Window(40, 48, 16)]
    of_prior, span = PriorEnlarger(SuperResolution(SMOKE.network), 64, features), Span(8)
    for network in (of_prior, span):
        random_parameters(network)
        with torch.no_grad():
            whole, found = network(picture), network.forward_windows(picture, [windows])[-1]
        for window, part in zip(windows, found, strict=True):
            wanted = Area.of(window).doubled().doubled().of_maps(whole)[0]
            torch.testing.assert_close(part, wanted, rtol=1e-4, atol=1e-4)


def test_features_are_those_of_the_predicted_codes(features: PriorFeatures) -> None:
    """Codes that the cut generator lacks are its last one."""
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    generated = features(picture)
    assert generated.picture.shape == (1, 3, 256, 256) and generated.features[128].shape[-1] == 128
    assert not generated.picture.requires_grad
    source = DecoderSource("decoder", Grain(PRESETS["grain-smoke-mobile"]).decoder, box_network(64, 16))
    with pytest.raises(ModelError, match="decoder has no code predictor"):
        PriorFeatures(source, features.prior)
    other = DecoderSource("smoke", Grain(PRESETS["grain-smoke-mobile"]), box_network(64, 16))
    with pytest.raises(ModelError, match="predicts codes for the resolutions"):
        PriorFeatures(other, MobileStyleGAN(MobileStyleGANConfig(32, "wavelet", 512, 32, 32, 2)))


def write_ncnn(network: Span, path: Path) -> None:
    """As ncnn stores a SPAN: levels up to 255 in the first convolution, odd convolutions in float16."""
    lines, data = [], [np.full(3, 0.5, "<f4").tobytes()]
    for index, conv in enumerate(network.convolutions()):
        lines.append(f"Convolution conv_{index} 1 1 a b 0={conv.out_channels} 1=3 6={conv.weight.numel()}")
        weights = conv.weight.detach().numpy() / (255 if index == 0 else 1)
        half = index % 2 == 1
        data.append(struct.pack("<I", 0x01306B47 if half else 0))
        data.append(weights.astype("<f2" if half else "<f4").tobytes())
        data.append(b"\0" * (-len(data[-1]) % 4))
        data.append(conv.bias.detach().numpy().astype("<f4").tobytes())  # type: ignore[union-attr]
    path.write_bytes(b"".join(data))
    path.with_suffix(".param").write_text("7767517\n2 2\nInput data 0 1 data\n" + "\n".join(lines) + "\n")


def test_span_is_read_from_the_files_of_ncnn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, path = Span(5), tmp_path / "span.bin"
    network.mean.fill_(0.5)  # type: ignore[operator]
    write_ncnn(network, path)
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(load_span(path)(picture), network(picture), rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(network(picture, 2), nn.functional.avg_pool2d(network(picture), 2))
    path.write_bytes(path.read_bytes() + b"\0\0\0\0")
    with pytest.raises(ModelError, match="bytes, SPAN's weights have"):
        load_span(path)
    parameters = path.with_suffix(".param")
    parameters.write_text(parameters.read_text().replace("0=48 1=3 6=2160", "0=12 1=3 6=540"))
    with pytest.raises(ModelError, match="end in 12 channels"):
        load_span(path)


def test_a_variant_is_trained_once_and_an_interrupted_one_leaves_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = Variant("smoke", SMOKE, VARIANTS["new"].build)
    folder, data = tmp_path / "run", RunOptions()
    monkeypatch.setattr(enlargers, "MetricNetworks", NoNetworks)
    progress = enlargers.TimeBudget.progress
    monkeypatch.setattr(enlargers.TimeBudget, "progress", lambda self, seen: setattr(self, "interrupted", True))
    with pytest.raises(EdgegrainError, match="interrupted"):
        train_variant(variant, folder, NONE, data, tmp_path, 60)
    assert not (folder / TRAINED).exists()
    monkeypatch.setattr(enlargers.TimeBudget, "progress", progress)
    train_variant(variant, folder, NONE, data, tmp_path, 0.5)
    stored = (folder / TRAINED).read_bytes()
    train_variant(variant, folder, NONE, data, tmp_path, 0.5)
    assert (folder / TRAINED).read_bytes() == stored


class NoNetworks:
    lpips = identity = None

    @classmethod
    def load(cls, *arguments: object, **options: object) -> NoNetworks:
        return cls()


def test_variants_differ_in_the_network_only() -> None:
    assert len({str(variant.recipe.as_dict()) for variant in VARIANTS.values()}) == 1
    with pytest.raises(EdgegrainError, match="pass --span"):
        begin(VARIANTS["span"], NONE)
