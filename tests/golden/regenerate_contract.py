"""Write the golden files of the contract: python -m tests.golden.regenerate_contract

They pin bytes that must never change: what Pillow's resize gives, squares at any angle, and what LRs are coded to. A
change of any of them breaks stored payloads or other clients: a new format version, coding or resize name must come
with it.

Inputs are made so that any language can make them: byte n of a picture is the top byte of state n of the
generator state = (state * 1664525 + 1013904223) mod 2**32, the first state being that after one step
from the seed; pixels in reading order, channels R, G, B.
"""

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from codec_contract.errors import PayloadError
from codec_contract.exact_square import cut_square, exact_resize
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import encode_payload, parse_payload
from codec_contract.scene import encode_scene, parse_scene
from edge_encoder.golden_inputs import generator_bytes
from tests.payload_bytes import version_1

FOLDER = Path(__file__).parent / "contract"
CONTRACT_ID = hashlib.sha256(b"edgegrain golden contract").digest()

# seed, (width, height), (new width, new height)
RESIZES = [
    (1, (1, 1), (5, 3)),
    (2, (2, 2), (1, 1)),
    (3, (7, 5), (3, 11)),
    (4, (64, 48), (16, 16)),
    (5, (255, 257), (256, 256)),
    (6, (640, 480), (256, 256)),
    (7, (1000, 1000), (512, 512)),
    (8, (1023, 511), (64, 1024)),
    (9, (30, 40), (1024, 1024)),
    (10, (1920, 1080), (256, 256)),
    (11, (4000, 3000), (256, 256)),
]

# (width, height), square (centre x, y, edge x, y in quarters of a pixel), side
SQUARES = [
    ((64, 48), (128, 96, 128, 0), 32),  # upright, inside
    ((64, 48), (130, 91, 77, 31), 32),
    ((64, 48), (128, 96, -120, 40), 16),  # upside down
    ((300, 200), (600, 400, 0, 640), 64),  # on its side
    ((300, 200), (600, 400, 0, -640), 64),
    ((300, 200), (603, 401, 512, 512), 64),  # 45 degrees
    ((300, 200), (30, 400, 700, 90), 64),  # over the left edge
    ((300, 200), (1190, 390, 700, -90), 64),  # over the right edge
    ((300, 200), (600, 10, 640, 300), 64),  # over the upper edge
    ((300, 200), (600, 799, 640, -300), 64),  # over the lower edge
    ((300, 200), (0, 0, 500, 100), 32),  # a corner
    ((300, 200), (1200, 800, -500, 33), 32),
    ((1, 1), (2, 2, 16, 0), 8),
    ((5, 3), (10, 6, 80, 0), 16),  # four times as large as the picture
    ((1, 300), (2, 600, 1100, 400), 16),
    ((400, 300), (800, 600, 1, 4), 8),  # one pixel
    ((300, 200), (600, 400, 1, 1200), 256),  # enlarged
    ((1200, 900), (2400, 1800, 3000, 800), 256),
    *(((700, 520), (1400 + factor, 1040 - factor, 128 * factor + 5, 7 * factor - 40), 16) for factor in range(1, 17)),
    *(
        ((701, 523), (1395, 1050, round(900 * math.cos(angle)), round(900 * math.sin(angle))), 32)
        for angle in map(math.radians, range(15, 360, 30))
    ),
]

# Of version 1: name, kind of LR, (width, height), coding, original size, fit
OLD_PAYLOADS = [
    ("raw-2x2", "noise", (2, 2), 0, (640, 480), "pad"),
    ("coded-16x16-smooth", "smooth", (16, 16), 1, (1024, 1024), "pad"),
    ("coded-16x16-textured", "textured", (16, 16), 1, (3000, 4000), "stretch"),
    ("coded-9x5-textured", "textured", (9, 5), 1, (100, 16384), "crop"),
    ("coded-64x64-smooth", "smooth", (64, 64), 1, (65535, 4096), "pad"),
    ("coded-32x32-black", "black", (32, 32), 1, (1, 1), "pad"),
    ("fallback-8x8-noise", "noise", (8, 8), 1, (127, 128), "crop"),
]
# Of version 2: name, kind of LR, (width, height), coding, original size, fit, square
PAYLOADS = [
    ("v2-16x16-smooth", "smooth", (16, 16), 1, (256, 256), "pad", None),
    ("v2-16x16-textured", "textured", (16, 16), 1, (3000, 4000), "stretch", None),
    ("v2-16x16-noise", "noise", (16, 16), 1, (256, 255), "crop", None),  # stored raw
    ("v2-32x32-black", "black", (32, 32), 1, (1, 1), "pad", None),
    ("v2-64x64-smooth", "smooth", (64, 64), 1, (65535, 4096), "stretch", None),
    ("v2-128x128-black", "black", (128, 128), 1, (128, 256), "crop", None),
    ("v2-256x256-black", "black", (256, 256), 1, (256, 256), "stretch", None),
    ("v2-1x1-black", "black", (1, 1), 0, (256, 256), "crop", None),
    ("v2-8x8-noise", "noise", (8, 8), 1, (127, 128), "crop", None),  # stored raw
    ("v2-9x5-textured", "textured", (9, 5), 1, (100, 16384), "crop", None),
    ("v2-16x32-smooth", "smooth", (16, 32), 1, (16383, 128), "pad", None),
    ("v2-align-16x16-smooth", "smooth", (16, 16), 1, (640, 480), "align", (1280, 800, 800, 600)),
    ("v2-align-16x16-raw", "smooth", (16, 16), 0, (640, 480), "align", (0, 1920, -800, -600)),
    ("v2-align-32x32-smooth", "smooth", (32, 32), 1, (256, 256), "align", (512, 500, 900, -64)),
    ("v2-align-9x5-noise", "noise", (9, 5), 0, (3, 200), "align", (12, 0, -1, 65)),
    ("v2-257x2-smooth", "smooth", (257, 2), 1, (1027, 8), "pad", None),  # deflated
    ("v2-300x1-raw", "smooth", (300, 1), 0, (1200, 4), "pad", None),
    ("v2-1x300-smooth", "smooth", (1, 300), 2, (256, 256), "pad", None),
    ("v2-16x16-deflated", "smooth", (16, 16), 2, (256, 256), "pad", None),
]


# Scenes: a lossy WebP file of 16 x 12 pixels, written once by Pillow.
WEBP = bytes.fromhex("524946462800000057454250565038201c0000005001009d012a10000c000fc0fe25a40004740000fb364fcc59800000")


def generated_picture(seed: int, block: int, size: tuple[int, int], channels: int = 3) -> npt.NDArray[np.uint8]:
    """Cells of noise, uint8 ``[height, width, channels]``."""
    width, height = size
    across, down = -(-width // block), -(-height // block)
    cells = generator_bytes(seed, across * down * channels).reshape(down, across, channels)
    return np.ascontiguousarray(cells.repeat(block, axis=0).repeat(block, axis=1)[:height, :width])


def golden_lr(kind: str, width: int, height: int) -> npt.NDArray[np.uint8]:
    """An LR, uint8 [height, width, 3], in integers only."""
    if kind == "black":
        return np.zeros((height, width, 3), dtype=np.uint8)
    noise = generated_picture(width, 1, (width, height)).astype(np.int64)
    if kind == "noise":
        return noise.astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    ramp = (x * 160 // width + y * 60 // height)[..., None] + np.array([30, 20, 10])
    strength = 8 if kind == "smooth" else 48
    return (ramp + noise * strength // 256).astype(np.uint8)


def golden_files() -> dict[str, bytes]:
    """Every golden file of the contract: name -> bytes."""
    tables, files, payloads = CoderTables.default(), {}, []
    for name, kind, size, coding, original_size, fit, square in (*((*old, None) for old in OLD_PAYLOADS), *PAYLOADS):
        lr, oriented = golden_lr(kind, *size), OrientedSquare(*square) if square else None
        claims = {"original_size": original_size, "fit": fit, "square": oriented}
        data = encode_payload(lr, contract_id=CONTRACT_ID, tables=tables, coding=coding, **claims)
        files[f"{name}.grain"] = data if name.startswith("v2") else version_1(data, CONTRACT_ID)
        header = parse_payload(files[f"{name}.grain"]).header
        found = {"version": header.version, "coding": header.coding, "lr_size": size, "lr_sha256": digest(lr)}
        payloads.append({"file": f"{name}.grain", **found, **claims, "square": square})
    resizes = rows("seed size new_size", RESIZES)
    for case in resizes:
        case["sha256"] = digest(exact_resize(generated_picture(case["seed"], 1, case["size"]), case["new_size"]))
    squares = rows("seed size square side", [(seed, *case) for seed, case in enumerate(SQUARES, 1)])
    for case in squares:
        picture, square = generated_picture(case["seed"], 1, case["size"]), OrientedSquare(*case["square"])
        case["sha256"] = digest(cut_square(picture, square, case["side"]))
    generator = "byte n = state n >> 24, state = (state * 1664525 + 1013904223) mod 2**32, starting at the seed"
    quarters = "centre x, y, edge x, y in quarters of a pixel (docs/exact_square.md)"
    contract = {"contract_id": CONTRACT_ID.hex(), "tables_sha256": tables.digest().hex()}
    contents = {
        "resize.json": {"generator": generator, "sizes": "width, height", "cases": resizes},
        "squares.json": {"square": quarters, "cases": squares},
        "scenes.json": golden_scenes(),
        "payloads.json": {**contract, "payloads": payloads},
    }
    return {**files, **{name: json_bytes(content) for name, content in contents.items()}}


def rows(names: str, table: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """The rows of a table by the names of its columns."""
    return [dict(zip(names.split(), row, strict=True)) for row in table]


def golden_scenes() -> dict[str, object]:
    """Scenes that are read, with what they hold, and damaged ones, most of which have the right CRC."""
    size = (640, 480)
    encode = partial(encode_payload, tables=CoderTables.default(), original_size=size)

    def face(seed: int, square: OrientedSquare | None, contract: bytes = CONTRACT_ID) -> bytes:
        fit = "align" if square else "pad"
        return encode(generated_picture(seed, 1, (4, 4)), contract_id=contract, fit=fit, square=square)

    squares = [OrientedSquare(1280, 800, 800, 600), OrientedSquare(2000, 900, 400, -20)]
    faces = [face(seed, square) for seed, square in enumerate(squares, 1)]
    old_faces = [version_1(face, CONTRACT_ID) for face in faces]
    scenes = []
    for parts, (count, webp) in product((faces, old_faces), ((2, WEBP), (1, b""), (1, WEBP))):
        held = {"faces": [face.hex() for face in parts[:count]], "background_webp": webp.hex()}
        scenes.append({"scene": encode_scene(parts[:count], size, webp).hex(), "original_size": size, **held})

    def scene(
        parts: Sequence[bytes] = faces,
        background: bytes = WEBP[20:],
        *,
        head: bytes = b"\xed\x6e\x21",
        count: int | None = None,
        original: bytes = b"\x80\x05\xe0\x03",
    ) -> bytes:
        data = head + bytes([len(parts) if count is None else count]) + original
        data += b"".join(bytes([len(part)]) + part for part in parts) + background
        return data + struct.pack("<I", zlib.crc32(data))

    good = encode_scene(faces, size, WEBP)
    if scene() != good:
        raise AssertionError("the scenes to damage are not those that are written")
    damaged = {
        "empty": b"",
        "a payload": faces[0],
        "four bytes": good[:4],
        "truncated": good[:-1],
        "one byte more": good + b"\0",
        "one bit flipped": good[:30] + bytes([good[30] ^ 1]) + good[31:],
        "version 3": scene(head=b"\xed\x6e\x31"),
        "background coding 2": scene(head=b"\xed\x6e\x22"),
        "no faces": scene([]),
        "65 faces": scene(faces[:1] * 65),
        "fewer faces than claimed": scene(count=3),
        "255 faces claimed": scene(count=255),
        "more faces than claimed": scene(count=1),
        "width 0": scene(original=b"\x00\xe0\x03"),
        "length in too many bytes": scene(original=b"\x80\x05\xe0\x83\x00"),
        "another size than the faces": scene(original=b"\x81\x05\xe0\x03"),
        "a face that is not aligned": scene([face(1, None)]),
        "a face of another contract": scene([faces[0], face(2, squares[1], contract=bytes(32))]),
        "another contract in version 1": scene([old_faces[0], version_1(faces[1], bytes(32))]),
        "faces of two versions": scene([faces[0], old_faces[1]]),
        "faces of two versions, 1 first": scene([old_faces[0], faces[1]]),
        "a damaged face": scene([faces[0][:-1] + bytes([faces[0][-1] ^ 1])]),
        "a scene in a scene": scene([scene(faces[:1], WEBP[20:])]),
        "no background, though coded": scene(background=b""),
        "a background, though none": scene(head=b"\xed\x6e\x20"),
        "a short background": scene(background=WEBP[20:28]),
        "no key frame": scene(background=b"\x01" + WEBP[21:]),
        "no start code": scene(background=WEBP[20:23] + b"\0" + WEBP[24:]),
        "a background of 1025 pixels": scene(background=WEBP[20:26] + b"\x01\x04" + WEBP[28:]),
        "a background of no pixels": scene(background=WEBP[20:26] + b"\0\0" + WEBP[28:]),
        "a background with a scale": scene(background=WEBP[20:26] + b"\x10\x40" + WEBP[28:]),
    }
    return {"scenes": scenes, "damaged": refused(damaged, "scene", parse_scene)}


def refused(damaged: dict[str, bytes], kind: str, read: Callable[[bytes], object]) -> list[dict[str, str]]:
    """The damaged files, none of which may be read."""
    for data in damaged.values():
        with pytest.raises(PayloadError):
            read(data)
    return [{"name": name, kind: data.hex()} for name, data in damaged.items()]


def digest(levels: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of an array's bytes, in hex."""
    return hashlib.sha256(np.ascontiguousarray(levels).tobytes()).hexdigest()


def json_bytes(value: object) -> bytes:
    """A golden file of plain values."""
    return (json.dumps(value, indent=1) + "\n").encode("ascii")


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write golden files; `git diff` shows what changed."""
    for name, data in files.items():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    write(FOLDER, golden_files())
