"""find_faces and require_face on the portrait that ships with the package."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import sdk
from sdk import align_or_fit as alignment
from tests.tiny_bundle import HR

pytestmark = pytest.mark.usefixtures("tiny_bundles")


def beside(portrait: np.ndarray, right: int) -> np.ndarray:
    """The portrait in the left of a wider grey picture."""
    return np.pad(portrait, ((0, 0), (0, right), (0, 0)), constant_values=120)


def resized(portrait: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(portrait).resize((side, side), Image.Resampling.LANCZOS))


def turned(portrait: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(portrait).rotate(-40, Image.Resampling.BICUBIC, fillcolor=(120, 120, 120)))


def test_a_good_face(portrait: np.ndarray) -> None:
    found = sdk.find_faces(portrait)
    assert found.problems == () and found.message == "" and len(found.faces) == 1
    face = found.faces[0]
    left, top, right, bottom = face.box
    assert left < 91 < 169 < right and top < 114 < 203 < bottom and right - left == pytest.approx(bottom - top)
    assert face.share == pytest.approx((right - left) / 256) and 0.7 < face.score <= 1
    assert abs(face.roll) < 5 and abs(face.yaw) < 15 and face.problems == ()


def test_problems(portrait: np.ndarray) -> None:
    grey = np.full((120, 90, 3), 100, np.uint8)
    pictures = {
        ("none",): (grey, {}, "no face was found in the picture of 90 x 120 pixels"),
        ("several", "too-small"): (np.concatenate([portrait, portrait], axis=1), {}, "2 faces are in the picture; .*"
                                   r"\. Also: the face takes up 3\d% of the longer side, expected at least 45%"),
        ("too-small",): (resized(portrait, 40), {}, r"a size of 2\d pixels, expected at least 32; use a larger"),
        ("tilted",): (turned(portrait), {}, r"tilted by (39|4\d) degrees, expected at most 20; .*align=True \(--align"),
        ("cut-off",): (portrait[:, :165], {}, "cut off by the picture's edge"),
    }
    for problems, (picture, arguments, message) in pictures.items():
        found = sdk.find_faces(picture, **arguments)
        assert found.problems == problems
        with pytest.raises(sdk.ImageError, match=message) as refused:
            sdk.compress(picture, require_face=True)
        assert str(refused.value) == found.message
        assert len(sdk.compress(picture)) > 0, "it is refused only if that is wanted"


def test_a_face_that_is_turned_away(portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdk.face_check.yaw", lambda face: -50.0)
    found = sdk.find_faces(portrait)
    assert found.problems == found.faces[0].problems == ("turned-away",)
    assert found.message.startswith("the face is turned away by 50 degrees, expected at most 45; use")


def test_an_aligned_face_may_be_tilted_and_one_of_several(
    portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = np.concatenate([portrait, turned(portrait)], axis=1)
    assert sdk.find_faces(group, align=True).problems == ()
    assert sdk.find_faces(turned(portrait), align=True).problems == ()
    assert sdk.find_faces(resized(portrait, 40), align=True).problems == ("too-small",)
    # Without a face, align="auto" takes the centre square; a required face is not found there either.
    monkeypatch.setattr(alignment, "face_square", lambda rgb: (_ for _ in ()).throw(sdk.ImageError("none")))
    with pytest.raises(sdk.ImageError, match="2 faces|cut off|no face"):
        sdk.compress(group, align="auto", require_face=True)


def test_the_centre_square_alone_is_searched(portrait: np.ndarray) -> None:
    wide = beside(portrait, 256)
    assert sdk.find_faces(wide).problems == ("too-small",)
    cropped = sdk.find_faces(wide, fit="crop")  # of columns 128 to 384
    assert "cut-off" in cropped.problems or cropped.problems == ("none",)
    centred = np.pad(portrait, ((0, 0), (128, 128), (0, 0)), constant_values=120)
    found = sdk.find_faces(centred, fit="crop")
    assert found.problems == () and found.faces[0].box[0] == pytest.approx(
        sdk.find_faces(portrait).faces[0].box[0] + 128)
    assert sdk.compress(centred, fit="crop", require_face=True).fit == "crop"


def test_files_are_turned_upright(portrait: np.ndarray) -> None:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[274] = 6  # to be shown turned clockwise
    Image.fromarray(np.rot90(portrait)).save(stream, "PNG", exif=exif)
    assert sdk.find_faces(stream.getvalue()).problems == ()


def test_a_batch_names_the_picture(portrait: np.ndarray) -> None:
    codec = sdk.Codec()
    assert len(codec.compress_batch([portrait, portrait], require_face=True)) == 2
    with pytest.raises(sdk.ImageError, match="picture 1: no face was found"):
        codec.compress_batch([portrait, np.zeros((HR, HR, 3), np.uint8)], require_face=True)


def test_wrong_fit(portrait: np.ndarray) -> None:
    with pytest.raises(sdk.ImageError, match="unknown fit 'align', expected one of pad, stretch, crop"):
        sdk.find_faces(portrait, fit="align")
