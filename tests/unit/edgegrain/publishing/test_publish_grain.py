"""A bundle with another decoder keeps its LR contract; its manifest names sources of pictures."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec_contract.bundle.manifest import load_manifest
from edge_encoder.integer_network import run_reference
from edge_encoder.lowering import lower
from edgegrain.pictures.packed import random_pictures
from edgegrain.publishing import publish_grain
from edgegrain.publishing.publish_grain import picture_sources
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.start import start_run
from export.bundle.writer import replace_decoder
from tests.tiny_bundle import repeating_decoder, write_tiny_bundle

FIELDS = {"id": "tiny-64-lr16", "version": "2.0.0", "codec": "grain", "domain": "test", "evaluation": {},
          "decoder": {"file": "decoder.onnx", "input": "lr", "output": "hr", "controls": []},
          "training": {"pictures_seen": 7}, "licence": {"weights": "none", "data": "none"}}


def test_a_manifest_names_sources_of_pictures_but_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*names: str) -> None:
        for name in names:
            Image.new("RGB", (2, 2)).save(tmp_path / f"{name}.png")

    save("ffhq_1", "ffhq_2", "celeba_1", "me_1", "anna", "00001")
    assert picture_sources(tmp_path, ("me_*",)) == {"ffhq": 2, "celeba": 1, "other": 2}
    monkeypatch.setattr(publish_grain, "MOST_SOURCES", 2)
    assert picture_sources(tmp_path, ()) == {"ffhq": 2, "other": 4}
    save(*(f"caf\udce9_{index}" for index in range(3)))  # the byte 233, no UTF-8
    assert picture_sources(tmp_path, ()) == {"caf\\udce9": 3, "other": 6}


def test_another_decoder_leaves_encoder_and_coder_byte_for_byte(tmp_path: Path) -> None:
    source = load_manifest(write_tiny_bundle(tmp_path / "old", random=True))
    kept = {name: source.open_file(name) for name in source.files if name not in ("decoder.onnx", "README.md")}
    decoder = repeating_decoder(64, 16)
    made = replace_decoder(source, tmp_path / "new" / "tiny-64-lr16", decoder, FIELDS, card="# a card")
    assert made.lr_contract_id == source.lr_contract_id
    assert {name: made.open_file(name) for name in kept} == kept
    assert made.open_file("decoder.onnx") == decoder
    assert made.open_file("README.md") == b"# a card"
    assert (made.version, made.training) == ("2.0.0", {"pictures_seen": 7})
    record = json.loads((made.folder / "manifest.json").read_bytes())
    assert record["encoder"] == json.loads((source.folder / "manifest.json").read_bytes())["encoder"]
    with pytest.raises(FileExistsError, match="force"):
        replace_decoder(source, made.folder, decoder, FIELDS, card="")


def test_another_decoder_leaves_the_enlarger(tmp_path: Path) -> None:
    source = load_manifest(write_tiny_bundle(tmp_path / "old", doublings=2))
    made = replace_decoder(source, tmp_path / "new" / "tiny-64-lr16", repeating_decoder(), FIELDS, card="")
    assert made.enlarger == source.enlarger and made.sides == (64, 128, 256)
    assert made.open_file("enlarger_x4.onnx") == source.open_file("enlarger_x4.onnx")


@pytest.mark.parametrize("name", ["bundles/tiny-64-lr16", "link", "."])
def test_a_bundle_can_be_renewed_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    source = load_manifest(write_tiny_bundle(tmp_path / "bundles"))
    (tmp_path / "link").symlink_to(source.folder)
    monkeypatch.chdir(source.folder if name == "." else tmp_path)
    made = replace_decoder(source, Path(name), repeating_decoder(), FIELDS, card="new", force=True)
    assert made.folder == source.folder.resolve() and (tmp_path / "link").is_symlink()
    assert list(source.folder.parent.iterdir()) == [source.folder] and len(list(tmp_path.iterdir())) == 2
    assert made.version == "2.0.0"
    assert made.lr_contract_id == source.lr_contract_id


@pytest.mark.parametrize("mirrored", [False, True])
def test_tables_are_fitted_to_lrs_of_mirror_images_too(mirrored: bool) -> None:
    torch.manual_seed(3)
    run = start_run(GRAIN_RECIPES["smoke-stage1"], None)
    pictures = np.asarray(random_pictures(3, 64, seed=3))
    network = lower(run.average.encoder)  # type: ignore[arg-type]
    wanted = [run_reference(network, picture[None])[0] for picture in pictures]
    if mirrored:
        wanted += [run_reference(network, np.ascontiguousarray(picture[:, ::-1])[None])[0] for picture in pictures]
    assert np.array_equal(publish_grain.encode(run.average, pictures, 10, mirrored=mirrored), np.stack(wanted))


def test_the_commit_is_that_of_the_clone_with_this_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is installed in a user's clone has no commit of its own."""
    if not shutil.which("git"):
        pytest.skip("needs git")
    git = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    installed = tmp_path / "installed.py"
    installed.touch()
    monkeypatch.setattr(publish_grain, "__file__", str(installed))
    assert publish_grain._commit() == "unknown"
    git(["git", "init"])
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--message", "one"]
    git([*commit, "--allow-empty"])
    assert publish_grain._commit() == "unknown"
    git(["git", "add", installed.name])
    git(commit)
    assert publish_grain._commit() == git(["git", "rev-parse", "HEAD"]).stdout.strip()
