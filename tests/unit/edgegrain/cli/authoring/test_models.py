"""``edgegrain models``: the paper's count, sums over parts, a table for people."""

from pathlib import Path

import pytest

from codec_contract.bundle.manifest import load_manifest
from edge_encoder.integer_network import load_integer_network
from edgegrain.papers import models as model_table
from edgegrain.papers.convert import count
from edgegrain.papers.gcfsr.network import PRESETS as GCFSR_PRESETS
from edgegrain.papers.glean.network import PRESETS as GLEAN_PRESETS
from edgegrain.papers.irn.network import PRESETS as IRN_PRESETS
from edgegrain.papers.models import Model, Part, gcfsr_model, glean_model, grain_model, irn_model
from export.bundle.enlarger import find_enlarger
from export.decoder.export import bundle_decoder
from export.encoder.graph import exact_graph
from server_decoder.grain.grain import PRESETS
from tests.unit.edgegrain.cli.conftest import Shell


def test_the_papers_model_has_the_papers_size() -> None:
    """82.27 M: [GRAIN] supplementary, Table 1."""
    model = grain_model("paper", PRESETS["grain-1024-lr16-paper"])
    assert abs(model.parameters - 82.27e6) < 0.01e6
    assert {name: part.parameters for name, part in model.parts.items()} == {
        "encoder": 7_493_187,
        "decoder": 9_300_163,
        "code_predictor": 34_053_312,
        "fusion": 1_048_835,
        "prior": 30_370_060,
    }
    # A convolution of 224 to 128 channels at 1024 x 1024 alone is 270 GMAC; the fusion has one.
    assert model.parts["fusion"].macs > 224 * 128 * 9 * 1024**2
    assert 0.41e12 < model.parts["decoder"].macs < 0.43e12
    assert model.macs == sum(part.macs for part in model.parts.values())


def test_operations_of_irn_are_counted_both_ways() -> None:
    config = IRN_PRESETS["irn-x4-light"]
    macs, side, channels = 0, 256, 3
    for blocks in config.blocks:
        side, high = side // 2, 4 * channels - 3
        for inputs, outputs in ((high, 3), (3, high), (3, high)):
            dense = sum((inputs + step * config.growth) * config.growth for step in range(4))
            macs += blocks * 9 * side**2 * (dense + (inputs + 4 * config.growth) * outputs)
        channels *= 4
    assert irn_model("light", config).macs == 2 * macs


@pytest.mark.parametrize("name", ["irn-x3", "irn-x2-light", "irn-x4-wide"])
def test_kinds_of_irn_are_counted(name: str) -> None:
    """Every kind of block, odd factors too: one that the meta device cannot run would break the whole table."""
    rescaler = irn_model(name, IRN_PRESETS[name]).parts["rescaler"]
    assert rescaler.macs > rescaler.parameters > 0


def test_kinds_of_face_super_resolution_are_counted() -> None:
    blind, light = (gcfsr_model(name, GCFSR_PRESETS[name]) for name in ("gcfsr-512-blind", "gcfsr-256-light"))
    assert blind.parameters > light.parameters > 0
    assert set(glean_model("light", GLEAN_PRESETS["glean-256-x16-light"]).parts) == {"network", "prior"}


def test_ablations_lack_what_they_remove() -> None:
    for name, preset, parts in (
        ("invertible-only", "invertible-only", {"encoder", "decoder"}),
        ("codes-only", "codes-only", {"encoder", "decoder", "code_predictor", "prior"}),
        ("without-invertible-encoder", "paper", {"decoder", "code_predictor", "fusion", "prior"}),
    ):
        assert set(grain_model(f"grain-1024-lr16-{name}", PRESETS[f"grain-1024-lr16-{preset}"]).parts) == parts


def test_json_has_every_configuration_by_name(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the families with many, two or one: counting them all takes half a minute."""
    kept = {"PRESETS": {"grain-256-lr16", "grain-smoke-mobile"}, "IRN_PRESETS": {"irn-x4"}}
    kept |= {"GLEAN_PRESETS": {"glean-1024-x64"}, "GCFSR_PRESETS": {"gcfsr-1024"}}
    for family, names in kept.items():
        presets = {name: config for name, config in getattr(model_table, family).items() if name in names}
        monkeypatch.setattr(model_table, family, presets)
    rows = {row["name"]: row for row in shell.json("models")}
    assert set().union(*kept.values()) <= set(rows)
    others = {"stylegan2-1024", "mobile-stylegan-1024", "rrdb-1024-lr16-paper", "stylegan2-discriminator-1024"}
    assert others <= set(rows)
    for row in rows.values():
        assert row["parameters"] == sum(row["parameters_by_part"].values()) > 0
        assert row["macs"] == sum(row["macs_by_part"].values()) > 0
    assert rows["exact-encoder-256-lr16"]["parameters"] == 1_051_142
    assert rows["irn-x4"]["parameters"] == 4_355_136  # [IRN] appendix, Table 1: 4.35 M
    assert rows["gcfsr-1024"]["parameters"] == pytest.approx(66.69e6, rel=0.001)  # [GCFSR] Table 1
    assert 188e6 <= rows["glean-1024-x64"]["parameters"] <= 190e6  # [GCFSR] Table 1: 188.29 M
    assert rows["glean-1024-x64"]["parameters_by_part"]["prior"] == rows["stylegan2-1024"]["parameters"]


def test_the_default_bundles_networks_are_those_of_its_files(default_bundle: Path) -> None:
    manifest = load_manifest(default_bundle)
    enlarger = count(find_enlarger(default_bundle).network())
    found = {model.name.removeprefix(f"{manifest.id}-"): model for model in model_table.bundle_models(manifest)}
    encoder = exact_graph(load_integer_network(manifest.open_file("encoder.safetensors"))).parameters()
    expected = {"encoder": encoder, "decoder": count(bundle_decoder(manifest)), "enlarger-x2": enlarger}
    assert {name: model.parameters for name, model in found.items()} == {**expected, "enlarger-x4": enlarger}
    assert found["encoder"].macs == 862_666_752 < found["enlarger-x2"].macs < found["enlarger-x4"].macs


def test_table(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = [Model("one", {"decoder": Part(1_500_000, 2_000_000_000)}), Model("two", {"prior": Part(10_000, 0)})]
    monkeypatch.setattr(model_table, "models", lambda: tiny)
    lines = shell.ok("models").splitlines()
    assert lines[0].split() == ["name", "M", "parameters", "GMAC", "parts:", "M", "parameters", "/", "GMAC"]
    assert lines[1].split() == ["one", "1.50", "2.00", "decoder", "1.50", "/", "2.00"]
    assert lines[2].split() == ["two", "0.01", "0.00", "prior", "0.01", "/", "0.00"]
