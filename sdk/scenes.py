"""Scenes: all faces of a photograph and its background in one file, made and restored by a codec."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from codec_contract.bundle.find import check_max_bytes, rates_from, too_few_bytes
from codec_contract.errors import ImageError, PayloadError
from codec_contract.exact_square import reduce_picture
from codec_contract.fit import MAX_PHOTO_PIXELS, Size, check_size, content_size
from codec_contract.scene import MAX_FACES, encode_scene, scene_overhead
from edge_encoder.faces.detection import LEAST_PIXELS
from edge_encoder.preprocessing import WHITE, Colour, PictureSource, check_max_pixels, load_picture
from sdk.faces import FEATHER, blend_face
from sdk.generated_mark import marked
from sdk.payload import Payload, Scene, check_pixels

if TYPE_CHECKING:
    from sdk.codec import Codec

LEAST_BACKGROUND = 4
"""Part of the limit, 1/4, that a better rate of the faces has to leave; without a background they are tiles on grey."""
MAX_OVERLAP = 4
"""Most pixels of a scene's faces together, in multiples of ``max_pixels``; in a crowd their squares overlap."""

# Longest sides of a background to try for a limit of bytes, in pixels, and WebP qualities: the largest side that fits
# at the lowest quality, then the highest quality. In 1150 bytes, nine photographs have 0.6 dB more and LPIPS .56
# instead of .64 with qualities from 20 to 50 and half of these sides.
_SIDES = (512, 448, 384, 320, 256, 224, 192, 160, 128, 112, 96, 80, 64, 56, 48, 40, 32, 28, 24, 20, 16)
_QUALITIES = (5, 7, 10, 20, 40, 60, 80, 90)
_DEFAULT_SIDE = 24
_RIFF_BYTES = 20  # of a WebP file, which a scene leaves out
_GREY = (128, 128, 128)


def compress_scene_within(
    codecs: Sequence[Codec],
    quality: str | None,
    max_bytes: int | None,
    picture: PictureSource,
    background: Colour = WHITE,
    max_pixels: int = MAX_PHOTO_PIXELS,
    most_faces: int | None = None,
) -> Scene:
    """Compress all faces of a photograph and its background at the first rate of the codecs, best first, that leaves
    the background its part, or at the last; faces of less than 32 pixels where they fit. More than ``most_faces`` are
    refused; None takes the 64 largest."""
    if max_bytes is not None:
        check_max_bytes(max_bytes)
    rgb = load_picture(picture, background=background, max_pixels=max_pixels)
    size, squares, used = (rgb.shape[1], rgb.shape[0]), {}, 0
    reduced = Image.fromarray(reduce_picture(rgb, max(1, max(rgb.shape[:2]) // (2 * _SIDES[0]))))
    blur = _webp(reduced, _DEFAULT_SIDE, 0)
    for codec in codecs:
        hr = codec.bundle.hr
        if hr not in squares:
            squares[hr] = list(codec.fit_faces(rgb, framed_whole=False, least=0))[:MAX_FACES]
        fitted = squares[hr]
        if most_faces is not None and len(fitted) > most_faces:
            found = f"the photograph has {len(fitted)} faces or more, a scene here at most {most_faces}"
            raise ImageError(f"{found}; compress it with the SDK, or its faces one by one")
        lrs = [codec._lr(face) for face in fitted]
        # Levels that are finer than the best bundle's own cost the background more than they show.
        rates = rates_from(codec._manifest, quality or codecs[0].bundle.quality, limited=max_bytes is not None)
        for rate in rates:
            last, faces = codec is codecs[-1] and rate is rates[-1], list[Payload]()
            for lr, face in zip(lrs, fitted, strict=True):
                faces.append(codec._pack(lr, face, rate))
                if max_bytes is not None and not last and sum(map(len, faces)) > max_bytes:
                    break
            used = _bytes(faces, size)
            while last and used > (max_bytes or used) and fitted[len(faces) - 1].face < LEAST_PIXELS and len(faces) > 1:
                used = _bytes(faces := faces[:-1], size)
            if max_bytes is None:
                return Scene(encode_scene(faces, size, blur))
            if used + (0 if last else max(_webp_bytes(blur), max_bytes // LEAST_BACKGROUND)) <= max_bytes:
                return Scene(encode_scene(faces, size, _background(reduced, max_bytes - used)))
    what = "scene of this photograph, without a background,"
    raise too_few_bytes(max_bytes or 0, used, what, codecs[-1].bundle.qualities[-1])


def restore_scene(
    codec: Codec, scene: Scene, size: Size, max_pixels: int, strength: float | None, mark: bool
) -> Image.Image:
    """The photograph of a scene: its background, enlarged, with the restored faces drawn into it; ``size="native"``
    gives the largest face the decoder's resolution, if the photograph has more."""
    hr, sides = codec.bundle.hr, codec.bundle.sides
    full = scene_size(scene, hr, size, check_max_pixels(max_pixels))
    picture = small_background(scene) or Image.new("RGB", (1, 1), _GREY)
    picture = picture.resize(full, Image.Resampling.BICUBIC)
    scale = np.array(full) / scene.original_size
    for face in reversed(scene.faces):  # larger ones are in front
        if (square := face.header.square) is not None:
            wanted = round(square.side * float(scale.max()))
            size = min(wanted, sides[-1]) if wanted > hr else "native"
            restored = codec.restore(face, size=size, strength=strength, mark=False)
            blend_face(picture, restored, square.corners() * scale, FEATHER)
    return marked(picture, codec.bundle, mark)


def scene_size(scene: Scene, hr: int, size: Size, max_pixels: int) -> tuple[int, int]:
    """(width, height) of the photograph that `restore_scene` makes with a bundle of squares of ``hr`` pixels."""
    size, original = check_size(size), scene.original_size
    longest = most = max(original)
    sides = [face.header.square.side for face in scene.faces if face.header.square is not None]
    if size == "native":
        longest = max(1, min(most, round(most * hr / max(sides))))
    elif isinstance(size, int):
        longest = size
    drawn = sum((longest * min(side, most) / most) ** 2 for side in sides)
    if drawn > (most_drawn := MAX_OVERLAP * max_pixels):
        found = f"the faces of the scene would have {drawn:.0f} pixels together, more than the limit of {most_drawn}"
        raise ImageError(f"{found}; ask for fewer pixels with size")
    width, height = original if longest == most else content_size(original, longest)
    check_pixels(width, height, max_pixels, "scene")
    return width, height


def _bytes(faces: list[Payload], size: tuple[int, int]) -> int:
    """Bytes of a scene without a background."""
    return sum(map(len, faces)) + scene_overhead(size, [len(face) for face in faces])


def _background(picture: Image.Image, budget: int) -> bytes:
    """A small WebP file of the picture with at most ``budget`` bytes in a scene; b"" if none is that small."""
    for side in _SIDES:
        if _webp_bytes(found := _webp(picture, side, _QUALITIES[0])) <= budget:
            better = (_webp(picture, side, quality) for quality in _QUALITIES[:0:-1])
            return next((each for each in better if _webp_bytes(each) <= budget), found)
    least = _webp(picture, _SIDES[-1], 0)
    return least if _webp_bytes(least) <= budget else b""


def _webp(picture: Image.Image, side: int, quality: int) -> bytes:
    """The picture with a longest side of ``side`` pixels, as a WebP file."""
    stream = io.BytesIO()
    small = picture.resize(content_size(picture.size, side), Image.Resampling.LANCZOS)
    small.save(stream, "WEBP", quality=quality, method=6)
    return stream.getvalue()


def _webp_bytes(webp: bytes) -> int:
    """Bytes of a WebP file in a scene."""
    return len(webp) - _RIFF_BYTES


def small_background(scene: Scene) -> Image.Image | None:
    """The background as it is stored; None without one, `PayloadError` if it is damaged."""
    if not (webp := scene.parsed.background_webp):
        return None
    try:
        with Image.open(io.BytesIO(webp), formats=["WEBP"]) as background:
            return background.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises various types for damaged files
        raise PayloadError(f"the background of the scene is damaged: {error}") from error
