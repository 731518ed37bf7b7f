"""The default bundle does what the README says; its decoder's stages, fine scales, unseen faces and refinement."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sdk
from codec_contract.bundle.find import DEFAULT_BUNDLE
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.pixels import network_input
from edgegrain.cli.doctor import check_bundle
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.picture_metrics import chroma_difference, unit_batch
from edgegrain.metrics.pixel_scores import periodic_peaks, psnr
from edgegrain.pictures.stored_pictures import original_of
from edgegrain.refinement import RefiningCodec
from export.decoder.export import bundle_decoder
from sdk.open_bundle import is_grey
from server_decoder.grain.rrdb_decoder import RRDBDecoder


@pytest.fixture(scope="module")
def manifest(default_bundle: Path) -> Manifest:
    return load_manifest(default_bundle)


def test_portrait_there_and_back(default_bundle: Path, tmp_path: Path, repository: Path) -> None:
    path = repository / "edgegrain" / "demo" / "portrait_768.jpg"
    original = Image.open(path).convert("RGB")
    payload = sdk.compress(path)
    assert 300 < len(payload) < 779  # below the 11 bytes of frame and the LR's own 768
    assert payload.lr.shape == (16, 16, 3) and payload.bundle == DEFAULT_BUNDLE
    assert sdk.inspect(payload.save(tmp_path / "me.grain")).body_checked
    restored = sdk.restore(tmp_path / "me.grain")
    assert restored.size == original.size
    enlarged = original.resize((16, 16), Image.Resampling.BOX).resize(original.size, Image.Resampling.BICUBIC)
    # More than an enlarged thumbnail of as many pixels, by a margin.
    rgb = np.asarray(original)
    assert psnr(np.asarray(restored), rgb) > psnr(np.asarray(enlarged), rgb) + 1.0


def test_a_limit_takes_the_best_rate_of_the_installed_bundles(default_bundle: Path, repository: Path) -> None:
    path = repository / "edgegrain" / "demo" / "portrait.jpg"
    original = np.asarray(Image.open(path).convert("RGB"))
    limits = 120, 200, 400, 560, 640, 1000
    payloads = [sdk.compress(path, max_bytes=limit) for limit in limits]
    assert all(len(payload) <= limit for payload, limit in zip(payloads, limits, strict=True))
    assert [payload.lr.shape[0] for payload in payloads] == [16, 16, 16, 32, 32, 32]
    scores = [psnr(np.asarray(sdk.restore(payload, mark=False)), original) for payload in payloads]
    assert scores == sorted(scores) and scores[-1] > scores[0] + 3


@pytest.mark.parametrize("name", [DEFAULT_BUNDLE, "faces-256-lr32", "faces-256-lr64"])
def test_healthy(default_bundle: Path, name: str) -> None:
    checks = list(check_bundle(default_bundle.parent / name))
    assert [check.state for check in checks if "decoder" not in check.name] == ["ok", "ok"], checks
    assert checks[2].state != "broken", checks


def test_restores_within_a_second_of_processor_time_a_core(default_bundle: Path) -> None:
    codec = sdk.Codec(threads=2)
    codec.warm_up()
    lr = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        codec.restore(lr)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 2.0  # two threads, one second each


def test_size(default_bundle: Path) -> None:
    info = next(bundle for bundle in sdk.bundles() if bundle.id == DEFAULT_BUNDLE)
    assert info.bytes <= 25.5e6
    assert (info.hr, info.lr, info.domain) == (256, 16, "faces")


def test_all_pictures_of_its_training_are_counted(manifest: Manifest) -> None:
    stages = manifest.training["stages"]
    assert {"stage": "1", "pictures": 80640} in stages  # deeper encoder and decoder together
    assert sum(stage["pictures"] for stage in stages) == manifest.training["pictures_seen"] > 300_000


def test_its_fine_scales_have_capacity(manifest: Manifest) -> None:
    decoder = bundle_decoder(manifest)
    assert isinstance(decoder, RRDBDecoder)
    finest = [(scale.size, scale.channels, scale.residual) for scale in decoder.config.scales[-2:]]
    assert finest == [(128, 64, 3), (256, 32, 2)]
    assert manifest.entry(manifest.decoder["file"]).size < 9e6


@torch.inference_mode()
def test_it_restores_unseen_faces_without_a_grid(
    default_bundle: Path, shared_weights: Path, faces: list[np.ndarray]
) -> None:
    lpips, codec = LPIPS(shared_weights), sdk.Codec(default_bundle, threads=1)
    distances, peaks = [], []
    for original in faces[:4]:
        restored = np.asarray(codec.restore(codec.compress(original)))
        distances.append(float(lpips(unit_batch(restored), unit_batch(original))))
        peaks.append(periodic_peaks(restored)[8])
    assert np.mean(distances) < 0.15  # of the classical codecs with as few bytes the best has 0.49
    assert np.mean(peaks) < 3  # dB; originals have 1.8, bundle 0.5.0 had 16


def in_grey(rgb: np.ndarray, saturation: float = 0) -> np.ndarray:
    """A picture with a share of its colours."""
    luma = np.asarray(Image.fromarray(rgb).convert("L")).astype(float)[..., None]
    return np.rint(luma + saturation * (rgb - luma)).astype(np.uint8)


def cielab_chroma(rgb: np.ndarray) -> np.ndarray:
    """The chroma of every pixel of a square."""
    picture, grey = (torch.from_numpy(network_input(each[None])).double() for each in (rgb, np.zeros_like(rgb)))
    return chroma_difference(picture, grey, len(rgb)).pow(2).sum(1).sqrt().numpy()


def test_a_grey_portrait_comes_back_grey(default_bundle: Path, repository: Path) -> None:
    codec = sdk.Codec(default_bundle, threads=1)
    original = np.asarray(Image.open(repository / "edgegrain" / "demo" / "portrait.jpg").convert("RGB"))
    payload = codec.compress(in_grey(original))
    for size in ("native", 512):
        assert cielab_chroma(np.asarray(codec.restore(payload, size=size))).max() < 2
    for saturation in (0.3, 1):
        restored = np.asarray(codec.restore(codec.compress(in_grey(original, saturation)), size="native"))
        assert cielab_chroma(restored).mean() > 2
    sepia = np.rint(in_grey(original) * (1, 0.9, 0.75)).astype(np.uint8)
    assert cielab_chroma(np.asarray(codec.restore(codec.compress(sepia), size="native"))).mean() > 8


@pytest.fixture(scope="module")
def faces(shared_data: Path) -> list[np.ndarray]:
    """Unseen faces, uint8 ``[256, 256, 3]``."""
    if not (paths := sorted((shared_data / "dev_eval" / "faces_256").glob("*"))):
        pytest.skip("needs ../shared/data/dev_eval/faces_256")
    return [original_of(path, 256) for path in paths]


def test_unseen_grey_faces_come_back_grey(default_bundle: Path, faces: list[np.ndarray]) -> None:
    codec = sdk.Codec(default_bundle, threads=1)
    lrs = [codec.compress(in_grey(rgb), align=False).lr for rgb in faces]
    chroma = [cielab_chroma(np.asarray(restored)) for restored in codec.restore_batch(lrs[::4])]
    assert np.percentile(chroma, 99) < 2
    assert np.mean([is_grey(lr, "faces", 2) for lr in lrs]) > 0.99
    assert not any(is_grey(codec.compress(in_grey(rgb, 0.3), align=False).lr, "faces", 2) for rgb in faces)


def test_a_few_steps_restore_a_better_face(default_bundle: Path, shared_weights: Path, faces: list[np.ndarray]) -> None:
    """The payload is as small as before, and an ordinary one."""
    plain = sdk.Codec(default_bundle, threads=1)
    original = plain.fit(faces[1]).rgb
    start = plain.compress(original)
    found = RefiningCodec(default_bundle, steps=6, weights=shared_weights, threads=1).compress(original)
    assert len(found) <= len(start) and found != start
    assert np.abs(found.lr.astype(int) - start.lr).mean() < 2  # levels: the LR stays a small version of the picture
    before, after = (np.asarray(plain.restore(payload)) for payload in (start, found))
    lpips, target = LPIPS(shared_weights), unit_batch(original)
    with torch.inference_mode():
        distances = [lpips(unit_batch(picture), target).item() for picture in (before, after)]
    assert distances[1] < 0.95 * distances[0]
    assert psnr(after, original) > psnr(before, original) - 0.3
