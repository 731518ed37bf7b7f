"""Write the golden files that clients share: python tests/golden/regenerate_clients.py [--force]

The clients in TypeScript, Java and Swift (clients/) read these files and those of tests/golden/contract. They pin what
a client computes: the golden inputs, the picture turned upright, what shows through transparency, the encoder's square,
coded bodies, whole payloads, what must be refused, and what Python reads and they refuse. Every one follows from the
contract and from the default bundle, both frozen.

Pictures are made so that any language can make them. They are cells of block x block pixels, cut off at the right and
bottom; byte n of the cells, in reading order, R, G, B (A), is the top byte of state n of the generator
state = (state * 1664525 + 1013904223) mod 2**32, the first state being that after one step from the seed. One picture
is real and kept as it is: portrait.ppm (binary PPM), a part of the official portrait of Jared Polis as a Member of the
United States House of Representatives, a work of the United States government, to our knowledge in the public domain.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import sdk
from codec_contract.bundle.manifest import load_manifest
from codec_contract.bundle.paths import DEFAULT_BUNDLE, find_bundle
from codec_contract.errors import PayloadError
from codec_contract.fit import content_size, fit_picture
from codec_contract.lr_coder.coder import encode_lr
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.lr_coder.level_step import rounded
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import (
    CODING_DEFLATE,
    CODING_RAW,
    FIT_ALIGN,
    decode_payload,
    encode_payload,
)
from edge_encoder.golden_inputs import generator_bytes, golden_input
from edge_encoder.preprocessing import load_picture
from tests.golden.regenerate_contract import golden_lr, json_bytes, regenerate

FOLDER = Path(__file__).parent / "clients"
PORTRAIT = "portrait.ppm"

# seed, block, (width, height), hr, fit
FITS = [
    (1, 1, (1, 1), 8, "pad"),
    (2, 1, (3, 1), 16, "pad"),
    (3, 3, (31, 17), 32, "pad"),
    (4, 3, (31, 17), 32, "stretch"),
    (5, 3, (31, 17), 32, "crop"),
    (6, 5, (100, 333), 64, "pad"),
    (7, 5, (333, 100), 64, "crop"),
    (8, 1, (256, 256), 256, "pad"),
    (9, 7, (1000, 3), 256, "pad"),
    (10, 9, (640, 480), 256, "pad"),
    (11, 9, (480, 641), 256, "stretch"),
    (12, 9, (481, 640), 256, "crop"),
    (13, 16, (1920, 1080), 512, "pad"),
]
# (width, height), hr
CONTENT_SIZES = [
    ((1, 1), 256), ((65535, 1), 256), ((3, 2), 256), ((511, 512), 256), ((4000, 3000), 512), ((5, 7), 1024)]
# seed, block, (width, height), background
TRANSPARENT = [(21, 1, (64, 64), (255, 255, 255)), (22, 4, (33, 17), (10, 200, 77))]
# seed, (width, height): turned by every EXIF orientation
TURNED = (25, (7, 4))
# kind and size as in regenerate_contract.py
STEPS = (3, 7, 16)  # of levels in payloads; the default bundle has 2
BODIES = [("smooth", (16, 16)), ("textured", (16, 16)), ("black", (16, 16)), ("textured", (5, 3)), ("noise", (1, 1)),
          ("smooth", (33, 20)), ("noise", (16, 16))]
# seed, block, (width, height), fit; the portrait with each fit comes first
PAYLOADS = [
    (31, 13, (300, 200), "pad"),
    (32, 40, (200, 333), "stretch"),
    (33, 1, (256, 256), "pad"),
    (34, 64, (1280, 720), "crop"),
    (35, 1, (1, 1), "pad"),
    (36, 5, (3000, 17), "pad"),
]


def generated_picture(
    seed: int, block: int, size: tuple[int, int], channels: int = 3
) -> npt.NDArray[np.uint8]:
    """Cells of noise, uint8 [height, width, channels]."""
    width, height = size
    across, down = -(-width // block), -(-height // block)
    cells = generator_bytes(seed, across * down * channels).reshape(down, across, channels)
    return np.ascontiguousarray(cells.repeat(block, axis=0).repeat(block, axis=1)[:height, :width])


def golden_files() -> dict[str, bytes]:
    """Every golden file of the clients: name -> bytes."""
    portrait = (FOLDER / PORTRAIT).read_bytes()
    manifest = load_manifest(find_bundle(DEFAULT_BUNDLE))
    tables = CoderTables.from_json(manifest.open_file("coder.json"))
    return {
        PORTRAIT: portrait,
        "inputs.json": json_bytes({
            "bundle": manifest.id, "inputs": _inputs(json.loads(manifest.open_file("golden.json")))}),
        "fits.json": json_bytes(_fits()),
        "transparency.json": json_bytes(_transparency()),
        "orientations.json": json_bytes(_orientations()),
        "bodies.json": json_bytes({"bundle": manifest.id, "bodies": _bodies(tables),
                                    "coarse_bodies": _coarse_bodies(tables)}),
        "payloads.json": json_bytes({
            "bundle": manifest.id,
            "hr": manifest.hr,
            "lr_contract_id": manifest.lr_contract_id.hex(),
            "payloads": _payloads(portrait),
        }),
        "damaged.json": json_bytes({
            "bundle": manifest.id,
            "lr_contract_id": manifest.lr_contract_id.hex(),
            "payloads": _damaged(manifest.lr_contract_id, tables),
        }),
        "unsupported.json": json_bytes({
            "bundle": manifest.id,
            "lr_contract_id": manifest.lr_contract_id.hex(),
            "payloads": _unsupported(manifest.lr_contract_id, tables),
        }),
    }


def _inputs(golden: dict[str, Any]) -> list[dict[str, str]]:
    """The pictures of a golden.json themselves: that file names only their LRs."""
    return [{"name": item["name"], "sha256": _digest(golden_input(item["kind"], item["parameters"], golden["hr"]))}
            for item in golden["inputs"]]


def _fits() -> dict[str, Any]:
    cases = []
    for seed, block, size, hr, fit in FITS:
        fitted = fit_picture(generated_picture(seed, block, size), hr, fit)
        cases.append({"seed": seed, "block": block, "size": size, "hr": hr, "fit": fit, "sha256": _digest(fitted)})
    sizes = [{"size": size, "hr": hr, "content_size": content_size(size, hr)} for size, hr in CONTENT_SIZES]
    return {"fits": cases, "content_sizes": sizes}


def _transparency() -> dict[str, Any]:
    cases = []
    for seed, block, size, background in TRANSPARENT:
        rgb = load_picture(generated_picture(seed, block, size, 4), background=background)
        cases.append(
            {"seed": seed, "block": block, "size": size, "background": background, "sha256": _digest(rgb)})
    return {"pictures": cases}


def _orientations() -> dict[str, Any]:
    seed, size = TURNED
    image = Image.fromarray(generated_picture(seed, 1, size))
    cases = []
    for orientation in range(1, 9):
        image.getexif()[0x0112] = orientation
        rgb = load_picture(image)
        cases.append({"seed": seed, "block": 1, "size": size, "orientation": orientation,
                      "upright_size": [rgb.shape[1], rgb.shape[0]], "sha256": _digest(rgb)})
    return {"pictures": cases}


def _bodies(tables: CoderTables) -> list[dict[str, Any]]:
    bodies = []
    for kind, size in BODIES:
        lr = rounded(golden_lr(kind, *size), tables.step)
        bodies.append({"size": size, "lr": lr.tobytes().hex(), "body": encode_lr(lr, tables).hex()})
    return bodies


def _coarse_bodies(tables: CoderTables) -> list[dict[str, Any]]:
    """Bodies of the default bundle's tables with other steps; "stored" is the LR that they hold."""
    bodies = []
    for step in STEPS:
        coarse = replace(tables, step=step)
        for kind, size in BODIES:
            lr = golden_lr(kind, *size)
            bodies.append({"step": step, "size": size, "lr": lr.tobytes().hex(),
                           "stored": rounded(lr, step).tobytes().hex(), "body": encode_lr(lr, coarse).hex()})
    return bodies


def _payloads(portrait: bytes) -> list[dict[str, Any]]:
    codec = sdk.Codec(DEFAULT_BUNDLE, threads=1)
    hr = codec.bundle.hr
    rgb = np.frombuffer(portrait.split(b"255\n", 1)[1], np.uint8).reshape(190, 150, 3)
    sources: list[tuple[dict[str, Any], npt.NDArray[np.uint8], str]] = [
        ({"file": PORTRAIT}, rgb, fit) for fit in ("pad", "stretch", "crop")]
    sources += [({"seed": seed, "block": block, "size": size}, generated_picture(seed, block, size), fit)
                for seed, block, size, fit in PAYLOADS]
    cases = []
    for source, picture, fit in sources:
        payload = codec.compress(picture, fit=fit)
        cases.append({
            **source, "fit": fit, "original_size": payload.original_size,
            "fitted_sha256": _digest(fit_picture(picture, hr, fit)), "lr": payload.lr.tobytes().hex(),
            "payload": payload.hex()})
    return cases


def _damaged(contract_id: bytes, tables: CoderTables) -> list[dict[str, str]]:
    """Payloads that a reader refuses; all but the first ones have the right CRC."""
    lr = golden_lr("smooth", 16, 16)
    body = encode_lr(lr, tables)

    def payload(
        body: bytes = body, *, magic: bytes = b"\xed\x6e", version: int = 1, coding: int = 1,
        contract: bytes = contract_id, flags: int = 4 << 2, size: bytes = b"", original: bytes = b"\x80\x05\xe0\x03"
    ) -> bytes:
        data = magic + bytes([version << 4 | coding]) + contract[:4] + bytes([flags]) + size + original + body
        return data + struct.pack("<I", zlib.crc32(data))

    good, raw = payload(), lr.tobytes()
    flipped = bytearray(good)
    flipped[20] ^= 1
    cases = {
        "empty": b"",
        "thirteen bytes": good[:13],
        "truncated": good[:-1],
        "one byte more": good + b"\0",
        "one bit flipped": bytes(flipped),
        "another magic": payload(magic=b"\xed\x6f"),
        "version 2": payload(version=2),
        "coding 2": payload(coding=2),
        "reserved flag": payload(flags=4 << 2 | 64),
        "fit 3": payload(flags=4 << 2 | 3),
        "size code 9": payload(flags=9 << 2),
        "explicit size that has a code": payload(flags=15 << 2, size=bytes((15, 15))),
        "width in too many bytes": payload(original=b"\x80\x85\x00\xe0\x03"),
        "width of four bytes": payload(original=b"\x80\x80\x80\x01\xe0\x03"),
        "width 0": payload(original=b"\x00\xe0\x03"),
        "width 65536": payload(original=b"\x80\x80\x04\x01"),
        "more than 2**28 pixels": payload(original=b"\xff\xff\x03\xff\xff\x03"),
        "another contract": payload(contract=bytes(byte ^ 255 for byte in contract_id)),
        "raw, one byte short": payload(raw[:-1], coding=0),
        "raw, one byte long": payload(raw + b"\0", coding=0),
        "coded, as long as raw": payload((raw[:-1] + b"\1"), coding=1),
        "body with another ending": payload(body + bytes([1])),
        "body with a zero behind": payload(body + b"\0"),
    }
    for name, data in cases.items():
        try:
            decode_payload(data, contract_id=contract_id, tables=tables)
        except PayloadError:
            continue
        raise AssertionError(f"{name} is a payload that can be read")
    return [{"name": name, "payload": data.hex()} for name, data in cases.items()]


def _unsupported(contract_id: bytes, tables: CoderTables) -> list[dict[str, str]]:
    """Payloads of photographs and of aligned pictures, which the clients neither make nor read."""
    small, wide = (rounded(golden_lr("smooth", *size), tables.step) for size in ((16, 16), (257, 2)))
    square = OrientedSquare(1280, 800, 800, 600)
    cases: list[tuple[str, npt.NDArray[np.uint8], dict[str, Any]]] = [
        ("fit 3, aligned", small, {"fit": FIT_ALIGN, "square": square}),
        ("fit 3, aligned, raw", small, {"fit": FIT_ALIGN, "square": square, "coding": CODING_RAW}),
        ("coding 2, deflated", small, {"coding": CODING_DEFLATE}),
        ("size code 14, deflated", wide, {}),
        ("size code 14, raw", wide, {"coding": CODING_RAW}),
    ]
    payloads = []
    for name, lr, changes in cases:
        data = encode_payload(lr, contract_id=contract_id, tables=tables, original_size=(640, 480), **changes)
        if not np.array_equal(decode_payload(data, contract_id=contract_id, tables=tables)[0], lr):
            raise AssertionError(f"{name} is not read back")
        payloads.append({"name": name, "payload": data.hex(), "lr_sha256": _digest(lr)})
    return payloads


def _digest(levels: npt.NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(levels).tobytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(regenerate(FOLDER, golden_files, __doc__))
