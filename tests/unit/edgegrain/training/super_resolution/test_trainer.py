"""Training of enlargers."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import sdk
from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import BundleError, EdgegrainError, ImageError, ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from edgegrain.pictures.packed import random_pictures
from edgegrain.pictures.stored_pictures import list_pictures
from edgegrain.training.adversarial import AdversarialConfig, ProjectedConfig, ProjectedDiscriminator
from edgegrain.training.distributed import Distributed
from edgegrain.training.family import RunOptions
from edgegrain.training.losses import GridLoss, MetricNetworks
from edgegrain.training.run import train
from edgegrain.training.super_resolution import trainer as trainer_module
from edgegrain.training.super_resolution.pairs import (
    Pairs,
    crop_window,
    draw_window,
    packed_pairs,
    restored_pictures,
    window_batches,
)
from edgegrain.training.super_resolution.recipes import SUPER_RESOLUTION_RECIPES, SuperResolutionLosses
from edgegrain.training.super_resolution.trainer import (
    SuperResolutionTrainer,
    cut_windows,
    half_loss,
    load_run,
    start_run,
    window_loss,
)
from sdk.open_bundle import OpenBundle
from server_decoder.generative_prior import Window
from server_decoder.super_resolution import SuperResolution, load_super_resolution, read_training
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle
from tests.unit.edgegrain.conftest import alexnet_stand_in, rows, same

SMOKE = SUPER_RESOLUTION_RECIPES["smoke-enlarge"]
CPU = torch.device("cpu")


def test_a_trained_network_enlarges_better_than_bicubic_and_is_resumed(tmp_path: Path) -> None:
    first = train(SMOKE, tmp_path, pictures=40)
    weights = load_super_resolution(tmp_path)
    assert weights.config == SMOKE.network and read_training(tmp_path)["pictures_seen"] == 40
    result = train(SMOKE, tmp_path, pictures=240, resume=True)
    assert result["pictures"] == 240 and result["skipped"] == 0 and load_run(tmp_path).pictures == 240
    assert [row["seen"] for row in rows(tmp_path, "seen")] == [0, 40]
    assert result["psnr_bicubic"] == first["psnr_bicubic"]
    assert result["psnr"] > first["psnr"] + 0.3 and result["psnr"] > result["psnr_bicubic"] + 1
    assert {f"peaks_{period}" for period in (2, 4, 8, 16)} <= set(result) and result["input_levels"] > 1
    # Four smoke pictures: both eyes and the mouth of each, a quarter of 128 pixels.
    assert Image.open(tmp_path / "samples.png").size == (2 * 16 + 12 * 40 - 8, 2 * 16 + 3 * 40 - 8)


@pytest.mark.usefixtures("unevaluated")
def test_a_run_begins_with_trained_weights_of_its_shape(tmp_path: Path) -> None:
    train(SMOKE, tmp_path, pictures=8)
    assert same(start_run(SMOKE, tmp_path).model, load_super_resolution(tmp_path))
    with pytest.raises(ModelError, match="the recipe has"):
        start_run(SUPER_RESOLUTION_RECIPES["enlarge-faces-256-x4"], tmp_path)


def test_a_run_begins_with_a_bundle_whose_enlarger_has_the_first_doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = SuperResolution(SMOKE.network.cut(1))
    monkeypatch.setattr(trainer_module, "find_enlarger", lambda start: SimpleNamespace(network=lambda: shipped))
    weights = start_run(SMOKE, "faces").model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in shipped.state_dict().items())
    others = weights.keys() - shipped.state_dict().keys()
    assert {".".join(name.split(".")[:2]) for name in others} == {"fine.0", "heads.1"}


@pytest.mark.usefixtures("unevaluated")
def test_factor_2_leaves_the_weights_of_factor_4(tmp_path: Path) -> None:
    recipe = replace(SMOKE, factor=2)
    before = start_run(recipe).model.state_dict()
    train(recipe, tmp_path, pictures=8)
    after = load_run(tmp_path).model.state_dict()
    moved = {name.removesuffix(".weight") for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert "heads.0" in moved and not {name for name in moved if name.startswith(("fine.", "heads.1"))}


def test_the_discriminator_learns_and_joins_on_time() -> None:
    recipe = replace(
        SMOKE,
        adversarial=AdversarialConfig(
            "hinge", ratio=0.25, discriminator=ProjectedConfig(4), r1=0.0, begins=0.5, warms_up=0.5
        ),
    )
    originals = np.zeros((4, 128, 128, 3), np.uint8)
    pairs = Pairs(originals[:, ::4, ::4], originals)
    run = start_run(recipe)
    assert run.adversarial is not None and isinstance(run.adversarial.discriminator, ProjectedDiscriminator)
    trainer = SuperResolutionTrainer(run, Distributed(CPU), MetricNetworks(), pairs, pairs)
    run.adversarial.discriminator.features = alexnet_stand_in
    assert "adversarial" not in trainer.step(0.2)
    assert {"adversarial", "discriminator", "logit_gap"} <= set(trainer.step(0.9)) and trainer.skipped == 0


def test_windows_are_cut_from_originals_and_pictures() -> None:
    original = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(crop_window(original, Window(3, 5, 4), 4), original[12:28, 20:36])
    picture = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    parts = cut_windows(picture, [[Window(1, 2, 3)], [Window(5, 0, 3)]])
    assert torch.equal(parts, torch.stack([picture[0, :, 1:4, 2:5], picture[1, :, 5:8, 0:3]]))


def test_batches_hold_matching_windows() -> None:
    restored = random_pictures(3, 32, seed=0)
    pairs = Pairs(restored, restored.repeat(4, 1).repeat(4, 2))  # originals without detail
    feed, mirrored = window_batches(SMOKE, pairs, 0, CPU), 0
    for batch in (next(feed) for _ in range(3)):
        assert batch.target.shape == (8, 3, 48, 48)
        wanted = cut_windows(batch.picture, batch.windows)
        assert torch.equal(batch.target[..., ::4, ::4], wanted)
        found = batch.picture.permute(0, 2, 3, 1).numpy()
        mirrored += sum(any(np.array_equal(picture, known[:, ::-1]) for known in restored) for picture in found)
    assert 0 < mirrored < 12


def test_windows_lie_around_the_regions_of_a_face() -> None:
    recipe, rng = replace(SUPER_RESOLUTION_RECIPES["enlarge-faces-256-x4"], region_part=1.0), np.random.default_rng(0)
    windows = [draw_window(rng, recipe) for _ in range(300)]
    assert all(0 <= window.top <= 192 and 0 <= window.left <= 192 and window.size == 64 for window in windows)
    centres = np.array([(window.left + 32, window.top + 32) for window in windows])
    near = [(np.abs(centres - place).max(1) < 48).sum() for place in ((97, 120), (159, 120), (129, 186), (128, 32))]
    assert min(near) > 40  # of 50 each, both eyes, mouth and hair at the top; a spread of 16 pixels
    anywhere = [draw_window(rng, replace(recipe, region_part=0.0)) for _ in range(300)]
    assert np.std([window.top for window in anywhere]) == pytest.approx(192 / 12**0.5, rel=0.1)


def test_losses_by_hand() -> None:
    target = torch.zeros(1, 3, 16, 16)
    enlarged = torch.full_like(target, 0.2)
    enlarged[..., ::2] = 0.4
    weights = SuperResolutionLosses(l1=1.0, lpips=0.0, reduced=10.0, input=100.0, grid=0.0, half=0.25)
    total, terms = window_loss(weights, enlarged, target, torch.full((1, 3, 4, 4), 0.25), None, None)
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {"l1": 0.3, "reduced": 0.3, "input": 0.05}, rel=1e-5
    )
    assert float(total) == pytest.approx(0.3 + 3 + 5, rel=1e-5)
    large = torch.zeros(1, 3, 32, 32)
    large[..., ::2] = 0.2  # its 2x2 box mean is 0.1
    assert float(half_loss(weights, enlarged, large, None, None)) == pytest.approx(0.25 * 0.2, rel=1e-5)


def test_a_grid_below_the_noise_of_a_batch_is_found_over_many() -> None:
    grid, pattern = GridLoss(), 0.01 * torch.tensor([1.0, -1.0]).repeat(32)
    for _ in range(200):
        enlarged = (pattern + 0.3 * torch.randn(1, 3, 64, 64)).requires_grad_(True)
        loss, height = grid(enlarged, torch.zeros(1, 3, 64, 64), 8)
    loss.backward()
    assert enlarged.grad is not None and 0.008 < float(height) < 0.02
    # The gradient lowers the bright columns and raises the dark ones.
    by_column = enlarged.grad.mean((0, 1, 2)).view(-1, 2).mean(0)
    assert float(by_column[0]) > 0.5 / 4096 / 3 and float(by_column[1]) < -0.5 / 4096 / 3


def save(folder: Path, names: list[str], side: int) -> None:
    folder.mkdir(exist_ok=True)
    for index, (name, picture) in enumerate(zip(names, random_pictures(len(names), side, seed=0), strict=True)):
        Image.fromarray(np.roll(picture, index, 0)).save(folder / name)


def test_restored_pictures_are_those_of_the_sdk_and_are_kept(tmp_path: Path) -> None:
    recipe = replace(SMOKE, size=256, factor=2)
    save(tmp_path / "data", ["a.png", "b.png"], 640)
    reports: list[tuple[float, str]] = []
    pairs = packed_pairs(
        recipe, list_pictures(tmp_path / "data"), tmp_path / "cache", lambda part, line: reports.append((part, line))
    )
    assert reports == [
        (0.5, "packing pictures of 512x512"),
        (1.0, "packing pictures of 512x512"),
        (1.0, "restoring pictures with faces-256-lr16-small"),
    ]
    assert pairs.restored.shape == (2, 256, 256, 3) and pairs.originals.shape == (2, 512, 512, 3)
    codec = sdk.Codec(form="default")
    for original, restored in zip(pairs.originals, pairs.restored, strict=True):
        wanted = np.asarray(codec.restore(codec.compress(np.array(original), align=False), size="native"))
        assert np.array_equal(restored, wanted)
    kept = sorted((tmp_path / "cache").glob("*.npy"))
    again = packed_pairs(recipe, list_pictures(tmp_path / "data"), tmp_path / "cache")
    assert isinstance(again.restored, np.memmap) and len(kept) == 2
    assert sorted((tmp_path / "cache").glob("*.npy")) == kept


def test_pictures_of_a_bundle_with_a_level_step_are_restored_from_rounded_lrs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, cache = write_tiny_bundle(tmp_path), tmp_path / "cache"
    cache.mkdir()
    originals = np.full((1, 128, 128, 3), 101, np.uint8)  # the encoder averages, the decoder repeats pixels
    restored, decode = [], OpenBundle.decode

    def slowly(opened: OpenBundle, lrs: np.ndarray) -> np.ndarray:
        restored.append(len(lrs))
        time.sleep(0.1)
        return decode(opened, lrs)

    monkeypatch.setattr(OpenBundle, "decode", slowly)
    with ThreadPoolExecutor(2) as several:  # one restores, the other waits
        for pictures in several.map(lambda _: restored_pictures(originals, str(bundle), 64, cache), range(2)):
            assert (pictures == 101).all()
    assert restored == [1]
    manifest = load_manifest(bundle)
    parts = ["", manifest.lr_contract_id.hex(), manifest.entry("decoder.onnx").sha256]
    # Names of files do not change for bundles without a step.
    old = f"restored-64-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:16]}.npy"
    assert [path.name for path in cache.glob("*.npy")] == [old]
    (bundle / "coder.json").write_bytes(replace(CoderTables.default(), step=7).to_json())
    refresh_manifest(bundle)  # keeps the contract id, as in the name
    assert (restored_pictures(originals, str(bundle), 64, cache) == 98).all() and len(list(cache.glob("*.npy"))) == 2


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    save(tmp_path / "data", ["a.png", "b.png"], 128)
    for recipe, options, message in (
        (replace(SMOKE, size=64), RunOptions(data=tmp_path / "data"), "2 pictures have sides below 256 pixels"),
        (replace(SMOKE, random_pictures=0), RunOptions(), "pass --data"),
        (SMOKE, RunOptions(data=tmp_path / "data"), "restores pictures of 256x256"),
    ):
        with pytest.raises(EdgegrainError, match=message):
            train(recipe, tmp_path / "run", options)
    assert issubclass(ImageError, EdgegrainError) and not (tmp_path / "run").exists()
    with pytest.raises(BundleError, match="there is no bundle 'none'"):
        restored_pictures(np.zeros((1, 64, 64, 3), np.uint8), "none", 32, tmp_path)
    with pytest.raises(ValueError, match="need a projected discriminator"):
        replace(SMOKE, adversarial=AdversarialConfig())
