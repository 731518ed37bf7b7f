"""Faces of photographs: found, cut out exactly and named, and put back; find_faces, require_face, paste."""

import math
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import sdk
from codec_contract.exact_square import cut_square
from codec_contract.fit import fit_picture
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import encode_payload
from edge_encoder.faces.detection import DetectedFace
from sdk import faces
from tests.pictures import encoded, noise
from tests.tiny_bundle import HR, refresh_manifest, write_tiny_bundle

pytestmark = pytest.mark.usefixtures("tiny_face_bundles")

GREY = np.full((120, 90, 3), 100, np.uint8)


def resized(portrait: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(portrait).resize((side, side), Image.Resampling.LANCZOS))


def large_and_small(portrait: np.ndarray) -> np.ndarray:
    picture = np.full((300, 400, 3), 120, np.uint8)
    picture[20:220, 20:220] = resized(portrait, 200)
    picture[230:270, 300:340] = resized(portrait, 40)
    return picture


def lr_of(rgb: np.ndarray) -> list[int]:
    return sdk.Codec().compress(rgb, fit="stretch").lr.tolist()


class TestCompress:
    def test_the_largest_face_is_encoded_and_named(self, group: np.ndarray) -> None:
        payload = sdk.compress(group)
        square = payload.header.square
        assert square is not None and payload.fit == "align" and payload.original_size == (900, 600)
        assert abs(math.degrees(math.atan2(square.across_y, square.across_x)) - 15) < 2
        assert abs(square.side - 256) < 20 and math.hypot(square.x / 4 - 237, square.y / 4 - 307) < 12
        assert payload.lr.tolist() == lr_of(cut_square(group, square, HR))
        assert sdk.inspect(payload).square == square
        assert sdk.restore(payload).size == (square.side, square.side)
        assert sdk.restore(payload, size="native").size == (HR, HR)
        assert sdk.find_faces(group).faces[0].square == square

    def test_a_framed_picture_is_encoded_whole(self, portrait: np.ndarray) -> None:
        payload = sdk.compress(portrait)
        assert payload == sdk.compress(portrait, fit="pad") == sdk.compress(portrait, align=False)
        assert payload.fit == "pad" and payload.lr.tolist() == lr_of(fit_picture(portrait, HR))

    def test_the_whole_picture_on_request(self, group: np.ndarray) -> None:
        for fit in ("pad", "stretch", "crop"):
            payload = sdk.compress(group, fit=fit)
            assert payload.fit == fit and payload.lr.tolist() == lr_of(fit_picture(group, HR, fit))
        assert sdk.compress(group, align=False) == sdk.compress(group, fit="pad")

    def test_no_face(self, portrait: np.ndarray) -> None:
        message = r"no face was found in the picture of 90 x 120 pixels; .* align=False \(--no-align\)"
        with pytest.raises(sdk.ImageError, match=message):
            sdk.compress(GREY)
        for work in (sdk.compress_faces, sdk.compress_scene):  # which have no align
            with pytest.raises(sdk.ImageError, match="no face was found .*; use another picture$"):
                work(GREY)
        with pytest.raises(sdk.ImageError, match="picture 1: no face"):
            sdk.Codec().compress_batch([portrait, GREY])
        assert sdk.compress(GREY, align=False).fit == "pad"

    def test_a_photograph_of_a_phone_is_turned_upright(self, group: np.ndarray) -> None:
        exif = Image.Exif()
        exif[274] = 6  # to be shown turned clockwise
        assert sdk.compress(encoded(np.rot90(group), exif=exif)) == sdk.compress(group)

    def test_a_face_that_no_square_fits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        detected = DetectedFace(np.array([10.0, 10]), 40, np.zeros((6, 2)), 0.9)
        face = faces.FoundFace(detected, np.full((3, 2), 10.0))
        monkeypatch.setattr(faces.FaceFinder, "find", lambda self, rgb, every=False, largest=False: [face])
        with pytest.raises(sdk.ImageError, match="too small to be aligned"):
            sdk.compress(GREY)

    def test_other_domains_are_encoded_whole(self, group: np.ndarray, tmp_path: Path) -> None:
        folder = write_tiny_bundle(tmp_path)
        assert sdk.compress(group, folder).fit == "pad"
        with pytest.raises(sdk.ImageError, match="is for anything, not for faces of photographs"):
            sdk.compress_faces(group, folder)
        with pytest.raises(sdk.ImageError, match="require_face checks the face that is cut out"):
            sdk.compress(group, folder, require_face=True)
        refresh_manifest(folder, preprocessing={"pad": "edge", "tile_overlap": 4})
        with pytest.raises(sdk.ImageError, match="leave fit out"):
            sdk.Codec(folder).fit(group, "crop")
        with pytest.raises(sdk.ImageError, match="not for faces"):
            sdk.Codec(folder).compress_scene(group)

    def test_a_large_square_is_refused_before_any_network_runs(
        self, group: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        payload = sdk.compress(group)
        side = payload.header.square.side
        monkeypatch.setattr("sdk.codec.decode_body", lambda *a: pytest.fail("decoded"))
        with pytest.raises(sdk.ImageError, match=f"claims a part of {side} x {side} pixels, more than {side**2 - 1}"):
            sdk.restore(payload, max_pixels=side**2 - 1)


class TestCompressFaces:
    def test_every_face_the_largest_first(self, group: np.ndarray) -> None:
        payloads = sdk.compress_faces(group)
        first, second = (payload.header.square for payload in payloads)
        assert payloads[0] == sdk.compress(group) and first.side > 1.3 * second.side
        assert math.hypot(second.x / 4 - 700, second.y / 4 - 140) < 8
        assert payloads[1].lr.tolist() == lr_of(cut_square(group, second, HR))

    def test_a_framed_picture(self, portrait: np.ndarray) -> None:
        assert sdk.compress_faces(portrait) == [sdk.compress(portrait)]

    def test_faces_below_32_pixels_are_left_out_of_all_but_scenes(self, portrait: np.ndarray) -> None:
        picture = large_and_small(portrait)
        assert len(sdk.find_faces(picture, every=True).faces) == 2
        assert len(sdk.compress_faces(picture)) == 1
        with pytest.raises(sdk.ImageError, match="the face has a size of .* pixels, expected at least 32"):
            sdk.compress_faces(picture[225:])
        # Scenes take small faces where they fit.
        assert len(sdk.compress_scene(picture[225:]).faces) == 1
        both = sdk.compress_scene(picture)
        assert len(both.faces) == 2
        assert len(sdk.compress_scene(picture, max_bytes=len(both)).faces) == 2
        assert len(sdk.compress_scene(picture, max_bytes=len(both) - 100).faces) == 1

    def test_twenty_faces(self, portrait: np.ndarray) -> None:
        faces = sdk.compress_scene(np.tile(resized(portrait, 100), (4, 5, 1))).faces
        assert len(faces) == 20 and len({bytes(face) for face in faces}) == 20


class TestFindFaces:
    def test_a_good_face(self, portrait: np.ndarray) -> None:
        found = sdk.find_faces(portrait)
        assert found.problems == () and found.message == "" and len(found.faces) == 1
        face = found.faces[0]
        left, top, right, bottom = face.box
        assert left < 91 < 169 < right and top < 114 < 203 < bottom and right - left == pytest.approx(bottom - top)
        assert face.share == pytest.approx((right - left) / 256) and 0.7 < face.score <= 1
        assert abs(face.roll) < 5 and abs(face.yaw) < 15 and face.problems == ()
        assert face.square is not None and abs(face.square.side - 256) < 10

    def test_problems(self, portrait: np.ndarray) -> None:
        small = np.pad(resized(portrait, 40), ((60, 60), (60, 60), (0, 0)), constant_values=120)
        for picture, problem, message in (
            (GREY, "none", "no face was found in the picture of 90 x 120 pixels"),
            (small, "too-small", r"a size of 2\d pixels, expected at least 32; use a larger"),
            (portrait[:, :125], "cut-off", "cut off by the picture's edge"),
        ):
            assert sdk.find_faces(picture).problems == (problem,)
            with pytest.raises(sdk.ImageError, match=message):
                sdk.compress(picture, require_face=True)
        assert len(sdk.compress(small)) > 0, "it is refused only if that is wanted"

    def test_small_and_tilted_faces_in_a_large_picture_are_no_problem(self, group: np.ndarray) -> None:
        large = np.pad(group, ((300, 300), (900, 900), (0, 0)), constant_values=90)
        found = sdk.find_faces(large)
        assert found.problems == () and found.faces[0].share < 0.1 and abs(found.faces[0].roll - 15) < 5
        assert sdk.compress(large, require_face=True).fit == "align"

    def test_a_face_that_is_turned_away(self, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(DetectedFace, "yaw", property(lambda face: -50.0))
        found = sdk.find_faces(portrait)
        assert found.problems == found.faces[0].problems == ("turned-away",)
        assert found.message.startswith("the face is turned away by 50 degrees, expected at most 45; use")

    def test_require_face_needs_the_face(self, group: np.ndarray) -> None:
        for arguments in ({"fit": "pad"}, {"align": False}):
            with pytest.raises(sdk.ImageError, match="leave it out with a fit, with align=False"):
                sdk.compress(group, require_face=True, **arguments)

    def test_a_batch_names_the_picture(self, portrait: np.ndarray) -> None:
        codec = sdk.Codec()
        assert len(codec.compress_batch([portrait, portrait], require_face=True)) == 2
        with pytest.raises(sdk.ImageError, match="picture 1: no face was found"):
            codec.compress_batch([portrait, GREY], require_face=True)

    def test_a_face_whose_square_has_its_centre_outside(
        self, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(faces, "ffhq_square", Mock(side_effect=sdk.ImageError("outside")))
        assert sdk.find_faces(portrait).faces[0].square is None


class TestLargePictures:
    @pytest.mark.parametrize(("size", "read"), [((8064, 6048), (8064, 6048)), ((16320, 12240), (8160, 6120))])
    def test_photographs_of_phones(
        self, size: tuple[int, int], read: tuple[int, int], portrait: np.ndarray, tmp_path: Path
    ) -> None:
        picture = Image.new("L", size, 120)
        face = Image.fromarray(portrait).convert("L")
        picture.paste(face.resize((size[1] // 3,) * 2), (size[0] // 2, size[1] // 4))
        picture.save(tmp_path / "photo.jpg", quality=80)
        del picture
        payload = sdk.compress(tmp_path / "photo.jpg")
        assert payload.original_size == read and payload.fit == "align"
        assert abs(payload.header.square.side - read[1] / 3) < read[1] / 20

    def test_a_line(self) -> None:
        for shape in ((1, 30000, 3), (3000, 1, 3)):
            with pytest.raises(sdk.ImageError, match="no face was found"):
                sdk.compress(np.full(shape, 7, np.uint8))


def photograph(width: int = 400, height: int = 300) -> np.ndarray:
    cells = Image.fromarray(noise(width // 20, height // 20))
    return np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC))


def aligned(square: OrientedSquare, size: tuple[int, int] = (400, 300)) -> sdk.Payload:
    """A payload of a square of a picture."""
    lr, tables, id_ = np.zeros((1, 1, 3), np.uint8), CoderTables.default(), bytes(2)
    data = encode_payload(lr, contract_id=id_, tables=tables, original_size=size, fit="align", square=square)
    return sdk.Payload(data)


SQUARE = OrientedSquare(810, 610, 380, -90)


@pytest.mark.parametrize("square", [SQUARE, OrientedSquare(60, 600, 500, 90)])
def test_what_was_cut_out_fits_in_again(square: OrientedSquare) -> None:
    """The second one reaches beyond the picture."""
    rgb = photograph()
    cut = cut_square(rgb, square, 256)
    pasted = np.asarray(sdk.paste(cut, aligned(square), rgb)).astype(int)
    assert np.abs(pasted - rgb).max() <= 12 and np.abs(pasted - rgb).mean() < 1


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 7), st.sampled_from([0, 0.1, 0.5]))
def test_any_square(x: float, y: float, length: float, angle: float, feather: float) -> None:
    side = 6 * 80**length  # 1.5 to 120 pixels, in quarters
    across = round(side * np.cos(angle)), round(side * np.sin(angle))
    square = OrientedSquare(round(400 * x), round(280 * y), *across)
    payload = aligned(square, (100, 70))
    background, face = photograph(100, 80)[:70], np.full((16, 16, 3), 200, np.uint8)
    pasted = np.asarray(sdk.paste(face, payload, background, feather=feather)).astype(int)
    upper_left, lower_left, _, upper_right = square.corners()
    points = np.stack(np.meshgrid(np.arange(100) + 0.5, np.arange(70) + 0.5), axis=-1) - upper_left
    across, down = (points @ edge / (edge @ edge) for edge in (upper_right - upper_left, lower_left - upper_left))
    inset = np.minimum(np.minimum(across, 1 - across), np.minimum(down, 1 - down))
    assert (pasted[inset < -1e-4] == background[inset < -1e-4]).all()
    assert (pasted[inset > feather + 1e-4] == 200).all()
    if feather:
        ramp = np.clip(inset / feather, 0, 1)
        expected = background + (ramp**2 * (3 - 2 * ramp))[..., None] * (200 - background.astype(float))
        assert np.abs(pasted - expected).max() < 1.5
    cut = cut_square(background, square, 16)
    assert cut.shape == (16, 16, 3) and cut.min() >= int(background.min()) - 1 and cut.max() <= background.max()


def test_a_smaller_background() -> None:
    rgb = photograph()
    payload = aligned(SQUARE)
    small = Image.fromarray(rgb).resize((133, 100), Image.Resampling.LANCZOS)
    cut = cut_square(rgb, payload.header.square, 256)
    pasted = sdk.paste(cut, payload, small)
    assert pasted.size == (133, 100)
    assert np.abs(np.asarray(pasted).astype(int) - np.asarray(small)).mean() < 2


def test_a_cropped_picture() -> None:
    rgb = photograph(401, 300)
    payload = sdk.compress(rgb, fit="crop")
    square = fit_picture(rgb, 300, "crop")
    pasted = np.asarray(sdk.paste(square, payload, np.zeros_like(rgb), feather=0))
    np.testing.assert_array_equal(pasted[:, 50:350], square)
    assert not pasted[:, :50].any() and not pasted[:, 350:].any()


def test_pastes_that_are_refused() -> None:
    rgb = photograph()
    face, payload = np.zeros((64, 64, 3), np.uint8), aligned(SQUARE)
    for data, message in ((sdk.compress(rgb, fit="pad"), "the whole picture .fit 'pad'"), (bytes(20), "not a payload")):
        with pytest.raises(sdk.PayloadError, match=message):
            sdk.paste(face, data, rgb)
    with pytest.raises(sdk.ImageError, match="a restored face is square, got 63 x 64"):
        sdk.paste(face[:, 1:], payload, rgb)
    with pytest.raises(sdk.ImageError, match="background has 300 x 400 pixels, the original had 400 x 300"):
        sdk.paste(face, payload, rgb.transpose(1, 0, 2))
    with pytest.raises(sdk.ImageError, match="0 to 0.5, got 0.6"):
        sdk.paste(face, payload, rgb, feather=0.6)
    with pytest.raises(sdk.ImageError, match="claims 400 x 300 pixels, more than 5000"):
        sdk.paste(face, payload, encoded(rgb), max_pixels=5000)
