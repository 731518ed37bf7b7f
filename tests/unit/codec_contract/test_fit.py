"""The fit policies, and their undoing to the pixel."""

from __future__ import annotations

import numpy as np
import pytest

from codec_contract.errors import ImageError
from codec_contract.fit import check_size, content_size, fit_picture, unfit_picture
from codec_contract.resize import exact_resize


def picture(height: int = 5, width: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class TestFit:
    @pytest.mark.parametrize(("size", "expected"), [
        ((640, 480), (64, 48)), ((480, 640), (48, 64)), ((1, 1), (64, 64)), ((1, 5000), (1, 64)), ((5000, 1), (64, 1)),
        ((128, 3), (64, 2)), ((128, 5), (64, 3)), ((128, 1), (64, 1)), ((3, 2), (64, 43))])
    def test_content_size(self, size: tuple[int, int], expected: tuple[int, int]) -> None:
        assert content_size(size, 64) == expected

    def test_pad_scales_and_repeats_the_edges(self) -> None:
        rgb = picture(201, 300)
        fitted = fit_picture(rgb, 64, "pad")
        content = exact_resize(rgb, (64, 43))  # 201 * 64 / 300 = 42.88; 21 rows are left over, 10 go above
        np.testing.assert_array_equal(fitted[10:53], content)
        np.testing.assert_array_equal(fitted[:10], np.repeat(content[:1], 10, axis=0))
        np.testing.assert_array_equal(fitted[53:], np.repeat(content[-1:], 11, axis=0))

    def test_stretch_is_the_exact_resize(self) -> None:
        rgb = picture(201, 300)
        np.testing.assert_array_equal(fit_picture(rgb, 64, "stretch"), exact_resize(rgb, (64, 64)))

    def test_crop_takes_the_centre(self) -> None:
        rgb = picture(201, 300)
        np.testing.assert_array_equal(fit_picture(rgb, 64, "crop"), exact_resize(rgb[:, 49:250].copy(), (64, 64)))
        np.testing.assert_array_equal(fit_picture(rgb[:, :1], 64, "crop"), np.broadcast_to(rgb[100, 0], (64, 64, 3)))

    def test_square_of_the_right_size_is_untouched(self) -> None:
        rgb = picture(64, 64)
        for fit in ("pad", "stretch", "crop"):
            np.testing.assert_array_equal(fit_picture(rgb, 64, fit), rgb)

    def test_huge_picture(self) -> None:
        rgb = np.broadcast_to(np.uint8([10, 20, 30]), (6000, 8000, 3))
        np.testing.assert_array_equal(fit_picture(rgb, 64, "pad"), np.full((64, 64, 3), (10, 20, 30)))

    def test_strips_change_no_byte(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rgb = picture(203, 117)
        expected = fit_picture(rgb, 64, "stretch")
        monkeypatch.setattr("codec_contract.fit._STRIP_PIXELS", 117 * 10)
        np.testing.assert_array_equal(fit_picture(rgb, 64, "stretch"), expected)

    @pytest.mark.parametrize(("rgb", "fit", "message"), [
        (picture(), "cover", "unknown fit 'cover'"), (np.zeros((4, 4, 3)), "pad", r"float64 \[4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), "pad", "at least one pixel")])
    def test_arguments_are_checked(self, rgb: np.ndarray, fit: str, message: str) -> None:
        with pytest.raises(ImageError, match=message):
            fit_picture(rgb, 64, fit)


class TestUnfit:
    def test_native_sizes(self) -> None:
        for fit, height in (("pad", 48), ("stretch", 48), ("crop", 64)):
            assert unfit_picture(picture(64, 64), (640, 480), fit, "native").shape == (height, 64, 3)

    def test_only_the_original_size_is_bounded(self) -> None:
        square, sides = picture(64, 64), (262_140, 262_140)  # of an aligned square around a face at the edge
        np.testing.assert_array_equal(unfit_picture(square, sides, "crop", "native"), square)
        assert unfit_picture(square, sides, "crop", 32).shape == (32, 32, 3)
        with pytest.raises(ImageError, match="262140 x 262140 is out of range: sides of 1 to 65535"):
            unfit_picture(square, sides, "crop", max_pixels=1 << 40)

    @pytest.mark.parametrize("size", [np.int64(32), np.uint8(32), np.array(32)])
    def test_numpy_s_numbers_of_pixels(self, size: int) -> None:
        assert check_size(size) == 32 and type(check_size(size)) is int
        assert unfit_picture(picture(64, 64), (640, 480), size=size).shape == (24, 32, 3)

    def test_padding_is_removed_exactly(self) -> None:
        rgb = picture(48, 64)
        np.testing.assert_array_equal(unfit_picture(fit_picture(rgb, 64, "pad"), (64, 48), "pad"), rgb)
        tall = picture(64, 31)
        np.testing.assert_array_equal(unfit_picture(fit_picture(tall, 64, "pad"), (31, 64), "pad"), tall)

    def test_smooth_picture_survives_the_round_trip(self) -> None:
        y, x = np.indices((120, 200))
        rgb = np.stack([x, y, (x + y) // 2], axis=2).astype(np.uint8)
        for fit in ("pad", "stretch"):
            restored = unfit_picture(fit_picture(rgb, 64, fit), (200, 120), fit)
            assert np.abs(restored.astype(int) - rgb).max() <= 6
        restored = unfit_picture(fit_picture(rgb, 64, "crop"), (200, 120), "crop")
        assert np.abs(restored.astype(int) - rgb[:, 40:160]).max() <= 6

    @pytest.mark.parametrize(("square", "size", "options", "message"), [
        (64, (640, 480), {"max_pixels": 1000}, "more than 1000"), (64, (640, 480), {"size": "huge"}, "unknown size"),
        (64, (0, 480), {}, "out of range"), (66, (64, 64), {"enlargement": 4}, "66 pixels is not 4 times as large")])
    def test_arguments_are_checked(self, square: int, size: tuple[int, int], options: dict, message: str) -> None:
        with pytest.raises(ImageError, match=message):
            unfit_picture(picture(square, square), size, **options)
        with pytest.raises(ImageError, match="square"):
            unfit_picture(picture(64, 32), (640, 480))
        assert unfit_picture(picture(64, 64), (640, 480), size="native", max_pixels=64 * 48).shape == (48, 64, 3)
