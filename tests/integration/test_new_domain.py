"""A new domain from pictures to payloads: generator, four stages, bundle, and a compressed and restored picture."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle.manifest import load_manifest
from edge_encoder.integer_network import load_integer_network, run_reference
from edgegrain.papers.stylegan.training import NETWORKS, STYLEGAN2_RECIPES
from edgegrain.pictures.packed import random_pictures
from edgegrain.publishing import publish
from edgegrain.publishing.fit_coder import fit_tables
from edgegrain.publishing.publish import publish_run
from edgegrain.training.family import RunOptions
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.run import train
from export.bundle.writer import UNSTATED, write_bundle

SIDE, LR = 64, 16
PICTURES = {"stage1": 32, "stage2": 8, "stage3": 8, "final": 8}  # stage -> how many it sees


@pytest.fixture(scope="module")
def cats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cats")
    for index, picture in enumerate(random_pictures(16, SIDE, seed=0)):
        Image.fromarray(picture).save(folder / f"cat_{index:02}.png")
    return folder


@pytest.fixture(scope="module")
def bundle(cats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that results from all steps of docs/training.md, each as short as possible."""
    root = tmp_path_factory.mktemp("new_domain")
    train(STYLEGAN2_RECIPES["smoke-prior"], root / "prior", RunOptions(data=cats), pictures=16)
    prior, run = root / "prior" / NETWORKS, None
    for stage, pictures in PICTURES.items():
        config = replace(GRAIN_RECIPES[f"smoke-{stage}"], domain="cats")
        options = RunOptions(data=cats, prior=None if stage == "stage1" else prior, init_from=run)
        train(config, root / stage, options, pictures=pictures)
        run = root / stage
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "fit_tables", functools.partial(fit_tables, steps=20))
        # The other formats have tests of their own, and take most of the time.
        patch.setattr(publish.writer, "write_bundle", functools.partial(write_bundle, formats=("onnx",)))
        publish_run(root / "final", cats, root / "cats", bundle_id="cats", version="1.0.0", prior=prior)
    return root / "cats"


def test_the_bundle_names_its_domain_its_stages_and_its_generator(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    assert (manifest.id, manifest.domain, manifest.hr, manifest.lr) == ("cats", "cats", SIDE, LR)
    stages = [{"stage": name.removeprefix("stage"), "pictures": count} for name, count in PICTURES.items()]
    assert manifest.training["stages"] == stages
    assert manifest.training["data"] == {"cat": 16}
    assert manifest.decoder["architecture"]["prior"]["kind"] == "stylegan2"
    assert manifest.licence == {**UNSTATED, "prior": "origin not stated: licence not stated"}
    card = (bundle / "README.md").read_text()
    assert "A picture (cats), 64 x 64, as a viewable LR of 16 x 16 and back." in card and "face" not in card


def test_a_picture_is_compressed_and_restored(bundle: Path, cats: Path) -> None:
    codec = sdk.Codec(bundle, threads=1)
    picture = np.asarray(Image.open(cats / "cat_00.png"))
    payload = codec.compress(picture)
    network = load_integer_network(load_manifest(bundle).open_file("encoder.safetensors"))
    np.testing.assert_array_equal(payload.lr, run_reference(network, picture[None])[0])
    assert len(payload) < LR * LR * 3
    restored = codec.restore(payload)
    assert restored.size == (SIDE, SIDE)
    grey = np.abs(picture.astype(int) - picture.mean((0, 1))).mean()
    assert np.abs(picture.astype(int) - np.asarray(restored)).mean() < grey  # more than the mean colour
