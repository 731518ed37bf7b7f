"""The fit policies, and their undoing to the pixel."""

import numpy as np
import pytest

from codec_contract.exact_square import exact_resize
from codec_contract.fit import content_size, fit_picture, unfit_picture
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import Header
from tests.pictures import noise


def header(size: tuple[int, int], fit: str = "pad", square: OrientedSquare | None = None) -> Header:
    return Header(1, 0, bytes(4), 1, 1, *size, fit, square)


class TestFit:
    @pytest.mark.parametrize(
        ("size", "shorter"),
        [((640, 480), 48), ((1, 1), 64), ((5000, 1), 1), ((128, 3), 2), ((128, 5), 3), ((128, 1), 1), ((3, 2), 43)],
    )
    def test_content_size(self, size: tuple[int, int], shorter: int) -> None:
        assert content_size(size, 64) == (64, shorter)
        assert content_size(size[::-1], 64) == (shorter, 64)

    def test_pad_scales_and_repeats_the_edges(self) -> None:
        rgb = noise(300, 201)
        fitted = fit_picture(rgb, 64, "pad")
        content = exact_resize(rgb, (64, 43))  # 201 * 64 / 300 = 42.88; 21 rows are left over, 10 go above
        np.testing.assert_array_equal(fitted[10:53], content)
        np.testing.assert_array_equal(fitted[:10], np.repeat(content[:1], 10, axis=0))
        np.testing.assert_array_equal(fitted[53:], np.repeat(content[-1:], 11, axis=0))

    def test_stretch_is_the_exact_resize(self) -> None:
        rgb = noise(300, 201)
        np.testing.assert_array_equal(fit_picture(rgb, 64, "stretch"), exact_resize(rgb, (64, 64)))

    def test_crop_takes_the_centre(self) -> None:
        rgb = noise(300, 201)
        np.testing.assert_array_equal(fit_picture(rgb, 64, "crop"), exact_resize(rgb[:, 49:250].copy(), (64, 64)))
        np.testing.assert_array_equal(fit_picture(rgb[:, :1], 64, "crop"), np.broadcast_to(rgb[100, 0], (64, 64, 3)))

    def test_squares_of_the_right_size_and_huge_pictures(self) -> None:
        rgb, huge = noise(64, 64), np.broadcast_to(np.uint8([10, 20, 30]), (6000, 8000, 3))
        for fit in ("pad", "stretch", "crop"):
            np.testing.assert_array_equal(fit_picture(rgb, 64, fit), rgb)
        np.testing.assert_array_equal(fit_picture(huge, 64, "pad"), np.full((64, 64, 3), (10, 20, 30)))

    def test_strips_change_no_byte(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rgb = noise(117, 203)
        expected = fit_picture(rgb, 64, "stretch")
        monkeypatch.setattr("codec_contract.fit._STRIP_PIXELS", 117 * 10)
        np.testing.assert_array_equal(fit_picture(rgb, 64, "stretch"), expected)


class TestUnfit:
    @pytest.mark.parametrize("size", [(64, 48), (31, 64)])
    def test_padding_is_removed_exactly(self, size: tuple[int, int]) -> None:
        rgb = noise(size[0], size[1])
        np.testing.assert_array_equal(unfit_picture(fit_picture(rgb, 64, "pad"), header(size), size), rgb)

    def test_smooth_picture_survives_the_round_trip(self) -> None:
        y, x = np.indices((120, 200))
        rgb = np.stack([x, y, (x + y) // 2], axis=2).astype(np.uint8)
        whole, crop = ((200, 120), rgb), ((120, 120), rgb[:, 40:160])
        for fit, (size, shown) in (("pad", whole), ("stretch", whole), ("crop", crop)):
            restored = unfit_picture(fit_picture(rgb, 64, fit), header((200, 120), fit), size)
            assert np.abs(restored.astype(int) - shown).max() <= 6
