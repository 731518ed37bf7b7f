"""Write the golden files that clients share: python -m tests.golden.regenerate_clients

The clients in TypeScript, Java and Swift (clients/) read these files and those of tests/golden/contract. They pin what
a client computes: the golden inputs, the picture turned upright, what shows through transparency, the encoder's square,
coded bodies, whole payloads, also of aligned pictures and as text, the faces of photographs, what must be refused, and
what Python reads and they refuse. Every one follows from the contract and from the default bundle, both frozen, and the
faces from recorded outputs of networks (`tests.golden.recorded_faces`).

Pictures are made so that any language can make them. They are cells of block x block pixels, cut off at the right and
bottom; byte n of the cells, in reading order, R, G, B (A), is the top byte of state n of the generator
state = (state * 1664525 + 1013904223) mod 2**32, the first state being that after one step from the seed. One picture
is real and kept as it is: portrait.ppm (binary PPM), a part of the official portrait of Jared Polis as a Member of the
United States House of Representatives, a work of the United States government, to our knowledge in the public domain.
"""

import base64
import itertools
import json
from collections.abc import Callable
from dataclasses import astuple, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import sdk
from codec_contract.bundle.find import DEFAULT_BUNDLE, find_bundle
from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import ImageError
from codec_contract.exact_square import cut_square
from codec_contract.fit import content_size, fit_picture
from codec_contract.lr_coder.coder import encode_lr
from codec_contract.lr_coder.coder_tables import CoderTables, rounded
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import CODING_DEFLATE, CODING_RAW, FIT_ALIGN, encode_payload, write_leb128
from codec_contract.payload_text import to_text
from edge_encoder.faces.alignment import FaceFinder, FoundFace, ffhq_square, is_framed
from edge_encoder.golden_inputs import golden_input
from edge_encoder.preprocessing import load_picture
from sdk.faces import Fitted
from tests.golden import recorded_faces as recorded
from tests.golden.recorded_faces import FOLDER, PORTRAIT, portrait
from tests.golden.regenerate_contract import digest, generated_picture, golden_lr, json_bytes, refused, rows, write
from tests.payload_bytes import decode_payload, forged, version_1
from tests.pictures import exif

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
    ((1, 1), 256),
    ((65535, 1), 256),
    ((3, 2), 256),
    ((511, 512), 256),
    ((4000, 3000), 512),
    ((5, 7), 1024),
]
# seed, block, (width, height), background
TRANSPARENT = [(21, 1, (64, 64), (255, 255, 255)), (22, 4, (33, 17), (10, 200, 77))]
TURNED = {"seed": 25, "block": 1, "size": (7, 4)}  # by every EXIF orientation
# kind and size as in regenerate_contract.py
STEPS = (3, 7, 16)  # of levels in payloads; the default bundle has 2
BODIES = [
    ("smooth", (16, 16)),
    ("textured", (16, 16)),
    ("black", (16, 16)),
    ("textured", (5, 3)),
    ("noise", (1, 1)),
    ("smooth", (33, 20)),
    ("noise", (16, 16)),
]
# seed, block, (width, height), fit; the portrait with each fit comes first
PAYLOADS = [
    (31, 13, (300, 200), "pad"),
    (32, 40, (200, 333), "stretch"),
    (33, 1, (256, 256), "pad"),
    (34, 64, (1280, 720), "crop"),
    (35, 1, (1, 1), "pad"),
    (36, 5, (3000, 17), "pad"),
]
# Squares of portrait.ppm, and of generated pictures: source, square
PORTRAIT_SQUARES = [(287, 347, 1086, 16), (300, 380, 400, -120), (280, 360, -2, 520)]
GENERATED_SQUARES = [
    (51, 20, (640, 480), (1280, 800, 800, 600)),
    (52, 64, (1920, 1080), (3000, 2500, 4400, -300)),  # reduced by 4, over the lower edge
    (53, 1, (40, 30), (0, 0, 640, 0)),  # four times as large as the picture, in its corner
]
# (width, height), left eye, right eye, mouth
POINTS = [
    ((640, 480), (290, 210), (350, 214), (318, 280)),
    ((640, 480), (290.25, 210.125), (350.5, 190.75), (330.0625, 270.3)),
    ((640, 480), (350, 214), (290, 210), (318, 150)),  # upside down
    ((640, 480), (300, 200), (300, 260), (240, 230)),  # on its side
    ((640, 480), (12, 200), (40, 200), (26, 240)),  # over the edge
    ((256, 256), (96, 116), (160, 116), (128, 178)),  # framed
    ((256, 256), (98, 120), (162, 120), (130, 182)),  # framed, just
    ((256, 256), (92, 124), (156, 124), (124, 186)),  # not quite
    ((256, 512), (96, 244), (160, 244), (128, 306)),
    ((65535, 4096), (60000.5, 1000), (61000, 1010), (60500, 2000)),
]
REFUSED_POINTS = [
    ((640, 480), (300, 200), (300, 200), (300, 200)),  # coinciding
    ((640, 480), (300, 200), (300.1, 200), (300, 200.1)),  # a square smaller than a pixel
    ((640, 480), (-900, 200), (-800, 200), (-850, 300)),  # outside
    ((640, 480), (300, 2000), (360, 2000), (330, 2100)),
    ((640, 480), (-2000, 200), (2640, 200), (320, 300)),  # too large
    ((640, 480), (1e300, 200), (320, 200), (320, 300)),
]
REFUSED_TEXTS = "me.grain 7W4Q! 7W4QA W0U1 W0U:: W0U::: W0Uab qNY9! rAY9A sNY9 ABL1 ABL:: ABL::: A:L000"
ORIGINAL_SIZE = (640, 480)


def golden_files() -> dict[str, bytes]:
    """Every golden file of the clients: name -> bytes."""
    manifest = load_manifest(find_bundle(DEFAULT_BUNDLE))
    tables = CoderTables.from_json(manifest.open_file("coder.json"))
    bundle, contract = {"bundle": manifest.id}, {"lr_contract_id": manifest.lr_contract_id.hex()}
    contents = {
        "inputs": {**bundle, "inputs": _inputs(json.loads(manifest.open_file("golden.json")))},
        "fits": _fits(),
        "transparency": _transparency(),
        "orientations": _orientations(),
        "bodies": {**bundle, "bodies": _bodies(tables), "coarse_bodies": _coarse_bodies(tables)},
        "payloads": {**bundle, "hr": manifest.hr, **contract, "payloads": _payloads()},
        "aligned": {
            **bundle,
            "square": "centre x, y, edge x, y in quarters of a pixel (docs/payload.md)",
            **contract,
            "payloads": _read_aligned(manifest.lr_contract_id, tables),
            "encodings": _aligned(),
            "points": _points(),
            "refused_points": _refused_points(),
        },
        "photos": {"photos": _photos(json.loads((FOLDER / recorded.RECORDED).read_bytes()))},
        "damaged": {**bundle, **contract, "payloads": _damaged(manifest.lr_contract_id, tables)},
        "texts": {"texts": _texts(), "refused": ["", *REFUSED_TEXTS.split()]},
        "unsupported": {**bundle, **contract, "payloads": _unsupported(manifest.lr_contract_id, tables)},
    }
    return {
        **{name: (FOLDER / name).read_bytes() for name in (PORTRAIT, recorded.RECORDED)},
        **{f"{name}.json": json_bytes(content) for name, content in contents.items()},
    }


def _inputs(golden: dict[str, Any]) -> list[dict[str, str]]:
    """The pictures of a golden.json themselves: that file names only their LRs."""
    cases = []
    for item in golden["inputs"]:
        picture = golden_input(item["kind"], item["parameters"], golden["hr"])
        cases.append({"name": item["name"], "sha256": digest(picture)})
    return cases


def _picture(source: dict[str, Any], channels: int = 3) -> npt.NDArray[np.uint8]:
    if "file" in source:
        return portrait()
    return generated_picture(source["seed"], source["block"], source["size"], channels)


def _fits() -> dict[str, Any]:
    fits = rows("seed block size hr fit", FITS)
    for case in fits:
        case["sha256"] = digest(fit_picture(_picture(case), case["hr"], case["fit"]))
    sizes = [{"size": size, "hr": hr, "content_size": content_size(size, hr)} for size, hr in CONTENT_SIZES]
    return {"fits": fits, "content_sizes": sizes}


def _transparency() -> dict[str, Any]:
    cases = rows("seed block size background", TRANSPARENT)
    for case in cases:
        case["sha256"] = digest(load_picture(_picture(case, 4), background=case["background"]))
    return {"pictures": cases}


def _orientations() -> dict[str, Any]:
    image = Image.fromarray(_picture(TURNED))
    cases = []
    for orientation in range(1, 9):
        image.info["exif"] = exif(orientation)
        rgb = load_picture(image)
        upright = [rgb.shape[1], rgb.shape[0]]
        cases.append({**TURNED, "orientation": orientation, "upright_size": upright, "sha256": digest(rgb)})
    return {"pictures": cases}


def _bodies(tables: CoderTables) -> list[dict[str, Any]]:
    lrs = [(size, rounded(golden_lr(kind, *size), tables.step)) for kind, size in BODIES]
    return [{"size": size, "lr": lr.tobytes().hex(), "body": encode_lr(lr, tables).hex()} for size, lr in lrs]


def _coarse_bodies(tables: CoderTables) -> list[dict[str, Any]]:
    """Bodies of the default bundle's tables with other steps; "stored" is the LR that they hold."""
    cases = []
    for step, (kind, size) in itertools.product(STEPS, BODIES):
        lr = golden_lr(kind, *size)
        stored, body = rounded(lr, step).tobytes().hex(), encode_lr(lr, replace(tables, step=step)).hex()
        cases.append({"step": step, "size": size, "lr": lr.tobytes().hex(), "stored": stored, "body": body})
    return cases


def _payloads() -> list[dict[str, Any]]:
    codec = sdk.Codec(DEFAULT_BUNDLE, threads=1)
    cases = [{"file": PORTRAIT, "fit": fit} for fit in ("pad", "stretch", "crop")]
    cases += rows("seed block size fit", PAYLOADS)
    for case in cases:
        picture = _picture(case)
        payload = codec.compress(picture, fit=case["fit"])
        case |= _described(payload, fit_picture(picture, codec.bundle.hr, case["fit"]))
    return cases


def _aligned() -> list[dict[str, Any]]:
    """Payloads of squares of pictures: the picture and the square determine every byte."""
    codec = sdk.Codec(DEFAULT_BUNDLE, threads=1)
    cases: list[dict[str, Any]] = [{"file": PORTRAIT, "square": square} for square in PORTRAIT_SQUARES]
    cases += rows("seed block size square", GENERATED_SQUARES)
    for case in cases:
        picture, square = _picture(case), OrientedSquare(*case["square"])
        fitted = cut_square(picture, square, codec.bundle.hr)
        payload = codec.compress_fitted(Fitted(fitted, (picture.shape[1], picture.shape[0]), FIT_ALIGN, square))
        case |= _described(payload, fitted)
    return cases


def _described(payload: sdk.Payload, fitted: npt.NDArray[np.uint8]) -> dict[str, Any]:
    size, lr = payload.original_size, payload.lr.tobytes().hex()
    return {"original_size": size, "fitted_sha256": digest(fitted), "lr": lr, "payload": payload.hex()}


def _points() -> list[dict[str, Any]]:
    """Eyes and mouths with the squares that FFHQ cuts out around them."""
    cases = rows("size left_eye right_eye mouth", POINTS)
    for case in cases:
        size, *points = case.values()
        square = ffhq_square(points, size)
        case |= {"square": astuple(square), "framed": is_framed(square, size)}
    return cases


def _refused_points() -> list[dict[str, Any]]:
    for size, *points in REFUSED_POINTS:
        with pytest.raises(ImageError):
            ffhq_square(points, size)
    return rows("size left_eye right_eye mouth", REFUSED_POINTS)


def _photos(recording: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """Photographs with their faces, by the recorded outputs of the networks, which ONNX Runtime's resemble."""
    replayed, onnx = recorded.recorded_finder(recording), FaceFinder()
    cases = []
    for source in recorded.PHOTOS:
        rgb, every = recorded.photo(source), source["every"]
        size = rgb.shape[1], rgb.shape[0]
        faces = []
        for face, other in zip(replayed.find(rgb, every=every), onnx.find(rgb, every=every), strict=True):
            square, expected = ffhq_square(face.points, size), ffhq_square(other.points, size)
            assert np.abs(square.corners() - expected.corners()).max() < 0.01 * expected.side
            faces.append(_describe(face, square, size))
        cases.append({**source, "faces": faces})
    return cases


def _describe(face: FoundFace, square: OrientedSquare, size: tuple[int, int]) -> dict[str, Any]:
    found = face.detected
    return {
        "centre": [round(float(value), 3) for value in found.centre],
        "side": round(found.side, 3),
        "roll": round(found.roll, 3),
        "yaw": round(found.yaw, 3),
        "score": round(found.score, 4),
        "share_outside": round(found.share_outside(size), 4) + 0.0,
        "problems": list(found.problems(size)),
        "square": astuple(square),
        "framed": is_framed(square, size),
    }


def _damaged(contract_id: bytes, tables: CoderTables) -> list[dict[str, str]]:
    """Payloads of both versions that a reader refuses; most have the right CRC."""
    lr = golden_lr("smooth", 16, 16)
    body, raw, other = encode_lr(lr, tables), lr.tobytes(), bytes(byte ^ 255 for byte in contract_id)

    old, new = (
        partial(forged, version, body=body, contract_id=contract_id, original=b"\x80\x05\xe0\x03") for version in (1, 2)
    )
    cases = {
        "thirteen bytes": old()[:13],
        "another magic": old(head=b"\xed\x6f\x11"),
        "version nibble 2": old(head=b"\xed\x6e\x21"),
        "coding 2": old(coding=2),
        "reserved flag": old(flags=4 << 2 | 64),
        "fit 3": old(flags=4 << 2 | 3),
        "size code 9": old(flags=9 << 2),
        "explicit size that has a code": old(flags=15 << 2, size=bytes((15, 15))),
        "another contract": old(contract_id=other),
    }
    newer = {
        "six bytes": new()[:6],
        "first byte a7": new(head=b"\xa7"),
        "first byte ad": new(head=b"\xad"),
        "coding 2": new(coding=2),
        "coding 3": new(coding=3),
        "fit 3": new(flags=16 | 3),
        "CRC of four bytes": new(crc=slice(4)),
        "high bytes of the CRC": new(crc=slice(1, 4)),
        "another contract": new(contract_id=other),
        "LR of another size": new(head=b"\xa9"),
        "original that should not follow": new(original=b"\x80\x02\x80\x02"),
        "LR in too many bytes": new(head=b"\xac", size=b"\x81\x00\x05"),
        "LR of width 0": new(head=b"\xac", size=b"\0\5"),
        "LR of height 65536": new(head=b"\xac", size=b"\x01\x80\x80\x04"),
        "LR of more than 2**24 pixels": new(head=b"\xac", size=b"\xff\xff\x03\xff\x03"),
        "LR of 257 x 1, range coder": new(head=b"\xac", size=b"\x81\x02\x01"),
        "square outside": new(flags=16 | 3, original=b"\x0a\x0a\x29\x14\x28\0"),
        "square of less than a pixel": new(flags=16 | 3, original=b"\x0a\x0a\x14\x14\0\x06"),
        "square in too many bytes": new(flags=16 | 3, original=b"\x0a\x0a\x14\x14\xa8\0\0"),
        **{f"reserved flag {flag}": new(flags=16 | flag) for flag in (32, 64, 128)},
        **{f"LR of {side} written out": new(head=b"\xac", size=write_leb128(side) * 2) for side in (16, 32, 64, 128)},
    }
    for payload, named in ((old, cases), (new, newer)):
        good = payload()
        flipped = bytearray(good)
        flipped[20] ^= 1
        named |= {
            "truncated": good[:-1],
            "one byte more": good + b"\0",
            "one bit flipped": bytes(flipped),
            "width in too many bytes": payload(original=b"\x80\x85\x00\xe0\x03"),
            "width of four bytes": payload(original=b"\x80\x80\x80\x01\xe0\x03"),
            "width 0": payload(original=b"\x00\xe0\x03"),
            "width 65536": payload(original=b"\x80\x80\x04\x01"),
            "more than 2**28 pixels": payload(original=b"\xff\xff\x03\xff\xff\x03"),
            "raw, one byte short": payload(body=raw[:-1], coding=0),
            "raw, one byte long": payload(body=raw + b"\0", coding=0),
            "coded, as long as raw": payload(body=raw[:-1] + b"\1"),
            "body with another ending": payload(body=body + b"\1"),
            "body with a zero behind": payload(body=body + b"\0"),
        }
    cases |= {"empty": b"", **{f"version 2: {name}": data for name, data in newer.items()}}
    return refused(cases, "payload", lambda data: decode_payload(data, contract_id=contract_id, tables=tables))


def _texts() -> list[dict[str, str]]:
    """Payloads and scenes of both versions as text; with the base64 that other programs write."""
    contract = FOLDER.parent / "contract"
    payloads = [path.read_bytes() for path in sorted(contract.glob("*.grain"))]
    scenes = [bytes.fromhex(case["scene"]) for case in json.loads((contract / "scenes.json").read_text())["scenes"]]
    small = [data for data in payloads if len(data) < 1000]
    # Contracts with which base45 begins with one space, and two.
    encode = partial(encode_payload, tables=CoderTables.default(), original_size=ORIGINAL_SIZE)
    spaces = [
        encode(golden_lr("noise", *size), contract_id=bytes([begin, 0]))
        for begin, size in ((3, (16, 16)), (0x95, (3, 1)))
    ]
    forms: dict[str, Callable[[bytes], str]] = {
        "bytes": bytes.hex,
        "base64url": to_text,
        "base45": lambda data: to_text(data, "base45"),
        "base64": lambda data: base64.b64encode(data).decode(),
    }
    texts = (*small, scenes[0], scenes[3], *spaces)
    return [{name: form(data) for name, form in forms.items()} for data in texts]


def _read_aligned(contract_id: bytes, tables: CoderTables) -> list[dict[str, Any]]:
    """Payloads of aligned pictures, coded and raw, that clients read."""
    square = OrientedSquare(1280, 800, 800, 600)
    claims = {"fit": FIT_ALIGN, "square": square}
    small = rounded(golden_lr("smooth", 16, 16), tables.step)
    cases = _both("fit 3, aligned", small, contract_id, tables, **claims)
    cases += _both("fit 3, aligned, raw", small, contract_id, tables, coding=CODING_RAW, **claims)
    return [{**case, "square": astuple(square), "original_size": ORIGINAL_SIZE} for case in cases]


def _unsupported(contract_id: bytes, tables: CoderTables) -> list[dict[str, Any]]:
    """Payloads of photographs in tiles, which the clients neither make nor read."""
    small, wide = (rounded(golden_lr("smooth", *size), tables.step) for size in ((16, 16), (257, 2)))
    cases = _both("coding 2, deflated", small, contract_id, tables, coding=CODING_DEFLATE)
    cases += _both("257 x 2, deflated", wide, contract_id, tables)
    return cases + _both("257 x 2, raw", wide, contract_id, tables, coding=CODING_RAW)


def _both(
    name: str, lr: npt.NDArray[np.uint8], contract_id: bytes, tables: CoderTables, **changes: Any
) -> list[dict[str, Any]]:
    """A payload in both versions, of which clients write the newer one."""
    data = encode_payload(lr, contract_id=contract_id, tables=tables, original_size=ORIGINAL_SIZE, **changes)
    cases = []
    for version, found in ((1, version_1(data, contract_id)), (2, data)):
        if not np.array_equal(decode_payload(found, contract_id=contract_id, tables=tables)[0], lr):
            raise AssertionError(f"a payload with {changes} is not read back")
        label = f"version {version}: {name}"
        cases.append({"name": label, "version": version, "payload": found.hex(), "lr_sha256": digest(lr)})
    return cases


if __name__ == "__main__":
    write(FOLDER, golden_files())
