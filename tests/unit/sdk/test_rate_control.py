"""Compression at a quality, or within a number of bytes: tiny bundles whose LRs have 8, 16 and 32 pixels, and one with
several rates."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import sdk
from codec_contract.bundle import find as paths
from codec_contract.bundle.find import DEFAULT_BUNDLE, Quality, rates_from
from codec_contract.bundle.manifest import MANIFEST, load_manifest
from edge_encoder import preprocessing
from edge_encoder.contract_id import check_contract_id
from sdk import codec as codec_module
from tests.pictures import noise
from tests.tiny_bundle import add_rates, refresh_manifest, steered_decoder, write_qualities, write_tiny_bundle

PICTURE = noise(70, 90)
SIDES = {"tiny": 8, "small": 16, "medium": 32}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    write_qualities(root)
    return root


@pytest.fixture(autouse=True)
def installed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "bundle_roots", lambda: (root,))


@pytest.mark.parametrize("quality", ["tiny", "small", "medium"])
def test_a_quality_is_the_bundle_of_its_name(quality: Quality) -> None:
    payload = sdk.compress(PICTURE, quality=quality)
    assert payload.lr.shape == (SIDES[quality], SIDES[quality], 3)
    assert sdk.restore(payload).size == (70, 90)  # the payload names its bundle
    assert sdk.compress(PICTURE).lr.shape == (16, 16, 3)


def test_the_best_quality_that_fits_is_taken() -> None:
    sizes = {quality: len(sdk.compress(PICTURE, quality=quality)) for quality in ("tiny", "small", "medium")}
    assert sizes["tiny"] < sizes["small"] < sizes["medium"]
    for quality, size in sizes.items():
        assert sdk.compress(PICTURE, max_bytes=size).lr.shape[0] == SIDES[quality]
    assert sdk.compress(PICTURE, max_bytes=sizes["medium"] - 1).lr.shape[0] == 16
    for quality, side in (("tiny", 8), ("small", 16), ("large", 32)):
        assert sdk.compress(PICTURE, quality=quality, max_bytes=10_000).lr.shape[0] == side
    with pytest.raises(sdk.ImageError, match=f"fits into {sizes['tiny'] - 1} bytes.* has {sizes['tiny']}"):
        sdk.compress(PICTURE, max_bytes=sizes["tiny"] - 1)


def test_a_quality_that_would_fit_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    size = len(sdk.compress(PICTURE, quality="medium"))
    (tmp_path / "faces-256-lr32").symlink_to(next(root.glob("*lr32*")))
    monkeypatch.setattr(paths, "bundle_roots", lambda: (tmp_path,))
    message = rf"has {size}; one of quality {{}} would have about {{}} \(docs/qualities.md\)"
    for limit, quality, expected in ((size // 2, "small", size * 337 // 795), (size // 4, "tiny", size * 161 // 795)):
        with pytest.raises(sdk.ImageError, match=message.format(quality, expected)):
            sdk.compress(PICTURE, "faces-256-lr32", max_bytes=limit)
    with pytest.raises(sdk.ImageError, match=f"has {size}$"):
        sdk.compress(PICTURE, "faces-256-lr32", max_bytes=size // 5)


def test_the_picture_is_read_once_for_all_qualities(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def load(*args: object, **options: object) -> np.ndarray:
        read.append(1)
        return preprocessing.load_picture(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(codec_module, "load_picture", load)
    assert sdk.compress(PICTURE, max_bytes=len(sdk.compress(PICTURE, quality="tiny"))).lr.shape[0] == 8
    assert len(read) == 2


def test_the_installed_bundles_name_their_quality(root: Path) -> None:
    assert {bundle.quality: bundle.lr for bundle in sdk.bundles()} == SIDES
    with pytest.raises(sdk.BundleError, match="of quality large, only: tiny, small, medium"):
        sdk.compress(PICTURE, quality="large")
    codec = sdk.Codec(next(root.glob("*lr32*")))
    with pytest.raises(sdk.BundleError, match="no rate of at most the quality small"):
        codec.compress_fitted(codec.fit(PICTURE), "small")


def finer_bundle(folder: Path, finest: str | None = None) -> None:
    """Write a bundle with levels in steps of 8, and of 2 and 32 at further rates, in place of another."""
    shutil.rmtree(folder)
    write_tiny_bundle(folder.parent, folder.name, step=8)
    add_rates(folder, {2: finest, 32: "tiny"})
    refresh_manifest(folder, quality="small")


class TestRatesOfABundle:
    STEPS = (1, 8, 32, 64)

    @pytest.fixture(autouse=True)
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """One bundle, whose decoder makes pictures brighter by half the step that it is told."""
        folder = write_tiny_bundle(tmp_path, DEFAULT_BUNDLE, decoder=steered_decoder(control="step"))
        add_rates(folder, {8: None, 32: "tiny", 64: None})
        refresh_manifest(folder, quality="small")
        monkeypatch.setattr(paths, "bundle_roots", lambda: (tmp_path,))
        return folder

    def test_the_best_rate_that_fits_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        codec, encoded = sdk.Codec(), []
        fitted = codec.fit(PICTURE)
        lr = codec._lr(fitted)
        sizes = [len(codec._pack(lr, fitted, rate)) for rate in rates_from(codec._manifest)]
        assert sizes == sorted(set(sizes), reverse=True)
        encode = sdk.Codec._lr
        monkeypatch.setattr(sdk.Codec, "_lr", lambda *arguments: encoded.append(1) or encode(*arguments))
        for step, size in zip(self.STEPS, sizes, strict=True):
            payload = sdk.compress(PICTURE, max_bytes=size)
            assert len(payload) == size and payload.bundle == DEFAULT_BUNDLE and sdk.inspect(payload).body_checked
            assert all(level % step == 0 or level == 255 for level in np.unique(payload.lr))
        assert len(encoded) == len(sizes)  # once a picture
        tiny = sdk.compress(PICTURE, quality="tiny")
        assert sdk.inspect(tiny).quality == "tiny" and sdk.inspect(payload).quality is None
        assert tiny == codec.pack(lr, fitted, "tiny") and codec.pack(lr, fitted) == codec.compress(PICTURE)
        with pytest.raises(sdk.BundleError, match="no quality 'huge', only: tiny"):
            codec.pack(lr, fitted, "huge")
        assert len(tiny) == sizes[2] and tiny == sdk.compress(PICTURE, quality="tiny", max_bytes=9999)
        with pytest.raises(sdk.ImageError, match=f"fits into {sizes[3] - 1} bytes.* has {sizes[3]}$"):
            sdk.compress(PICTURE, max_bytes=sizes[3] - 1)
        assert sdk.bundles()[0].qualities == ("small", None, "tiny", None)

    def test_the_decoder_is_told_each_picture_s_step(self) -> None:
        codec, grey = sdk.Codec(), np.full((64, 64, 3), 128, np.uint8)
        fitted = codec.fit(grey)
        lr = codec._lr(fitted)
        payloads = [codec._pack(lr, fitted, rate) for rate in rates_from(codec._manifest)]
        assert all(codec.can_restore(payload) for payload in payloads)
        pictures = codec.restore_batch(payloads)
        assert [int(np.asarray(picture).max()) for picture in pictures] == [129, 132, 144, 160]
        assert [int(np.asarray(sdk.restore(payload)).max()) for payload in payloads] == [129, 132, 144, 160]

    def test_the_decoder_is_told_the_finest_step_that_it_knows(self, installed: Path) -> None:
        lrs = np.full((3, 16, 16, 3), 128, np.uint8)
        refresh_manifest(installed, finest_step=8)
        squares = sdk.Codec()._open.decode(lrs, [1, 8, 32])
        assert [int(square.max()) for square in squares] == [132, 132, 144]
        assert int(sdk.Codec()._open.decode(lrs).max()) == 132

    def test_a_quality_is_the_best_one(self, installed: Path) -> None:
        add_rates(installed, {8: "medium", 32: "tiny", 64: None})
        refresh_manifest(installed, quality="large")
        sizes = [len(sdk.compress(PICTURE, quality=name)) for name in ("large", "medium", "tiny")]
        assert sizes == sorted(sizes, reverse=True)
        assert len(sdk.compress(PICTURE, quality="medium", max_bytes=9999)) == sizes[1]
        assert len(sdk.compress(PICTURE, quality="small", max_bytes=9999)) == sizes[2]

    def test_finer_levels_than_its_own_are_for_limits(self, installed: Path) -> None:
        finer_bundle(installed)
        codec = sdk.Codec()
        fitted = codec.fit(PICTURE)
        fine, own, tiny = (codec._pack(codec._lr(fitted), fitted, rate) for rate in codec._manifest.rates)
        assert own == sdk.compress(PICTURE) == sdk.compress(PICTURE, quality="small", max_bytes=9999)
        for quality in (None, "medium"):
            assert sdk.compress(PICTURE, quality=quality, max_bytes=len(fine)) == fine
        assert sdk.compress(PICTURE, max_bytes=len(fine) - 1) == own
        assert sdk.compress(PICTURE, quality="tiny", max_bytes=9999) == tiny
        assert codec.bundle.qualities == (None, "small", "tiny")
        assert codec.bundle.lr_contract_id == codec.bundle.lr_contract_ids[1]
        assert codec.bundle.lr_contract_id.startswith(own.header.contract_id.hex())

    def test_scenes_have_no_finer_levels(self, installed: Path, portrait: np.ndarray) -> None:
        finer_bundle(installed)
        refresh_manifest(installed, domain="faces")
        assert sdk.compress_scene(portrait, max_bytes=99999).faces == sdk.compress_scene(portrait).faces

    def test_scenes_have_finer_levels_by_name(self, installed: Path, portrait: np.ndarray) -> None:
        finer_bundle(installed, "large")
        refresh_manifest(installed, domain="faces")
        best, own = sdk.compress_scene(portrait, quality="large"), sdk.compress_scene(portrait)
        assert len(best.faces[0]) > len(own.faces[0])
        limited = sdk.compress(portrait, quality="medium", max_bytes=99999)
        assert limited == sdk.compress(portrait, quality="small")

    def test_the_last_rate_need_not_be_the_smallest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        codec = sdk.Codec()
        sizes = {rate.coder: size for rate, size in zip(codec._manifest.rates, (90, 80, 50, 60), strict=True)}
        monkeypatch.setattr(codec, "_pack", lambda lr, fitted, rate: bytes(sizes[rate.coder]))
        found = [len(codec.compress_fitted(codec.fit(PICTURE), max_bytes=limit)) for limit in (85, 65, 55, 20)]
        assert found == [80, 50, 50, 60]

    def test_an_lr_of_a_rate_is_restored_as_its_payload(self) -> None:
        codec = sdk.Codec()
        fitted = codec.fit(PICTURE)
        for rate in rates_from(codec._manifest):
            payload = codec._pack(codec._lr(fitted), fitted, rate)
            wanted, found = codec.restore(payload, size="native"), codec.restore(payload.lr)
            assert np.asarray(found).max() == np.asarray(wanted).max()

    def test_each_rate_s_contract_is_checked(self, installed: Path) -> None:
        manifest = paths.find_bundle(DEFAULT_BUNDLE)
        assert check_contract_id(load_manifest(manifest))
        rates = json.loads((installed / MANIFEST).read_text())["rates"]
        refresh_manifest(installed, rates=[{**rates[0], "lr_contract_id": 64 * "0"}])
        with pytest.raises(sdk.BundleError, match="states LR contract 0000"):
            check_contract_id(load_manifest(installed))
        refresh_manifest(installed, rates=rates[:1] * 2)
        with pytest.raises(sdk.BundleError, match="begin alike"):
            load_manifest(installed)

    def test_all_faces_of_a_scene_have_one_rate(self, installed: Path, portrait: np.ndarray) -> None:
        refresh_manifest(installed, domain="faces")
        whole, coarse = sdk.compress_scene(portrait), sdk.compress_scene(portrait, quality="tiny")
        assert sdk.compress_scene(portrait, max_bytes=len(coarse)).faces == coarse.faces != whole.faces
        assert sdk.restore(coarse).size == portrait.shape[1::-1]

    def test_each_face_has_the_best_rate_that_fits(self, installed: Path, portrait: np.ndarray) -> None:
        refresh_manifest(installed, domain="faces")
        flat = np.clip(portrait, 110, 140)
        pair = np.concatenate([portrait, np.full_like(portrait, 120), flat], axis=1)
        whole = sdk.compress_faces(pair)
        small, large = sorted(map(len, whole))
        limited = sdk.compress_faces(pair, max_bytes=small)
        assert len(limited) == 2 and small < large and max(map(len, limited)) <= small
        assert [payload in limited for payload in whole] == [len(payload) == small for payload in whole]
        assert sdk.compress_faces(pair, quality="tiny") == [
            sdk.Codec().compress_fitted(face, "tiny") for face in sdk.Codec().fit_faces(pair)
        ]
        with pytest.raises(sdk.ImageError, match="no quality fits into 60 bytes"):
            sdk.compress_faces(pair, max_bytes=60)
