"""Pictures restored at other sizes than the decoder's, with and without an enlarger.

The decoder and the enlarger of the tiny bundle repeat pixels, so every picture is known.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle.manifest import load_manifest
from codec_contract.fit import content_size
from codec_contract.oriented_square import OrientedSquare
from sdk.codec import Codec
from sdk.faces import Fitted
from sdk.open_bundle import OpenBundle
from sdk.payload import check_restoration, check_side
from tests.pictures import noise
from tests.tiny_bundle import HR, LR, refresh_manifest, write_tiny_bundle

ENLARGED, PLAIN = "enlarged-64-lr16", "plain-64-lr16"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    write_tiny_bundle(root, ENLARGED, doublings=2)
    write_tiny_bundle(root, PLAIN)
    return root


@pytest.fixture(scope="module")
def codec(root: Path) -> Codec:
    return Codec(root / ENLARGED, threads=1)


@pytest.fixture(scope="module")
def plain(root: Path) -> Codec:
    return Codec(root / PLAIN, threads=1)


def square(payload: sdk.Payload, side: int) -> np.ndarray:
    return payload.lr.repeat(side // LR, axis=0).repeat(side // LR, axis=1)


def lanczos(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture in another size; as it is if that is its own."""
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))


def test_sizes_between_those_of_the_bundle_are_reduced_from_the_next_one(codec: Codec) -> None:
    payload = codec.compress(noise(300, 300))
    for enlarged, sizes in {64: (1, 48, 64), 128: (65, 100, 128), 256: (129, 255, 256)}.items():
        for size in sizes:
            expected = lanczos(square(payload, enlarged), (size, size))
            np.testing.assert_array_equal(codec.restore(payload, size=size), expected)
            np.testing.assert_array_equal(codec.restore(payload.lr, size=size), expected)


@pytest.mark.parametrize(("original", "above", "rows"), [((320, 200), 12, 40), ((300, 201), 10, 43)])
def test_padding_is_cut_off_at_every_size(codec: Codec, original: tuple[int, int], above: int, rows: int) -> None:
    # 64 x rows pixels of the encoder's square; of 21 rows of padding, 10 are above them.
    payload = codec.compress(noise(*original))
    for factor in (1, 2, 4):
        restored = np.asarray(codec.restore(payload, size=HR * factor))
        assert restored.shape == (rows * factor, 64 * factor, 3)
        expected = square(payload, HR * factor)[above * factor : (above + rows) * factor]
        np.testing.assert_array_equal(restored, expected)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_the_longest_side_has_the_size(codec: Codec, fit: str) -> None:
    for original in ((333, 100), (77, 201)):
        payload = codec.compress(noise(*original), fit)
        for size in (33, 128, 200, 256):
            restored = codec.restore(payload, size=size)
            assert restored.size == content_size(original, size) and max(restored.size) == size


def test_crops_and_aligned_squares_have_the_size(codec: Codec) -> None:
    payload = codec.compress(noise(300, 200), "crop")
    np.testing.assert_array_equal(codec.restore(payload, size=128), square(payload, 128))
    aligned = codec.pack(payload.lr, Fitted(payload.lr, (300, 200), "align", OrientedSquare(400, 400, 320, 240)))
    np.testing.assert_array_equal(codec.restore(aligned, size=256), square(payload, 256))
    np.testing.assert_array_equal(codec.restore(aligned), lanczos(square(payload, 128), (100, 100)))


def test_originals_take_the_smallest_size_that_covers_them(codec: Codec) -> None:
    sides = {64: 64, 65: 128, 128: 128, 200: 256, 256: 256, 900: 256}
    for size, enlarged in {(40, 30): 64, **{(side, side): enlarged for side, enlarged in sides.items()}}.items():
        payload = codec.compress(noise(*size), "stretch")
        np.testing.assert_array_equal(codec.restore(payload), lanczos(square(payload, enlarged), size))


def test_native_stays_at_the_decoder_s_resolution(codec: Codec) -> None:
    payload = codec.compress(noise(900, 900))
    np.testing.assert_array_equal(codec.restore(payload, size="native"), square(payload, HR))


def test_batches_restore_every_picture_at_its_size(codec: Codec) -> None:
    payloads = [codec.compress(noise(side, side)) for side in (50, 100, 200, 64)]
    assert [item.size for item in codec.restore_batch(payloads)] == [(50, 50), (100, 100), (200, 200), (64, 64)]
    for size in ("original", "native", 128, 100, np.int64(100)):
        for restored, payload in zip(codec.restore_batch(payloads, size=size), payloads, strict=True):
            np.testing.assert_array_equal(restored, codec.restore(payload, size=size))


def test_sizes_that_cannot_be_restored(plain: Codec) -> None:
    payload = plain.compress(noise(70, 70))
    refused: dict[Any, str] = {
        65: "plain-64-lr16 restores pictures at up to 64 pixels, not at 65; its sizes: 64$",
        0: "a size is 1 to 65535 pixels, got 0",
        -4: "got -4",
        1 << 20: "got 1048576",
        64.0: "unknown size 64.0",
        "large": "unknown size 'large', expected 'original', 'native' or a number",
    }
    for size, message in refused.items():
        for source in (payload, payload.lr):
            with pytest.raises(sdk.ImageError, match=message):
                plain.restore(source, size=size)


def test_sizes_beyond_the_largest_size(codec: Codec) -> None:
    payload = codec.compress(noise(1000, 1000))
    with pytest.raises(sdk.ImageError, match="at up to 256 pixels, not at 257; its sizes: 64, 128, 256"):
        codec.restore(payload, size=257)
    with pytest.raises(sdk.ImageError, match="^payload 0: .*not at 257"):
        codec.restore_batch([payload, payload], size=257)


def test_max_pixels(codec: Codec) -> None:
    payload = codec.compress(noise(320, 200))
    assert codec.restore(payload, size=128, max_pixels=128 * 80).size == (128, 80)
    assert codec.restore(payload, size="native", max_pixels=1 << 12).size == (64, 40)
    with pytest.raises(sdk.ImageError, match="would have 128 x 80 pixels, more than 10239; ask for a smaller size"):
        codec.restore(payload, size=128, max_pixels=128 * 80 - 1)
    with pytest.raises(sdk.ImageError, match="would have 128 x 128 pixels, more than 10239"):
        codec.restore(payload.lr, size=128, max_pixels=128 * 80 - 1)
    with pytest.raises(sdk.ImageError, match="claims an original of 320 x 200 pixels"):
        codec.restore(payload, max_pixels=60_000)
    assert codec.restore(payload, size="native", max_pixels=10).size == (64, 40)  # the bundle's own size is no claim


def test_an_enlarger_is_opened_when_a_size_needs_it(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, doublings=2)
    (folder / "enlarger_x4.onnx").write_bytes(b"altered")
    codec = Codec(folder, threads=1)
    payload = codec.compress(noise(64, 64))
    assert codec.restore(payload).size == (64, 64)
    with pytest.raises(sdk.BundleError, match=r"enlarger_x4\.onnx of bundle .* has 7 bytes"):
        codec.restore(payload, size=200)


def test_tiles_are_restored_at_the_original_s_size(plain: Codec) -> None:
    tiled, header = replace(load_manifest(plain.bundle.folder), tile_overlap=2), plain.compress(noise(70, 50)).header
    header = replace(header, lr_width=18, lr_height=13)
    for size in ("original", "native"):
        assert check_restoration(header, tiled, size, 3500)[1:] == ((70, 50), 1)
    with pytest.raises(sdk.ImageError, match="at their original's size only, not at 128 pixels; leave size out"):
        check_side(tiled, 128)
    with pytest.raises(sdk.BundleError, match="has no enlarger"):
        _ = OpenBundle(load_manifest(plain.bundle.folder)).enlarger


def test_an_enlarger_in_the_wrong_order(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, doublings=2)
    refresh_manifest(folder, enlarger={"files": ["enlarger_x4.onnx", "enlarger_x2.onnx"]})
    with pytest.raises(sdk.BundleError, match="file 1 of the enlarger does not double squares of 64 pixels: its input"):
        Codec(folder, threads=1).restore(np.zeros((LR, LR, 3), np.uint8), size=128)


def test_sizes_are_published(codec: Codec, plain: Codec, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    assert codec.bundle.sides == (64, 128, 256) and plain.bundle.sides == (64,)
    monkeypatch.setattr("codec_contract.bundle.find.bundle_roots", lambda: (root,))
    payload = codec.compress(noise(70, 70))
    assert sdk.inspect(payload).sides == (64, 128, 256)
    np.testing.assert_array_equal(sdk.restore(payload, size=256), square(payload, 256))
