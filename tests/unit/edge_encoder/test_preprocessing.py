"""Pictures of every kind become the right levels."""

import io
import struct
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from codec_contract.errors import DeviceMemoryError, ImageError
from edge_encoder import preprocessing
from edge_encoder.preprocessing import load_picture
from tests.pictures import encoded, exif, noise, png, refused

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data")


def picture(height: int = 5, width: int = 7) -> np.ndarray:
    return noise(width, height)


def png_claiming(width: int, height: int) -> bytes:
    """A well-formed PNG header of that size with next to no pixel data behind it."""
    return png(width, height, 8, 2, bytes(100))


def srgb_profile(curve: np.ndarray | None = None) -> bytes:
    """A profile with the description and the primaries of sRGB; with ``curve``, uint16, in place of its own."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if curve is not None:
        data = b"curv" + struct.pack(">II", 0, len(curve)) + curve.astype(">u2").tobytes()
        for channel in (b"rTRC", b"gTRC", b"bTRC"):
            tag = profile.index(channel)
            profile[tag + 4 : tag + 12] = struct.pack(">II", len(profile), len(data))
        profile += data + bytes(-len(data) % 4)
        profile[:4] = struct.pack(">I", len(profile))
    return bytes(profile)


def srgb_curve(points: int = 1024) -> np.ndarray:
    """The curve of common sRGB profiles, which is a table."""
    levels = np.linspace(0, 1, points)
    return np.round(65535 * np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4))


def linear_grey_profile() -> bytes:
    """The shortest ICC profile of grey: the media's white point, and an empty curve, which is the identity."""
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)  # D50, in 1/65536
    curve = b"curv" + bytes(8)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    size, fields = 156 + len(white) + len(curve), (b"mntr", b"GRAY", b"XYZ ", b"acsp")
    header = struct.pack(">I4xI4s4s4s12x4s28x", size, 0x02100000, *fields) + white[8:] + bytes(48)
    return header + tags + white + curve


class TestSources:
    @pytest.mark.parametrize("kind", ["WEBP", "BMP", "TIFF", "PPM", "GIF"])
    def test_lossless_formats(self, kind: str) -> None:
        flat = np.full((6, 9, 3), (200, 100, 50), np.uint8)
        options = {"lossless": True} if kind == "WEBP" else {}
        np.testing.assert_array_equal(load_picture(encoded(flat, kind, **options)), flat)

    def test_more_pixels_than_a_payload_describes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        with pytest.raises(ImageError, match="a payload describes at most .* Reduce it first"):
            load_picture(png_claiming(20_000, 20_000), max_pixels=1 << 40)

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"nowhere\.jpg"):
            load_picture(tmp_path / "nowhere.jpg")
        with pytest.raises(ImageError, match="cannot read"):
            load_picture(tmp_path)


class TestOrientation:
    @pytest.mark.parametrize("tags", [0, 9, 77, b"Exif\0\0II*\0\xff\xff\xff\xff garbage"])
    def test_invalid_orientations_are_ignored(self, tags: int | bytes) -> None:
        rgb = picture()
        data = encoded(rgb, exif=tags if isinstance(tags, bytes) else exif(tags))
        np.testing.assert_array_equal(load_picture(data), rgb)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
    def test_turned_once(self, orientation: int, kind: str) -> None:
        data = encoded(picture(16, 24), kind, exif=exif(orientation))
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        np.testing.assert_array_equal(load_picture(data), expected)
        assert expected.shape == ((16, 24, 3) if orientation < 5 else (24, 16, 3))


def palette() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    return image


GREY = picture()[:, :, 0]
AS_RGB = np.stack([GREY] * 3, axis=2)
QUANTIZED = Image.fromarray(picture()).quantize(16)
CLEAR = (9, 8, 7)  # the background of the pictures in `KINDS`
KINDS: dict[str, tuple[Any, object]] = {
    "grey array": (GREY, AS_RGB),
    "grey image": (Image.fromarray(GREY), AS_RGB),
    "grey file": (encoded(GREY), AS_RGB),
    "bilevel": (encoded(Image.fromarray(GREY > 127)), (AS_RGB > 127) * np.uint8(255)),
    "palette": (encoded(QUANTIZED), np.asarray(QUANTIZED.convert("RGB"))),
    "clear palette entry": (encoded(palette(), transparency=0), [[CLEAR, (0, 0, 255)]]),
    "grey with alpha": (encoded(Image.new("LA", (1, 1), (100, 0))), [[CLEAR]]),
    "clear level": (encoded(np.array([[4, 5]], np.uint8), transparency=4), [[CLEAR, (5, 5, 5)]]),
    "clear colour": (encoded(np.uint8([[(1, 2, 3), (4, 5, 6)]]), transparency=(1, 2, 3)), [[CLEAR, (4, 5, 6)]]),
    "16 bits, PGM": (b"P5 2 1 65535\n" + struct.pack(">HH", 65535, 257), [[(255,) * 3, (1,) * 3]]),
    "16 bits, RGB": (picture().astype(np.uint16) * 257, picture()),
    "16 bits, RGBA": (np.dstack([picture().astype(np.uint16) * 257, np.full((5, 7), 65535, np.uint16)]), picture()),
    "32 bits": (Image.new("I", (1, 1), 65535), [[(255,) * 3]]),
    "clear pixels": (np.full((1, 1, 4), (255, 0, 0, 0), np.uint8), [[CLEAR]]),
}


class TestColour:
    @pytest.mark.parametrize(("source", "expected"), KINDS.values(), ids=KINDS.keys())
    def test_kinds_of_pictures(self, source: Any, expected: object) -> None:
        np.testing.assert_array_equal(load_picture(source, background=CLEAR), expected)
        assert (load_picture(np.full((3, 3, 4), (255, 0, 0, 0), np.uint8)) == 255).all()  # white if none is given

    @pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 30)])
    def test_alpha_is_composited(self, background: tuple[int, int, int]) -> None:
        rgba = np.random.default_rng(1).integers(0, 256, (16, 16, 4), dtype=np.uint8)
        alpha = rgba[:, :, 3:].astype(np.int64)
        expected = (rgba[:, :, :3] * alpha + np.array(background) * (255 - alpha) + 127) // 255
        for source in (rgba, Image.fromarray(rgba), encoded(rgba)):
            np.testing.assert_array_equal(load_picture(source, background=background), expected)

    def test_cmyk_jpeg(self) -> None:
        image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan: red
        loaded = load_picture(encoded(image, "JPEG", quality=95))
        assert np.abs(loaded.astype(int) - (255, 0, 0)).max() <= 6

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_16_bit_grey_is_scaled(self, kind: str) -> None:
        levels = np.array([[0, 128, 129, 256], [257, 32768, 65406, 65535]], np.uint16)
        expected = np.array([[0, 0, 1, 1], [1, 128, 254, 255]])  # round(level / 257)
        for source in (encoded(levels, kind), levels, Image.fromarray(levels)):
            np.testing.assert_array_equal(load_picture(source), np.stack([expected] * 3, axis=2))

    def test_embedded_profile_becomes_srgb(self) -> None:
        # A profile whose red and green are exchanged cannot be ignored unnoticed. Grey stays grey.
        profile = srgb_profile()
        red, green = profile.find(b"rXYZ"), profile.find(b"gXYZ")
        swapped = bytearray(profile)
        swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
        data = encoded(Image.new("RGB", (4, 4), (255, 0, 0)), icc_profile=bytes(swapped))
        assert np.abs(load_picture(data).astype(int) - (0, 255, 0)).max() <= 2
        grey = encoded(Image.new("RGB", (4, 4), (99, 99, 99)), icc_profile=bytes(swapped))
        assert np.abs(load_picture(grey).astype(int) - 99).max() <= 1

    @pytest.mark.parametrize(
        "profile",
        [
            srgb_profile(),
            srgb_profile(srgb_curve()),
            srgb_profile().replace(b"\0s\0R\0G\0B", b"\0o\0u\0r\0s"),
            b"nonsense",
        ],
    )
    def test_srgb_profile_and_an_unusable_one_change_nothing(self, profile: bytes) -> None:
        rgb = picture(16, 16)
        np.testing.assert_array_equal(load_picture(encoded(rgb, icc_profile=profile)), rgb)

    def test_a_linear_profile_is_not_taken_for_srgb(self) -> None:
        data = encoded(Image.new("RGB", (4, 4), (100, 0, 255)), icc_profile=srgb_profile(np.array([0, 65535])))
        assert np.abs(load_picture(data).astype(int) - (168, 0, 255)).max() <= 1

    @pytest.mark.parametrize(
        ("image", "options"),
        [
            (Image.new("L", (4, 4), 100), {}),
            (Image.new("L", (4, 4), 100), {"transparency": 3}),
            (Image.new("LA", (4, 4), (100, 255)), {}),
            (Image.fromarray(np.full((4, 4), 100 * 257, np.uint16)), {}),
        ],
    )
    def test_profiles_of_grey_pictures(self, image: Image.Image, options: dict[str, object]) -> None:
        levels = load_picture(encoded(image, icc_profile=linear_grey_profile(), **options))
        assert np.abs(levels.astype(int) - 168).max() <= 1  # 255 * (1.055 * (100 / 255) ** (1 / 2.4) - 0.055)

    @pytest.mark.parametrize("background", [(0, 0), (0, 0, 256), (-1, 0, 0), "rgb", (0.5, 0, 0), 5, None, "#ffffff"])
    def test_background_is_checked(self, background: Any) -> None:
        with pytest.raises(ImageError, match="three levels"):
            load_picture(picture(), background=background)

    @pytest.mark.parametrize("background", [[9, 8, 7], np.array([9, 8, 7], np.uint8)])
    def test_background_is_any_sequence_of_integers(self, background: Any) -> None:
        clear = np.zeros((2, 3, 4), np.uint8)
        for source in (clear, encoded(clear)):
            assert (load_picture(source, background=background) == (9, 8, 7)).all()


def reduced_tiff() -> bytes:
    """A TIFF that says that its first picture is a thumbnail."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = 1
    return encoded(picture(), "TIFF", tiffinfo=tags)


PROGRESSIVE = encoded(Image.new("L", (16, 16)), "JPEG", progressive=True)
LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
SHAPES = [((4, 4, 3), float), ((4, 4, 3), np.int32), ((4, 4), bool)]
SHAPES += [(shape, np.uint8) for shape in ((3, 4, 5), (4, 4, 2), (1, 4, 4, 3), (4,))]
REFUSED: dict[str, list[Any]] = {
    "60000 x 60000|decompression bomb": [png_claiming(60000, 60000)],
    "more than 64 scans; it would take too long to read": [PROGRESSIVE[:-2] + 64 * LAST_SCAN + b"\xff\xd9"],
    "has 9000 x 6001 pixels; only JPEG files that are not progressive may have more than 54000000": [
        png_claiming(9000, 6001),
        PROGRESSIVE.replace(b"\x08\0\x10\0\x10", b"\x08\x17\x71\x23\x28"),
    ],
    "the first picture of .* is a reduced one, as in raw files": [reduced_tiff()],
    "truncated": [png_claiming(1000, 1000)],
    "at most 65535": [np.zeros((1, 65536, 3), np.uint8)],
    "cannot read the picture a\x00b: embedded null byte": ["a\0b"],
    r"^the picture of 0 bytes is empty$": [b""],
    "floating-point levels, or others than 0 to 65535": [
        Image.new(mode, (2, 2), level) for mode, level in (("I", 70000), ("I", -1), ("F", 0.5))
    ],
    "got": [None, 3, [[1, 2], [3, 4]], {"a": 1}],
    "is not a picture": [b"hello", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"],
    "picture array": [np.zeros(shape, kind) for shape, kind in SHAPES],
    "empty": [np.zeros(shape, np.uint8) for shape in ((0, 4, 3), (4, 0, 3), (0, 0))],
}


PILLOW = ("PngImagePlugin.PngImageFile._open", "ImageFile.ImageFile.load", "ImageCms.buildTransform")
FUNCTIONS = [*(f"PIL.{name}" for name in PILLOW), "numpy.ascontiguousarray"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("message", "source"), [(message, source) for message, sources in REFUSED.items() for source in sources]
    )
    def test_what_is_no_picture_or_too_large(self, message: str, source: Any) -> None:
        with pytest.raises(ImageError, match=message):
            load_picture(source)

    def test_a_limit_above_pillows_counts_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = encoded(Image.new("RGB", (100, 100)))
        opened = Image.open(io.BytesIO(data))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_picture(data, max_pixels=10000).shape == (100, 100, 3)
            for source, name in ((data, "the picture of"), (opened, "the PIL picture claims")):
                with pytest.raises(ImageError, match=f"{name} .*100 x 100 pixels, more than 9999.*max_pixels"):
                    load_picture(source, max_pixels=9999)
        assert Image.MAX_IMAGE_PIXELS == 1000

    def test_large_jpegs_are_halved(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(preprocessing, "MAX_DECODED_PIXELS", 1000)
        assert load_picture(encoded(Image.new("RGB", (100, 40)), "JPEG")).shape == (20, 50, 3)

    @pytest.mark.parametrize("limit", [0, -1, float("nan"), None, "9", 1e6])
    def test_limits_that_are_none(self, limit: Any) -> None:
        with pytest.raises(ImageError, match="max_pixels is a whole number of at least 1, got"):
            load_picture(encoded(Image.new("RGB", (2, 2))), max_pixels=limit)

    @pytest.mark.parametrize("function", FUNCTIONS)
    def test_lack_of_memory_is_no_damage(self, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
        data = encoded(Image.new("RGB", (2, 2)), icc_profile=profile)
        monkeypatch.setattr(function, Mock(side_effect=MemoryError))
        with pytest.raises(DeviceMemoryError, match="too little memory to read the picture"):
            load_picture(data)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
    def test_truncated_files(self, kind: str) -> None:
        data = encoded(picture(64, 64), kind)
        for length in (0, 1, 10, len(data) // 4, len(data) // 2, len(data) * 3 // 4):
            with pytest.raises(ImageError):
                load_picture(data[:length])

    def test_random_damage_raises_nothing_else(self) -> None:
        rng, kinds = np.random.default_rng(5), ("PNG", "JPEG", "WEBP", "GIF", "TIFF")
        count = sum(refused(encoded(picture(24, 24), kind), 40, rng) for kind in kinds)
        assert 40 <= count < 200  # a PNG has checksums, the others read some damaged files
