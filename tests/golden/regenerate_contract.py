"""Write the golden files of the contract: python tests/golden/regenerate_contract.py [--force]

They pin bytes that must never change: what Pillow's resize gives, and what LRs are coded to. A change of
any of them breaks stored payloads or other clients; that is what --force is for, and a new format
version, coding or resize name must come with it.

Inputs are made so that any language can make them: byte n of a picture is the top byte of state n of the
generator state = (state * 1664525 + 1013904223) mod 2**32, the first state being that after one step
from the seed; pixels in reading order, channels R, G, B.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import encode_payload
from codec_contract.resize import exact_resize
from edge_encoder.golden_inputs import generator_bytes

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

# name, kind of LR, (width, height), coding, original size, fit
PAYLOADS = [
    ("raw-2x2", "noise", (2, 2), 0, (640, 480), "pad"),
    ("coded-16x16-smooth", "smooth", (16, 16), 1, (1024, 1024), "pad"),
    ("coded-16x16-textured", "textured", (16, 16), 1, (3000, 4000), "stretch"),
    ("coded-9x5-textured", "textured", (9, 5), 1, (100, 16384), "crop"),
    ("coded-64x64-smooth", "smooth", (64, 64), 1, (65535, 4096), "pad"),
    ("coded-32x32-black", "black", (32, 32), 1, (1, 1), "pad"),
    ("fallback-8x8-noise", "noise", (8, 8), 1, (127, 128), "crop"),
]


def generated_picture(seed: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Noise, uint8 [height, width, 3]."""
    return generator_bytes(seed, width * height * 3).reshape(height, width, 3)


def golden_lr(kind: str, width: int, height: int) -> npt.NDArray[np.uint8]:
    """An LR, uint8 [height, width, 3], in integers only."""
    if kind == "black":
        return np.zeros((height, width, 3), dtype=np.uint8)
    noise = generated_picture(width, width, height).astype(np.int64)
    if kind == "noise":
        return noise.astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    ramp = (x * 160 // width + y * 60 // height)[..., None] + np.array([30, 20, 10])
    strength = 8 if kind == "smooth" else 48
    return (ramp + noise * strength // 256).astype(np.uint8)


def golden_files() -> dict[str, bytes]:
    """Every golden file of the contract: name -> bytes."""
    cases = []
    for seed, size, new_size in RESIZES:
        resized = exact_resize(generated_picture(seed, *size), new_size)
        digest = hashlib.sha256(resized.tobytes()).hexdigest()
        cases.append({"seed": seed, "size": size, "new_size": new_size, "sha256": digest})
    tables = CoderTables.default()
    files = {}
    payloads = []
    for name, kind, size, coding, original_size, fit in PAYLOADS:
        lr = golden_lr(kind, *size)
        files[f"{name}.grain"] = encode_payload(
            lr, contract_id=CONTRACT_ID, tables=tables, original_size=original_size, fit=fit, coding=coding
        )
        payloads.append(
            {
                "file": f"{name}.grain",
                "lr_size": size,
                "lr_sha256": hashlib.sha256(lr.tobytes()).hexdigest(),
                "original_size": original_size,
                "fit": fit,
            }
        )
    generator = "byte n = state n >> 24, state = (state * 1664525 + 1013904223) mod 2**32, starting at the seed"
    files["resize.json"] = json_bytes({"generator": generator, "sizes": "width, height", "cases": cases})
    record = {"contract_id": CONTRACT_ID.hex(), "tables_sha256": tables.digest().hex(), "payloads": payloads}
    files["payloads.json"] = json_bytes(record)
    return files


def json_bytes(value: object) -> bytes:
    """A golden file of plain values."""
    return (json.dumps(value, indent=1) + "\n").encode("ascii")


def regenerate(folder: Path, files: Callable[[], dict[str, bytes]], usage: str) -> int:
    """The command of a script like this one: write what is missing; replace what differs only with --force."""
    force = sys.argv[1:] == ["--force"]
    if sys.argv[1:] and not force:
        print(usage)
        return 2
    folder.mkdir(exist_ok=True)
    found = files()
    differing = [n for n, data in found.items() if (folder / n).exists() and (folder / n).read_bytes() != data]
    if differing and not force:
        print(f"these would change, which breaks stored payloads or other clients: {', '.join(differing)}")
        print("nothing was written; --force replaces them")
        return 1
    for name, data in found.items():
        (folder / name).write_bytes(data)
    print(f"{len(found)} files in {folder}, {len(differing)} of them changed")
    return 0


if __name__ == "__main__":
    sys.exit(regenerate(FOLDER, golden_files, __doc__))
