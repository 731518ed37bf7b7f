"""A bundle with another decoder keeps its LR contract; its manifest names sources of pictures."""

import functools
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sdk
from codec_contract.bundle import find as paths
from codec_contract.bundle.manifest import CODER_TABLES, load_manifest
from codec_contract.errors import BundleError, EdgegrainError, ExportError, ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.integer_network import integer_digest, load_integer_network, run_reference, save_integer_network
from edge_encoder.twin import BoxMean, lower
from edgegrain.pictures.packed import random_pictures
from edgegrain.publishing import publish
from edgegrain.publishing.fit_coder import fit_tables
from edgegrain.publishing.publish import mixed, picture_sources, store_trained
from edgegrain.training.checkpoint import save_checkpoint
from edgegrain.training.grain.model import GrainRun
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.start import recipe_prior, start_run
from export.bundle import grain
from export.bundle.grain import write_trained_bundle
from export.bundle.writer import UNSTATED, decoder_hash, exact_encoder, manifest_fields, replace_decoder, write_bundle
from export.decoder import DecoderOptions, WeightStorage
from export.decoder.export import Comparison, bundle_decoder, export_decoder, zoo_decoder
from server_decoder.grain.grain import KeptDecoder, load_trained, save_trained
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.prior_store import prior_licence
from server_decoder.stylegan2.networks import save_stylegan2
from tests.tiny_bundle import refresh_manifest, repeating_decoder, write_tiny_bundle
from tests.unit.edgegrain.conftest import same

FIELDS = {"id": "tiny-64-lr16", "version": "2.0.0", "codec": "grain", "domain": "test", "evaluation": {}}
FIELDS |= {"training": {"pictures_seen": 7}, "licence": {"weights": "none", "data": "none"}}
FIELDS["decoder"] = {"file": "decoder.onnx", "input": "lr", "output": "hr", "controls": []}


def test_a_manifest_names_sources_of_pictures_but_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*names: str) -> None:
        for name in names:
            Image.new("RGB", (2, 2)).save(tmp_path / f"{name}.png")

    save("ffhq_1", "ffhq_2", "celeba_1", "me_1", "anna", "00001")
    assert picture_sources(tmp_path, ("me_*",)) == {"ffhq": 2, "celeba": 1, "other": 2}
    monkeypatch.setattr(publish, "MOST_SOURCES", 2)
    assert picture_sources(tmp_path, ()) == {"ffhq": 2, "other": 4}
    save(*(f"caf\udce9_{index}" for index in range(3)))  # the byte 233, no UTF-8
    assert picture_sources(tmp_path, ()) == {"caf\\udce9": 3, "other": 6}


def test_another_decoder_leaves_encoder_coder_and_enlarger_byte_for_byte(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "old", random=True, doublings=2)
    refresh_manifest(folder, finest_step=1)
    source = load_manifest(folder)
    kept = {name: source.open_file(name) for name in source.files if name not in ("decoder.onnx", "README.md")}
    decoder = repeating_decoder(64, 16)
    made = replace_decoder(source, tmp_path / "new" / "tiny-64-lr16", decoder, FIELDS, "# a card")
    assert made.lr_contract_id == source.lr_contract_id
    assert {name: made.open_file(name) for name in kept} == kept
    assert made.open_file("decoder.onnx") == decoder and made.open_file("README.md") == b"# a card"
    assert (made.version, made.training) == ("2.0.0", {"pictures_seen": 7})
    assert (source.finest_step, made.finest_step) == (1, None)
    record = json.loads((made.folder / "manifest.json").read_bytes())
    assert record["encoder"] == json.loads((source.folder / "manifest.json").read_bytes())["encoder"]
    assert made.enlarger == source.enlarger and made.sides == (64, 128, 256) and "enlarger_x4.onnx" in kept
    with pytest.raises(FileExistsError, match="force"):
        replace_decoder(source, made.folder, decoder, FIELDS, "")


@pytest.mark.parametrize("name", ["bundles/tiny-64-lr16", "link", "."])
def test_a_bundle_can_be_renewed_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    source = load_manifest(write_tiny_bundle(tmp_path / "bundles"))
    (tmp_path / "link").symlink_to(source.folder)
    monkeypatch.chdir(source.folder if name == "." else tmp_path)
    made = replace_decoder(source, Path(name), repeating_decoder(), FIELDS, "new", force=True)
    assert made.folder == source.folder.resolve() and (tmp_path / "link").is_symlink()
    assert list(source.folder.parent.iterdir()) == [source.folder] and len(list(tmp_path.iterdir())) == 2
    assert made.version == "2.0.0" and made.lr_contract_id == source.lr_contract_id


def test_a_mixed_decoder_lies_between_both_and_keeps_branches() -> None:
    torch.manual_seed(3)
    config = GRAIN_RECIPES["smoke-stage1"].invertible
    trained, kept = RRDBDecoder(config), RRDBDecoder(replace(config, step=2))
    old = {name: tensor.clone() for name, tensor in kept.state_dict().items()}
    made, new = mixed(kept, trained, 0.25).state_dict(), trained.state_dict()
    assert made.keys() > new.keys()
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, 0.75 * old[name] + 0.25 * new[name] if name in new else old[name])
    with pytest.raises(BundleError, match="same shape"):
        mixed(trained, kept, 0.25)


def test_a_manifest_states_the_mix(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "fit_tables", lambda *_, **__: CoderTables.default())
    monkeypatch.setattr(publish.writer, "write_bundle", functools.partial(write_bundle, formats=("onnx",)))
    run = start_run(GRAIN_RECIPES["smoke-stage1"], None)
    save_checkpoint(tmp_path / "run", run)
    first, stated = tmp_path / "first", {"bundle_id": "tiny", "version": "1.0.0", "coder_pictures": 4}
    publish.publish_run(tmp_path / "run", faces, first, **stated)
    bias = run.average.decoder.conv_first.bias
    with torch.no_grad():
        bias.copy_(torch.linspace(0, 1, len(bias)))
    save_checkpoint(tmp_path / "run", run)
    publish.publish_run(tmp_path / "run", faces, tmp_path / "mixed", **stated, encoder_of=first, mix=0.25)
    made = load_manifest(tmp_path / "mixed")
    assert made.training["stages"][-1] == {"stage": "1", "pictures": 0, "mix": 0.25}
    torch.testing.assert_close(bundle_decoder(made).conv_first.bias, bias / 4, atol=1e-3, rtol=0)


@pytest.mark.parametrize("mirrored", [False, True])
def test_tables_are_fitted_to_lrs_of_mirror_images_too(mirrored: bool) -> None:
    run = start_run(GRAIN_RECIPES["smoke-stage1"], None)
    pictures = np.asarray(random_pictures(3, 64, seed=3))
    network = lower(run.average.encoder)  # type: ignore[arg-type]
    wanted = [run_reference(network, picture[None])[0] for picture in pictures]
    if mirrored:
        wanted += [run_reference(network, np.ascontiguousarray(picture[:, ::-1])[None])[0] for picture in pictures]
    assert np.array_equal(publish.encode(run.average, pictures, 10, mirrored=mirrored), np.stack(wanted))


@pytest.fixture
def run(tmp_path: Path) -> GrainRun:
    """A run of stage 3; its generator lies in ``prior.safetensors``."""
    torch.manual_seed(5)
    recipe = GRAIN_RECIPES["smoke-stage3"]
    prior = recipe_prior(recipe, None)
    save_stylegan2(tmp_path / "prior.safetensors", prior)
    return start_run(recipe, None, prior)


def test_a_later_run_can_begin_with_the_zoo(run: GrainRun, tmp_path: Path) -> None:
    run.pictures, run.history = 40, ({"stage": "1", "pictures": 7},)
    save_checkpoint(tmp_path / "run", run)
    prior = run.model.prior
    store_trained(tmp_path / "run", tmp_path / "zoo", tmp_path / "prior.safetensors")
    stored = load_integer_network(tmp_path / "zoo" / "encoder.safetensors")
    assert integer_digest(stored) == integer_digest(lower(run.average.encoder))  # type: ignore[arg-type]
    begun = start_run(GRAIN_RECIPES["smoke-final"], tmp_path / "zoo", prior)
    assert begun.history == ({"stage": "1", "pictures": 7}, {"stage": "3", "pictures": 40})
    wanted = run.average.state_dict()
    for name, tensor in begun.model.decoder.state_dict().items():
        torch.testing.assert_close(tensor, wanted[f"decoder.{name}"], atol=1e-3, rtol=1e-2)
    levels, again = (model.encoder(torch.full((1, 3, 64, 64), 77.0))[0] for model in (run.average, begun.model))
    assert torch.equal(levels, again)
    (tmp_path / "zoo" / CODER_TABLES).write_bytes(replace(CoderTables.default(), step=3).to_json())
    assert start_run(GRAIN_RECIPES["smoke-final"], tmp_path / "zoo", prior).recipe.lr_step == 3


def test_the_zoo_keeps_the_encoder_of_a_bundle_to_the_byte(run: GrainRun, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundles")
    save_checkpoint(tmp_path / "run", run)
    arguments = tmp_path / "run", tmp_path / "zoo", tmp_path / "prior.safetensors"
    with pytest.raises(BundleError, match="is not that of bundle tiny-64-lr16"):
        store_trained(*arguments, encoder_of=bundle)
    network = lower(run.average.encoder)  # type: ignore[arg-type]
    save_integer_network(network, bundle / "encoder.safetensors", force=True)
    refresh_manifest(bundle)
    coder = bundle / "coder.json"
    fine = CoderTables.from_json(coder.read_bytes())
    coder.write_bytes(replace(fine, step=3).to_json())
    refresh_manifest(bundle)
    with pytest.raises(BundleError, match="steps of 3, the run had lr_step=1"):
        store_trained(*arguments, encoder_of=bundle)
    coder.write_bytes(fine.to_json())
    refresh_manifest(bundle)
    store_trained(*arguments, encoder_of=bundle)
    assert (tmp_path / "zoo/encoder.safetensors").read_bytes() == (bundle / "encoder.safetensors").read_bytes()


def test_the_zoo_leaves_a_bundles_decoder_out(run: GrainRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "bundles" / "tiny-base"
    network, decoder = lower(run.average.encoder), run.model.decoder.decoder  # type: ignore[arg-type, union-attr]
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(parameter.half())
    graph = export_decoder(decoder, network.lr, DecoderOptions(WeightStorage.float16))
    licence = {"weights": "Apache-2.0.", "data": "Own.", "enlarger": "that of faces"}
    stated = {"training": {}, "licence": licence, "domain": "cats", "version": "2.0.0"}
    fields = manifest_fields("tiny-base", "grain", architecture=asdict(decoder.config), **stated)
    tables = replace(CoderTables.default(), step=3)
    manifest = write_bundle(base, exact_encoder(network), graph, tables, fields, "card", ("onnx",))
    run.recipe = replace(run.recipe, lr_step=3)
    monkeypatch.setattr(paths, "bundle_roots", lambda: (tmp_path / "bundles",))
    prior, path = run.model.prior, tmp_path / "zoo" / "grain.safetensors"
    kept = KeptDecoder(manifest.id, manifest.version, decoder_hash(manifest))
    written = save_trained(run.average.decoder, path, history=run.stages, compact=True, kept=kept)
    assert not any(name.startswith("decoder.") for name in load_file(written))
    with pytest.raises(ModelError, match=f"needs the invertible decoder of bundle {manifest.id} {manifest.version}"):
        load_trained(written, prior)
    begun = start_run(GRAIN_RECIPES["smoke-final"], tmp_path / "zoo", prior)
    assert begun.recipe.lr_step == zoo_decoder(tmp_path / "zoo", tmp_path / "prior.safetensors").step == 3
    assert same(begun.model.decoder.decoder, decoder)
    monkeypatch.setattr(grain, "export_decoder", lambda *_: repeating_decoder())
    monkeypatch.setattr(grain, "compare_decoder", lambda *_: Comparison(1, 0.0, 200.0, 0.0))
    out = tmp_path / "bundles" / "tiny-grain"
    made = write_trained_bundle(tmp_path / "zoo", out, prior=tmp_path / "prior.safetensors").manifest
    assert (made.id, made.lr_contract_id) == ("tiny-grain", manifest.lr_contract_id)
    changed = {name for name, entry in made.files.items() if entry != manifest.files.get(name)}
    assert changed == {"decoder.onnx", "README.md"}
    assert made.domain == "cats" and made.licence == {
        "weights": f"Apache-2.0. Codes and fusion: {UNSTATED['weights']}",
        "data": "Own. Codes and fusion: Not stated.",
        "enlarger": "that of faces",
        "prior": prior_licence(tmp_path / "prior.safetensors"),
    }
    assert "**Licence.** Apache-2.0. Codes and fusion: " in made.open_file("README.md").decode()
    with pytest.raises(ExportError, match=r"takes the encoder of bundle tiny-base.*leave --formats out"):
        write_trained_bundle(tmp_path / "zoo", tmp_path / "other", formats=("onnx",))
    replace_decoder(manifest, base, repeating_decoder(), fields, "", force=True)
    with pytest.raises(BundleError, match=f"bundle tiny-base {manifest.version}; the installed version .* another one"):
        zoo_decoder(tmp_path / "zoo", tmp_path / "prior.safetensors")


def test_a_stage_1_run_is_stored_with_no_prior(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "fit_tables", functools.partial(fit_tables, steps=8))
    run = start_run(GRAIN_RECIPES["smoke-stage1"], None)
    run.pictures = 9
    save_checkpoint(tmp_path / "run", run)
    store_trained(tmp_path / "run", tmp_path / "zoo", data=faces)
    with pytest.raises(FileExistsError, match="grain.safetensors exists"):  # before the run is read
        store_trained(tmp_path / "no run", tmp_path / "zoo", data=faces)
    source = zoo_decoder(tmp_path / "zoo")
    lr = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(source.decoder(lr), run.average.decoder(lr), atol=0.02, rtol=0)
    assert integer_digest(source.network) == integer_digest(lower(run.average.encoder))  # type: ignore[arg-type]
    again = start_run(GRAIN_RECIPES["smoke-stage1"], tmp_path / "zoo")
    assert again.history == ({"stage": "1", "pictures": 9},)
    with monkeypatch.context() as before_work, pytest.raises(ExportError, match="unknown format tflte"):
        before_work.setattr(grain, "zoo_decoder", None)
        write_trained_bundle(tmp_path / "zoo", tmp_path / "small", formats=("onnx", "tflte"))
    manifest, comparison, _ = write_trained_bundle(tmp_path / "zoo", tmp_path / "small", formats=("onnx",))
    assert comparison.largest_difference < 1e-4
    assert manifest.open_file("coder.json") == (tmp_path / "zoo" / "coder.json").read_bytes()
    run.average.encoder, run.recipe = BoxMean(64, 16), replace(run.recipe, correction=False)
    run.model.encoder = BoxMean(64, 16)
    save_checkpoint(tmp_path / "box", run)
    store_trained(tmp_path / "box", tmp_path / "zoo", force=True)
    assert {path.name for path in (tmp_path / "zoo").iterdir()} == {"grain.safetensors", "coder.json"}
    save_checkpoint(tmp_path / "steps", replace(run, recipe=replace(run.recipe, lr_step=2)))
    with pytest.raises(EdgegrainError, match="levels have a step of 2, .* pass the training pictures"):
        store_trained(tmp_path / "steps", tmp_path / "zoo", force=True)
    graph = onnx.load_model_from_string(manifest.open_file("decoder.onnx")).graph
    assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in graph.initializer)  # as in the zoo
    assert manifest.training == {"stages": [{"stage": "1", "pictures": 9}], "pictures_seen": 9}
    with torch.no_grad():
        torch.testing.assert_close(bundle_decoder(manifest)(lr), source.decoder(lr), atol=0.01, rtol=0)
    codec = sdk.Codec(bundle=str(tmp_path / "small"))
    picture = random_pictures(1, 64, seed=5)[0]
    payload = codec.compress(np.asarray(picture), align=False)
    assert np.array_equal(payload.lr, run_reference(source.network, np.asarray(picture)[None])[0])
    assert codec.restore(payload).size == (64, 64)
    with pytest.raises(FileExistsError):
        write_trained_bundle(tmp_path / "zoo", tmp_path / "small", formats=("onnx",))
