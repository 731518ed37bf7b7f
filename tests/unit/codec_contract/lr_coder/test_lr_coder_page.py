"""docs/lr_coder.md, executed: a decoder written from the page alone, in plain Python, reads golden bodies.

It shares no code with the package, so it stands for a port to another language; every product is checked
to stay within the 48 bits the page promises.
"""

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
GOLDEN = ROOT / "tests" / "golden" / "contract"
CODER = json.loads((ROOT / "codec_contract" / "lr_coder" / "default_coder.json").read_text())
PAYLOADS = json.loads((GOLDEN / "payloads.json").read_text())["payloads"]
CODED = [case for case in PAYLOADS if case["file"].startswith("coded") and case["lr_size"] != [64, 64]]

AROUND = [(-1, 0), (0, -1), (-1, -1), (1, -1), (-2, 0), (0, -2), (-2, -1), (2, -1), (-1, -2), (1, -2)]
S = [round(2**20 / (1 + math.exp(-i / 8))) for i in range(97)]
S.append(S[96])
M = [round(2**16 * 2 ** (-i / 8)) for i in range(8)]


def clamp(value: Any, low: int, high: int) -> int:
    return min(max(value, low), high)


def within(value: Any, bits: int) -> int:
    assert abs(value) < 2**bits
    return value


class Reader:
    def __init__(self, body: bytes) -> None:
        self.body, self.position = body, 4
        self.low, self.high = 0, 2**32 - 1
        self.value = int.from_bytes((body + bytes(4))[:4], "big")

    def decision(self, p: int) -> bool:
        split = self.low + (within((self.high - self.low) * p, 48) >> 16)
        true = self.value <= split
        if true:
            self.high = split
        else:
            self.low = split + 1
        while self.low >> 24 == self.high >> 24:
            self.low = self.low << 8 & 0xFFFFFFFF
            self.high = self.high << 8 & 0xFFFFFFFF | 255
            following = self.body[self.position] if self.position < len(self.body) else 0
            self.value = self.value << 8 & 0xFFFFFFFF | following
            self.position += 1
        return true

    def ends_well(self) -> bool:
        for length in range(5):
            unit = 2 ** (32 - 8 * length)
            rounded_up = (self.low + unit - 1) // unit * unit
            if rounded_up <= self.high:
                ending = rounded_up.to_bytes(4, "big")[:length] if length else b""
                break
        settled = (self.body + bytes(self.position))[: self.position - 4]
        return (settled + ending).rstrip(b"\0") == self.body


def layer(record: Any, values: Any) -> list[int]:
    weights = base64.b64decode(record["weight"])
    output = []
    for i, (bias, shift) in enumerate(zip(record["bias"], record["shift"], strict=True)):
        row = weights[i * len(values) : (i + 1) * len(values)]
        acc = sum((w - 256 if w > 127 else w) * v for w, v in zip(row, values, strict=True)) + bias
        output.append(within(acc + ((1 << shift) >> 1), 30) >> shift)
    return output


def predict(c: int, context: Any, ref: Any) -> tuple[int, int]:
    values = context
    for hidden in CODER["channels"][c]["hidden"]:
        values = [clamp(y, 0, 4095) for y in layer(hidden, values)]
    mean, scale = layer(CODER["channels"][c]["output"], context + values)
    return clamp(16 * ref + mean, 0, 4080), clamp(scale, 0, 63)


def mass_below(v: int, mean: int, scale: int) -> int:
    d = 16 * v - 8 - mean
    a = min(within(abs(d) * M[scale & 7], 32) >> (6 + (scale >> 3)), 96 * 512)
    f = S[a >> 9] + ((S[(a >> 9) + 1] - S[a >> 9]) * (a & 511) >> 9)
    return (f if d >= 0 else 2**20 - f) + v


def context_of(picture: Any, x: int, y: int, c: int, w: int, h: int) -> tuple[list[int], int]:
    near = []
    for dx, dy in AROUND:
        nx, ny = clamp(x + dx, 0, w - 1), max(y + dy, 0)
        if (ny, nx) >= (y, x):
            nx, ny = (x - 1, y) if x else (0, y - 1)
        near.append(picture[nx, ny] if ny >= 0 else [128, 128, 128])
    ref = (near[0][c] + near[1][c] + 1) >> 1
    u, v = (2 * x + 1) * 128 // w - 128, (2 * y + 1) * 128 // h - 128
    context = [level - ref for pixel in near for level in pixel]
    context += [picture[x, y][k] - ref for k in range(c)]
    context += [ref - 128, u, v, u * u >> 7, v * v >> 7, u * v >> 7]
    return context + [128 * (y == 0), 128 * (x == 0), 128 * (x == w - 1)], ref


def decode(body: bytes, w: int, h: int) -> bytes:
    reader, picture = Reader(body), {}
    for t in range(w + 3 * h):
        line = [(t - 3 * y, y) for y in range(h) if 0 <= t - 3 * y < w]
        picture |= {pixel: [0, 0, 0] for pixel in line}
        for c in range(3):
            for x, y in line:
                mean, scale = predict(c, *context_of(picture, x, y, c, w, h))
                low, high = 0, 256
                for size in (128, 64, 32, 16, 8, 4, 2, 1):
                    upper = mass_below(high, mean, scale) - mass_below(low + size, mean, scale)
                    both = mass_below(high, mean, scale) - mass_below(low, mean, scale)
                    if reader.decision(clamp(within(upper << 16, 48) // both, 1, 65535)):
                        low += size
                    else:
                        high = low + size
                picture[x, y][c] = low
    assert reader.ends_well()
    return bytes(level for y in range(h) for x in range(w) for level in picture[x, y])


@pytest.mark.parametrize("case", CODED, ids=lambda case: case["file"])
def test_the_page_decodes_golden_bodies(case: Any) -> None:
    data = (GOLDEN / case["file"]).read_bytes()
    start = 8 + (2 if data[7] >> 2 == 15 else 0)
    for _ in range(2):
        while data[start] & 128:
            start += 1
        start += 1
    levels = decode(data[start:-4], *case["lr_size"])
    assert hashlib.sha256(levels).hexdigest() == case["lr_sha256"]
