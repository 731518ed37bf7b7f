"""Retouching on a bundle that averages and repeats pixels, so that the result of an edit is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdk
from sdk.retouching import blend, changed
from tests.tiny_bundle import HR, LR, write_steered_bundle
from tests.unit.edgegrain.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("tiny_bundles")

BLOCK = HR // LR


@pytest.fixture
def original() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 180, (HR, HR, 3), dtype=np.uint8)


@pytest.fixture
def edited(original: np.ndarray) -> np.ndarray:
    """A white stripe over half of the pixels of one block."""
    edited = original.copy()
    edited[8 * BLOCK : 9 * BLOCK, 8 * BLOCK : 9 * BLOCK : 2] = 255
    return edited


def averaged(picture: np.ndarray) -> np.ndarray:
    """The box mean, repeated: a picture compressed and restored with this bundle."""
    lr = (picture.reshape(LR, BLOCK, LR, BLOCK, 3).astype(int).sum((1, 3)) + BLOCK**2 // 2) // BLOCK**2
    return lr.astype(np.uint8).repeat(BLOCK, 0).repeat(BLOCK, 1)


def test_without_the_original_everything_is_restored(edited: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(sdk.retouch(sdk.Codec(), edited)), averaged(edited))


def test_what_was_not_edited_stays(original: np.ndarray, edited: np.ndarray) -> None:
    result = np.asarray(sdk.retouch(sdk.Codec(), edited, original, feather=1))
    stripe = (edited != original).any(2)
    np.testing.assert_array_equal(result[stripe], averaged(edited)[stripe])
    near = np.zeros((HR, HR), bool)
    near[8 * BLOCK - 5 : 9 * BLOCK + 5, 8 * BLOCK - 5 : 9 * BLOCK + 5] = True
    np.testing.assert_array_equal(result[~near], original[~near])
    between = result[near & ~stripe] != original[near & ~stripe]
    assert 0.1 < between.mean() < 1  # it fades


def test_what_a_file_format_changes_is_no_edit(original: np.ndarray) -> None:
    noisy = np.clip(original.astype(int) + np.random.default_rng(1).integers(-15, 16, original.shape), 0, 255)
    result = sdk.retouch(sdk.Codec(), noisy.astype(np.uint8), original)
    np.testing.assert_array_equal(np.asarray(result), original)


def test_pictures_of_any_size(edited: np.ndarray) -> None:
    wide = np.asarray(Image.fromarray(edited).resize((150, 90)))
    before = wide.copy()
    before[40:50, 70:80] = 0
    result = np.asarray(sdk.retouch(sdk.Codec(), wide, before))
    assert result.shape == wide.shape and (result[:10] == before[:10]).all() and (result[44, 74] != 0).any()


def test_an_edited_picture_of_each_fit() -> None:
    codec = sdk.Codec()
    before = np.random.default_rng(0).integers(60, 180, (80, 120, 3), dtype=np.uint8)
    after = before.copy()
    after[38:42, 58:62] = 255
    after[:, :5] = 0  # outside the centre square
    restored = np.asarray(codec.restore(codec.compress(after, "crop")))
    assert (np.asarray(sdk.retouch(codec, after, fit="crop")) == restored).all()
    result = np.array(sdk.retouch(codec, after, before, fit="crop", feather=0))
    np.testing.assert_array_equal(result[38:42, 58:62], restored[38:42, 38:42])
    result[38:42, 58:62] = before[38:42, 58:62]
    np.testing.assert_array_equal(result, before)
    stretched = np.asarray(sdk.retouch(codec, after, before, fit="stretch", feather=0))
    whole = np.asarray(codec.restore(codec.compress(after, "stretch")))
    np.testing.assert_array_equal(stretched[38:42, 58:62], whole[38:42, 58:62])


def test_strength_is_passed_on(edited: np.ndarray, tmp_path: Path) -> None:
    codec = sdk.Codec(write_steered_bundle(tmp_path))
    dark, light = (np.asarray(sdk.retouch(codec, edited, strength=strength)).astype(int) for strength in (4, 24))
    assert (light - dark).max() == 10


def test_refusals(original: np.ndarray, edited: np.ndarray) -> None:
    with pytest.raises(sdk.ImageError, match="64 x 64 pixels, the edited picture 60 x 64"):
        sdk.retouch(sdk.Codec(), np.ascontiguousarray(edited[:, :60]), original)
    options: dict[str, Any] = {"threshold": 0, "feather": -1, "fit": "align"}
    said = "1 to 255 levels", "0 to 1000 pixels", "unknown fit 'align'"
    for (name, value), message in zip(options.items(), said, strict=True):
        with pytest.raises(sdk.ImageError, match=message):
            sdk.retouch(sdk.Codec(), edited, original, **{name: value})
    with pytest.raises(sdk.ImageError, match="the size of an LR; restore gives"):
        sdk.retouch(sdk.Codec(), edited[:LR, :LR], original)


def test_a_single_edited_pixel_counts() -> None:
    before = np.full((32, 32, 3), 100, np.uint8)
    after = before.copy()
    after[10, 20, 1] = 116
    mask = changed(before, after, 16)
    assert (np.argwhere(mask) == [[10, 20]]).all() and mask.max() == 255
    assert not changed(before, after, 17).any()
    result = blend(before, np.full_like(before, 200), mask, feather=2.0)
    assert (result[10, 20] == 200).all() and 100 < result[10, 22, 0] < 200 and result[31, 0, 0] == 100


def test_the_command(
    original: np.ndarray, edited: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, picture in (("me.png", original), ("edited.png", edited)):
        Image.fromarray(picture).save(tmp_path / name)
    shell, out = Shell(capsys, "retouch"), tmp_path / "edited.retouched.png"
    arguments = [tmp_path / "edited.png", "--original", tmp_path / "me.png", "--feather", 1]
    assert shell.ok(*arguments) == f"{tmp_path / 'edited.png'} -> {out}: 64 x 64 pixels\n"
    np.testing.assert_array_equal(Image.open(out), sdk.retouch(sdk.Codec(), edited, original, feather=1))
    shell.fails("--force", *arguments)
    assert sdk.read_mark(out) is not None
    shell.ok(*arguments, "--force", "--no-mark")
    assert sdk.read_mark(out) is None
    shell.fails("64 x 64 pixels, more than 4000; reduce it first", *arguments, "--force", "--max-megapixels", "0.004")
