"""Runs begin with the networks of bundles and of folders of the zoo."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.lowering import box_network
from edgegrain.publishing.store_grain import store_trained
from edgegrain.training.checkpoint import save_checkpoint
from edgegrain.training.grain.checkpoint import GrainRun
from edgegrain.training.grain.initialize import start_run
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.starting_points import trained_decoder
from export.bundle.encoder_part import exact_encoder
from export.bundle.writer import BundleParts, manifest_fields, write_bundle
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from tests.tiny_bundle import repeating_decoder

STAGE1 = GRAIN_RECIPES["smoke-stage1"]


def graph_of(decoder: nn.Module) -> bytes:
    """A graph that holds a decoder's weights; its picture is another."""
    model = onnx.load_model_from_string(repeating_decoder())
    model.graph.initializer.extend(numpy_helper.from_array(tensor.numpy(), name)
                                   for name, tensor in decoder.state_dict().items())
    return bytes(model.SerializeToString())


def of_box_means(run: GrainRun, folder: Path, kind: str) -> Path:
    """The trained networks of a run without learned correction, stored in one of the two ways."""
    if kind == "zoo":
        save_checkpoint(folder / "run", run)
        store_trained(folder / "run", folder / "zoo")
        return folder / "zoo"
    decoder = run.average.decoder
    assert isinstance(decoder, RRDBDecoder)
    fields = manifest_fields("tiny-box", "grain", architecture=asdict(decoder.config), training={"stage": "1"},
                             licence={"weights": "none", "data": "none"}, domain="test", version="1.0.0")
    write_bundle(folder / "tiny-box", BundleParts(exact_encoder(box_network(64, 16)), graph_of(decoder),
                                                  replace(CoderTables.default(), step=3), fields, "card", ("onnx",)))
    return folder / "tiny-box"


@pytest.mark.parametrize("kind", ["bundle", "zoo"])
def test_networks_for_box_means_are_a_start(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(2)
    control = replace(STAGE1, correction=False, trains=("decoder",))
    run = start_run(control, None)
    start = of_box_means(run, tmp_path, kind)
    tolerance = {"atol": 0.0 if kind == "bundle" else 0.02, "rtol": 0.0}  # the zoo's weights are rounded
    lr = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        wanted = run.average.decoder(lr)
        torch.testing.assert_close(trained_decoder(start)(lr), wanted, **tolerance)
        later = start_run(control, start)
        torch.testing.assert_close(later.model.decoder(lr), wanted, **tolerance)
    assert not later.recipe.correction and not list(later.model.encoder.parameters())
    assert later.recipe.lr_step == (3 if kind == "bundle" else 1)
    begun = start_run(STAGE1, start)  # a correction around the decoder, with the recipe's encoder
    assert begun.recipe.correction and begun.recipe.encoder == STAGE1.encoder and begun.recipe.lr_step == 1
    assert list(begun.model.encoder.parameters())
