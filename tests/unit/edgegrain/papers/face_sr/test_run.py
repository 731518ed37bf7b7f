"""A GLEAN begins with the picture of GRAIN's invertible decoder, a wider GCFSR with those of a narrower one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codec_contract.errors import BundleError, ModelError
from edgegrain.papers.face_sr.bundle import save_face_sr
from edgegrain.papers.face_sr.training import FACE_SR_RECIPES, begin_with_grain, grow, start_run
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.training.family import RunOptions
from edgegrain.training.grain import start
from edgegrain.training.grain.model import load_run
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.run import train
from server_decoder.grain.grain import PriorConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from server_decoder.stylegan2.networks import StyleGAN2Config

PRIOR = PriorConfig("stylegan2", StyleGAN2Config(32, 256, 16, 12, 2))
SCALES = (Scale(16, 10, residual=1), Scale(32, 6))
NETWORK = GLEANConfig(PRIOR, lr=8, rrdb=1, width=8, growth=4, widest=12, scales=SCALES)
DECODER = DecoderConfig((Scale(8, 8, rrdb=1, growth=4), *SCALES), upsampling="bilinear", head=())
LR = torch.rand(2, 3, 8, 8) * 2 - 1


def decoder(config: DecoderConfig = DECODER) -> RRDBDecoder:
    """Random weights, no two alike."""
    torch.manual_seed(3)
    network = RRDBDecoder(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def test_it_has_the_decoders_picture() -> None:
    network, trained = GLEAN(NETWORK).eval(), decoder()
    begin_with_grain(network, trained)
    with torch.no_grad():
        torch.testing.assert_close(network(LR), trained(LR))


def test_a_smaller_decoder_grows_and_a_deeper_one_is_cut() -> None:
    smaller = replace(DECODER, scales=(DECODER.scales[0], Scale(16, 8), SCALES[1]))
    network, trained = GLEAN(NETWORK).eval(), decoder(smaller)
    begin_with_grain(network, trained)
    with torch.no_grad():
        torch.testing.assert_close(network(LR), trained(LR), atol=1e-4, rtol=1e-4)
    deeper = replace(DECODER, scales=(replace(DECODER.scales[0], rrdb=2), replace(SCALES[0], residual=2), SCALES[1]))
    begin_with_grain(network, decoder(deeper))
    with torch.no_grad():
        assert (network(LR) - decoder(deeper)(LR)).abs().mean() < (network(LR) - trained(LR)).abs().mean()


def test_another_shape_is_refused() -> None:
    with pytest.raises(ModelError, match="this recipe has the paper's decoder"):
        begin_with_grain(GLEAN(replace(NETWORK, scales=())), decoder())
    with pytest.raises(BundleError, match="only their number may grow"):
        begin_with_grain(GLEAN(replace(NETWORK, width=9)), decoder())


def test_a_bundle_of_the_hub_is_looked_up_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def find_bundle(name: str) -> Path:
        raise BundleError(f"asked for {name}")

    monkeypatch.setattr(start, "find_bundle", find_bundle)
    with pytest.raises(BundleError, match="asked for hf://anna/tiny"):
        train(FACE_SR_RECIPES["smoke-glean"], tmp_path / "run", RunOptions(init_from="hf://anna/tiny"))


def test_a_run_begins_with_another_familys_run(tmp_path: Path) -> None:
    scales = (Scale(32, 8), Scale(64, 6))
    shape = DecoderConfig((Scale(16, 8, rrdb=1, growth=4), *scales), upsampling="bilinear", head=())
    train(replace(GRAIN_RECIPES["smoke-stage1"], decoder=shape), tmp_path / "grain", pictures=8)
    smoke = FACE_SR_RECIPES["smoke-glean"]
    assert isinstance(smoke.network, GLEANConfig)
    recipe = replace(smoke, network=replace(smoke.network, width=8, growth=4, scales=scales))
    network = start_run(recipe, start=tmp_path / "grain").average
    lr = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(network(lr), load_run(tmp_path / "grain").average.decoder(lr))
    with pytest.raises(BundleError, match="is no run, and no bundle either"):
        start_run(FACE_SR_RECIPES["smoke-glean"], start=tmp_path / "nothing")


NARROW = GCFSRConfig(32, 8, channel_base=128, channel_max=12, code_width=8, code_channels=4)
WIDE = replace(NARROW, channel_base=192, channel_max=16)
PICTURES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
STRENGTHS = torch.tensor([0.1, 0.9])


def trained(config: GCFSRConfig = NARROW) -> GCFSR:
    """Random weights, no bias of which is 0."""
    torch.manual_seed(3)
    network = GCFSR(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_it_restores_the_same_pictures_and_learns_with_all_channels() -> None:
    torch.manual_seed(1)
    network = GCFSR(WIDE)
    grow(network, trained())
    restored = network(PICTURES, STRENGTHS)
    torch.testing.assert_close(restored, trained()(PICTURES, STRENGTHS), atol=1e-4, rtol=1e-4)
    optimizer = torch.optim.SGD(network.parameters(), 1e-2)
    for _ in range(2):  # what the further channels compute gets a gradient as soon as it is read
        optimizer.zero_grad()
        network(PICTURES, STRENGTHS).square().mean().backward()
        optimizer.step()
    read, computed = network.layers[1].conv.weight, network.first.conv.weight  # type: ignore[union-attr]
    assert read.grad is not None and read.grad[:12, 12:].abs().min() > 0  # type: ignore[union-attr, index]
    assert computed.grad is not None and computed.grad[4:].abs().max() > 0  # type: ignore[union-attr, index]


def test_a_run_begins_with_a_narrower_network(tmp_path: Path) -> None:
    save_face_sr(trained(), tmp_path / "gcfsr.safetensors")
    config = replace(FACE_SR_RECIPES["smoke-gcfsr"], network=WIDE)
    run = start_run(config, start=tmp_path)
    for network in (run.model, run.average):
        with torch.no_grad():
            restored = network(PICTURES, STRENGTHS)
        torch.testing.assert_close(restored, trained()(PICTURES, STRENGTHS), atol=0.02, rtol=0)  # stored as float16


@pytest.mark.parametrize("config", [
    replace(WIDE, channel_max=8), replace(WIDE, size=64), replace(WIDE, code_width=12), replace(WIDE, signed=True)])
def test_other_networks_are_refused(config: GCFSRConfig) -> None:
    with pytest.raises(ModelError, match="narrower than the recipe's and otherwise equal"):
        grow(GCFSR(config), trained())
