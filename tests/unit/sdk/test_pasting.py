"""paste: faces and crops are put back where they were cut out."""

from __future__ import annotations

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
from tests.pictures import encoded, noise

pytestmark = pytest.mark.usefixtures("tiny_bundles")


def photograph(width: int = 400, height: int = 300) -> np.ndarray:
    cells = Image.fromarray(noise(width // 20, height // 20))
    return np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC))


def aligned(square: OrientedSquare, size: tuple[int, int] = (400, 300)) -> sdk.Payload:
    """A payload of a square of a picture."""
    return sdk.Payload(encode_payload(np.zeros((1, 1, 3), np.uint8), contract_id=bytes(4), tables=CoderTables.default(),
                                      original_size=size, fit="align", square=square))


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


def test_refusals() -> None:
    rgb = photograph()
    face, payload = np.zeros((64, 64, 3), np.uint8), aligned(SQUARE)
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
        sdk.paste(face, payload, encoded(rgb), max_pixels=5000)
