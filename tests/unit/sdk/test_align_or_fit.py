"""compress with align, and paste: with a stand-in for the face finder, and without the extra."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import sdk
from codec_contract.fit import fit_picture
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import encode_payload
from edge_encoder.faces.alignment import FacePoints, cut_square
from sdk import align_or_fit as alignment
from tests.tiny_bundle import HR, refresh_manifest, write_tiny_bundle

pytestmark = pytest.mark.usefixtures("tiny_bundles")

FACE = FacePoints((180, 150), (220, 140), (208, 190))


def scene(width: int = 400, height: int = 300) -> np.ndarray:
    cells = np.random.default_rng(0).integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC))


def png(rgb: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[FacePoints | None]:
    """The faces that the finder returns."""
    faces: list[FacePoints | None] = [FACE]

    class Finder:
        def find(self, rgb: np.ndarray) -> FacePoints | None:
            return faces[0]

    monkeypatch.setattr(alignment, "_finder", lambda folder: Finder())
    return faces


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEGRAIN_CACHE", str(tmp_path / "empty"))


def test_the_square_is_encoded_and_named(found: object) -> None:
    rgb = scene()
    payload = sdk.compress(rgb, align=True)
    square = payload.header.square
    assert square is not None and payload.fit == "align" and payload.original_size == (400, 300)
    assert payload.lr.tolist() == sdk.compress(cut_square(rgb, square.corners(), HR)).lr.tolist()
    assert sdk.inspect(payload).square == square
    assert sdk.inspect(sdk.compress(rgb)).square is None
    restored = sdk.restore(payload)
    assert restored.size == (square.side, square.side)
    assert sdk.restore(payload, size="native").size == (HR, HR)


def test_a_batch_gives_the_same(found: object) -> None:
    rgb = scene()
    codec = sdk.Codec()
    assert codec.compress_batch([rgb, rgb], align=True) == [sdk.compress(rgb, align=True)] * 2
    payload = sdk.compress(rgb, align=True)
    np.testing.assert_array_equal(codec.restore_batch([payload])[0], sdk.restore(payload))


def test_no_face(found: list[FacePoints | None]) -> None:
    found[0] = None
    with pytest.raises(sdk.ImageError, match=r"no face was found in the picture of 400 x 300 pixels.*align='auto'"):
        sdk.compress(scene(), align=True)
    with pytest.raises(sdk.ImageError, match="picture 0: no face"):
        sdk.Codec().compress_batch([scene()], align=True)
    assert sdk.compress(scene(), align="auto") == sdk.compress(scene(), fit="crop")


def test_a_face_that_no_square_fits(found: list[FacePoints | None]) -> None:
    found[0] = FacePoints((10, 10), (10, 10), (10, 10))
    with pytest.raises(sdk.ImageError, match="too small"):
        sdk.compress(scene(), align=True)
    assert sdk.compress(scene(), align="auto").fit == "crop"


def test_without_models(no_models: None) -> None:
    with pytest.raises(sdk.ModelError, match="run: edgegrain align fetch"):
        sdk.compress(scene(), align=True)
    assert sdk.compress(scene(), align="auto") == sdk.compress(scene(), fit="crop")


@pytest.mark.parametrize(("arguments", "message"), [
    ({"align": "yes"}, "align is True, False or 'auto', got 'yes'"),
    ({"align": np.array([True, False])}, "align is True, False or 'auto', got array"),
    ({"align": 0}, "align is True, False or 'auto', got 0"),
    ({"align": True, "fit": "crop"}, "leave fit='crop' or align out"),
    ({"align": "auto", "fit": "stretch"}, "leave fit='stretch' or align out"),
])
def test_wrong_arguments(found: object, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(sdk.ImageError, match=message):
        sdk.compress(scene(), **arguments)


def test_a_large_square_is_refused_before_any_network_runs(
    found: list[FacePoints | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = sdk.compress(scene(), align=True)
    side = payload.header.square.side
    monkeypatch.setattr("sdk.open_bundle.OpenBundle.unpack", lambda *a: pytest.fail("decoded"))
    with pytest.raises(sdk.ImageError, match=f"claims a part of {side} x {side} pixels, more than {side * side - 1}"):
        sdk.restore(payload, max_pixels=side * side - 1)


class TestPaste:
    def test_the_outside_is_the_background(self, found: object) -> None:
        rgb, background = scene(), np.full((300, 400, 3), (10, 200, 30), np.uint8)
        payload = sdk.compress(rgb, align=True)
        square = payload.header.square
        pasted = np.asarray(sdk.paste(np.full((64, 64, 3), 250, np.uint8), payload, background))
        upper_left, lower_left, _, upper_right = square.corners()
        y, x = np.mgrid[:300, :400] + 0.5
        points = np.stack([x, y], axis=-1) - upper_left
        edges = upper_right - upper_left, lower_left - upper_left
        across, down = (points @ edge / (edge @ edge) for edge in edges)
        inset = np.minimum(np.minimum(across, 1 - across), np.minimum(down, 1 - down))
        ramp = np.clip(inset / 0.1, 0, 1)
        expected = background + (ramp**2 * (3 - 2 * ramp))[..., None] * (250 - background.astype(float))
        assert np.abs(pasted - expected).max() < 1.5
        assert (inset < 0).any() and (pasted[inset < 0] == background[inset < 0]).all()

    @pytest.mark.parametrize("face", [FACE, FacePoints((20, 140), (60, 150), (30, 200))])
    def test_what_was_cut_out_fits_in_again(self, found: list[FacePoints | None], face: FacePoints) -> None:
        found[0] = face  # the second one's square reaches beyond the picture
        rgb = scene()
        payload = sdk.compress(rgb, align=True)
        cut = cut_square(rgb, payload.header.square.corners(), 256)
        pasted = np.asarray(sdk.paste(cut, payload, rgb)).astype(int)
        assert np.abs(pasted - rgb).max() <= 12 and np.abs(pasted - rgb).mean() < 1

    @settings(max_examples=40, deadline=None)
    @given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 7), st.sampled_from([0, 0.1, 0.5]))
    def test_any_square(self, x: float, y: float, length: float, angle: float, feather: float) -> None:
        side = 6 * 80**length  # 1.5 to 120 pixels, in quarters
        across = round(side * np.cos(angle)), round(side * np.sin(angle))
        square = OrientedSquare(round(400 * x), round(280 * y), *across)
        payload = encode_payload(np.zeros((1, 1, 3), np.uint8), contract_id=bytes(4), tables=CoderTables.default(),
                                 original_size=(100, 70), fit="align", square=square)
        background, face = scene(100, 80)[:70], np.full((16, 16, 3), 200, np.uint8)
        pasted = np.asarray(sdk.paste(face, payload, background, feather=feather)).astype(int)
        upper_left, lower_left, _, upper_right = square.corners()
        points = np.stack(np.meshgrid(np.arange(100) + 0.5, np.arange(70) + 0.5), axis=-1) - upper_left
        across, down = (points @ edge / (edge @ edge) for edge in (upper_right - upper_left, lower_left - upper_left))
        inset = np.minimum(np.minimum(across, 1 - across), np.minimum(down, 1 - down))
        assert (pasted[inset < -1e-4] == background[inset < -1e-4]).all()
        assert (pasted[inset > feather + 1e-4] == 200).all()
        cut = cut_square(background, square.corners(), 16)
        assert cut.shape == (16, 16, 3) and cut.min() >= int(background.min()) - 1 and cut.max() <= background.max()

    def test_a_smaller_background(self, found: object) -> None:
        rgb = scene()
        payload = sdk.compress(rgb, align=True)
        small = Image.fromarray(rgb).resize((133, 100), Image.Resampling.LANCZOS)
        cut = cut_square(rgb, payload.header.square.corners(), 256)
        pasted = sdk.paste(cut, payload, small)
        assert pasted.size == (133, 100)
        assert np.abs(np.asarray(pasted).astype(int) - np.asarray(small)).mean() < 2

    def test_a_cropped_picture(self) -> None:
        rgb = scene(401, 300)
        payload = sdk.compress(rgb, fit="crop")
        square = fit_picture(rgb, 300, "crop")
        pasted = np.asarray(sdk.paste(square, payload, np.zeros_like(rgb), feather=0))
        np.testing.assert_array_equal(pasted[:, 50:350], square)
        assert not pasted[:, :50].any() and not pasted[:, 350:].any()

    def test_refusals(self, found: object) -> None:
        rgb = scene()
        face, payload = np.zeros((64, 64, 3), np.uint8), sdk.compress(rgb, align=True)
        with pytest.raises(sdk.PayloadError, match=r"holds the whole picture \(fit 'pad'\)"):
            sdk.paste(face, sdk.compress(rgb), rgb)
        with pytest.raises(sdk.PayloadError, match="not a payload"):
            sdk.paste(face, bytes(20), rgb)
        with pytest.raises(sdk.ImageError, match="a restored face is square, got 63 x 64"):
            sdk.paste(face[:, 1:], payload, rgb)
        with pytest.raises(sdk.ImageError, match="background has 300 x 400 pixels, the original had 400 x 300"):
            sdk.paste(face, payload, rgb.transpose(1, 0, 2))
        for feather in (0.6, None, "0.1"):
            with pytest.raises(sdk.ImageError, match=f"0 to 0.5, got {feather!r}"):
                sdk.paste(face, payload, rgb, feather=feather)  # type: ignore[arg-type]
        with pytest.raises(sdk.ImageError, match="claims 400 x 300 pixels, more than 5000"):
            sdk.paste(face, payload, png(rgb), max_pixels=5000)


def test_tiles_are_not_aligned(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    refresh_manifest(folder, preprocessing={"pad": "edge", "tile_overlap": 4})
    with pytest.raises(sdk.ImageError, match="leave align out"):
        sdk.compress(scene(), folder, align="auto")
