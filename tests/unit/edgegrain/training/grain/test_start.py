"""The start of a run: growing, networks of runs, bundles and the zoo, and the generator."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from codec_contract.errors import BundleError, EdgegrainError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.twin import box_network
from edgegrain.publishing.publish import store_trained
from edgegrain.training.checkpoint import save_checkpoint
from edgegrain.training.grain.model import GrainRun
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.start import grow, recipe_discriminator, recipe_prior, start_run, trained_decoder
from export.bundle.writer import exact_encoder, manifest_fields, write_bundle
from export.decoder.graph import store_compact, store_half
from server_decoder.grain.grain import PRESETS, Grain
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale
from server_decoder.mobile_stylegan import MobileStyleGAN, save_mobile_stylegan
from tests.tiny_bundle import repeating_decoder
from tests.unit.edgegrain.conftest import shaken

SMALL = DecoderConfig((Scale(8, 12, rrdb=1, growth=4), Scale(16, 8, residual=1), Scale(32, 4)), "subpixel", ())
FINER = (Scale(16, 10, residual=2), Scale(32, 6, residual=1))
LARGE = DecoderConfig((Scale(8, 12, rrdb=3, growth=4), *FINER), "subpixel", ())


@torch.no_grad()
def test_the_picture_stays_and_everything_new_can_learn() -> None:
    small, large = shaken(RRDBDecoder, SMALL), RRDBDecoder(LARGE)
    grow(large, small)
    lr = torch.rand(2, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(large(lr), small(lr), atol=1e-4, rtol=1e-4)
    with torch.enable_grad():
        (large(lr) - torch.rand(2, 3, 32, 32)).pow(2).mean().backward()
    for name in ("scales.0.blocks.2.RDB3.conv5", "scales.1.blocks.1.conv2", "scales.2.conv", "head.0"):
        gradient = large.get_parameter(f"{name}.weight").grad
        assert gradient is not None and gradient.abs().sum() > 0, name


def test_a_subpixel_convolution_becomes_the_centre_of_a_convolution() -> None:
    small, large = shaken(RRDBDecoder, SMALL), RRDBDecoder(replace(LARGE, upsampling="bilinear"))
    grow(large, small)
    old, new = small.get_parameter("upsamples.0.conv.weight"), large.get_parameter("upsamples.0.conv.weight")
    assert (old.shape, new.shape) == ((12, 8, 2, 2), (10, 12, 3, 3))
    expected = torch.zeros(8, 12, 3, 3)
    expected[:, :, 1, 1] = old.detach().sum((2, 3)).T / 4
    torch.testing.assert_close(new.detach()[:8], expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(LARGE, scales=LARGE.scales[:2]), r"the scales \[8, 16\]"),
        (replace(LARGE, scales=(Scale(8, 12, rrdb=1, growth=4), Scale(16, 6), Scale(32, 4))), "wider at 16x16"),
        (replace(LARGE, scales=(Scale(8, 16, rrdb=1, growth=4), *LARGE.scales[1:])), "only their number may grow"),
    ],
)
def test_what_cannot_grow_is_refused(config: DecoderConfig, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        grow(RRDBDecoder(config), shaken(RRDBDecoder, SMALL))


@torch.no_grad()
def test_the_last_blocks_can_be_left_out() -> None:
    """Those of a decoder that has grown and was not trained since; an untrained RRDB multiplies by 1.2."""
    fewer = replace(LARGE, scales=(SMALL.scales[0], Scale(16, 10, residual=1), LARGE.scales[2]))
    small, large, again = shaken(RRDBDecoder, SMALL), RRDBDecoder(LARGE), RRDBDecoder(fewer)
    grow(large, small)
    grow(again, large)
    lr = torch.rand(2, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(again(lr), small(lr), atol=1e-4, rtol=1e-4)


def test_a_decoder_of_larger_lrs_takes_over_the_finer_scales() -> None:
    small, large = shaken(RRDBDecoder, SMALL), RRDBDecoder(DecoderConfig(FINER, "subpixel", ()))
    first = large.conv_first.weight.clone()
    grow(large, small)
    given, taken = small.state_dict(), large.state_dict()
    assert torch.equal(taken["scales.0.blocks.0.conv1.weight"][:8, :8], given["scales.1.blocks.0.conv1.weight"])
    assert torch.equal(taken["upsamples.0.conv.weight"][:8, :4], given["upsamples.1.conv.weight"])
    assert torch.equal(taken["head.0.weight"][:, :4], given["head.0.weight"])
    assert torch.equal(large.conv_first.weight, first)
    assert not taken["scales.0.blocks.1.conv2.weight"].any()
    with pytest.raises(BundleError, match=r"the scales \[8, 16, 32\]"):
        grow(RRDBDecoder(SMALL), large)


STAGE1 = GRAIN_RECIPES["smoke-stage1"]


def graph_of(decoder: nn.Module, absent: str = "") -> onnx.ModelProto:
    """A graph that holds a decoder's weights, except those whose names begin with ``absent``, and another picture."""
    model = onnx.load_model_from_string(repeating_decoder())
    weights = {name: tensor.numpy() for name, tensor in decoder.state_dict().items()}
    left_out = [name for name in weights if absent and name.startswith(absent)]
    kept = (numpy_helper.from_array(weights[name], name) for name in weights if name not in left_out)
    model.graph.initializer.extend(kept)
    model.metadata_props.add(key="edgegrain.absent_weights", value=json.dumps(left_out))
    return model


def write_grain_bundle(folder: Path, decoder: RRDBDecoder | Grain, graph: onnx.ModelProto, step: int = 1) -> Path:
    """A bundle of box means and a decoder's weights."""
    architecture = decoder.config.as_dict() if isinstance(decoder, Grain) else asdict(decoder.config)
    licence = {"weights": "none", "data": "none"}
    fields = manifest_fields(
        folder.name, "grain", architecture=architecture, training={}, licence=licence, domain="test", version="1.0.0"
    )
    encoder, tables = exact_encoder(box_network(64, 16)), replace(CoderTables.default(), step=step)
    write_bundle(folder, encoder, graph.SerializeToString(), tables, fields, "card", ("onnx",))
    return folder


def of_box_means(run: GrainRun, folder: Path, kind: str) -> Path:
    """The trained networks of a run without learned correction, stored in one of the three ways."""
    if kind == "bundle":
        return write_grain_bundle(folder / "tiny-box", run.average.decoder, graph_of(run.average.decoder), step=3)
    save_checkpoint(folder / "run", run)
    if kind == "zoo":
        store_trained(folder / "run", folder / "zoo")
    return folder / kind


@pytest.mark.parametrize("kind", ["run", "bundle", "zoo"])
def test_networks_for_box_means_are_a_start(tmp_path: Path, kind: str) -> None:
    control = replace(STAGE1, correction=False, trains=("decoder",))
    run = start_run(control, None)
    start = of_box_means(run, tmp_path, kind)
    tolerance = {"atol": 0.02 if kind == "zoo" else 0.0, "rtol": 0.0}  # the zoo's weights are rounded
    lr = torch.rand(1, 3, 16, 16) * 2 - 1
    later = start_run(control, start)
    begun = start_run(STAGE1, start)  # a correction around the decoder, with the recipe's encoder
    with torch.no_grad():
        wanted = run.average.decoder(lr)
        for decoder in (trained_decoder(start), later.model.decoder, begun.model.decoder):
            torch.testing.assert_close(decoder(lr), wanted, **tolerance)
    assert not later.recipe.correction and not list(later.model.encoder.parameters())
    assert later.recipe.lr_step == (3 if kind == "bundle" else 1)
    assert begun.recipe.correction and begun.recipe.encoder == STAGE1.encoder and begun.recipe.lr_step == 1
    assert list(begun.model.encoder.parameters())
    if kind == "run":  # later stages do not begin a correction
        second = GRAIN_RECIPES["smoke-stage2"]
        assert not start_run(second, start, recipe_prior(second, None)).recipe.correction


@pytest.mark.parametrize("store", [lambda model: model, store_half, store_compact], ids=["float32", "float16", "int8"])
def test_a_bundle_with_a_generator_is_a_start(
    tmp_path: Path, store: Callable[[onnx.ModelProto], onnx.ModelProto]
) -> None:
    recipe = replace(GRAIN_RECIPES["smoke-final"], correction=False)
    prior = recipe_prior(recipe, None)
    decoder = start_run(recipe, None, prior).model.decoder
    bundle = write_grain_bundle(tmp_path / "tiny-grain", decoder, store(graph_of(decoder, "prior.mapping.")))
    run = start_run(recipe, bundle, prior)
    assert run.model.prior is prior and not run.recipe.correction
    for name, tensor in decoder.fusion.state_dict().items():
        torch.testing.assert_close(run.model.decoder.fusion.state_dict()[name], tensor, atol=0.01, rtol=0.01)


def test_a_compact_prior_is_rounded_and_another_is_not(tmp_path: Path) -> None:
    preset = PRESETS["grain-smoke-mobile"]
    original = MobileStyleGAN(preset.prior.network)
    save_mobile_stylegan(original, tmp_path / "prior.safetensors")
    whole = replace(GRAIN_RECIPES["smoke-stage2"], decoder=preset)
    compact = replace(whole, decoder=replace(preset, prior=replace(preset.prior, compact=True)))
    weight = "conv.conv.weight"
    for recipe, levels in ((whole, None), (compact, 127)):
        loaded = recipe_prior(recipe, tmp_path / "prior.safetensors").state_dict()[weight]
        assert torch.equal(loaded, original.state_dict()[weight]) == (levels is None)
        if levels:  # every row: integers times its peak / 127
            steps = loaded / (loaded.abs().amax((1, 2, 3), keepdim=True) / levels)
            assert (steps - steps.round()).abs().max() < 1e-3
            torch.testing.assert_close(loaded, original.state_dict()[weight], atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("stage1-faces-256-lr16", "prior.safetensors", "leave --prior out"),
        ("stage2-1024-lr16-paper", None, "needs a StyleGAN2"),
        ("stage2-cats-256-lr16", None, "makes faces; pass --prior with the file of one that makes cats"),
        ("stage2-churches-256-lr16", None, "makes faces; pass --prior with the file of one that makes churches"),
    ],
)
def test_a_generator_of_another_kind_or_domain_is_refused(name: str, given: str | None, message: str) -> None:
    with pytest.raises(EdgegrainError, match=message):
        recipe_prior(GRAIN_RECIPES[name], given)
    for stage in ("stage2", "stage3", "final"):
        assert GRAIN_RECIPES[f"{stage}-faces-256-lr16"].decoder.prior.compact  # the one that ships


@pytest.mark.parametrize("stage", ["stage2", "stage3", "final"])
def test_wgan_begins_with_a_trained_discriminator(stage: str) -> None:
    recipe = GRAIN_RECIPES[f"{stage}-1024-lr16-paper"]
    with pytest.raises(EdgegrainError, match="WGAN loss needs a trained StyleGAN2 discriminator; pass --discriminator"):
        recipe_discriminator(recipe.adversarial, None, resumes=False)
    assert recipe_discriminator(recipe.adversarial, None, resumes=True) is None
    for other in ("stage1-1024-lr16-paper", "stage2-faces-256-lr16"):
        assert recipe_discriminator(GRAIN_RECIPES[other].adversarial, None, resumes=False) is None
