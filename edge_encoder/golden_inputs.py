"""Golden vectors of an encoder: inputs that any language can generate, and the SHA-256 of their LRs.

Every input is generated with unsigned 32-bit integer arithmetic, so a client's self-test needs no picture files. The
pseudo-random sequence is the linear congruential generator of Numerical Recipes (Press et al., 2nd ed., 7.1):

    state = (1664525 * state + 1013904223) mod 2^32, one step before each use; its value is state >> 24, 0...255

``golden.json`` of a bundle holds ``{"seed", "hr", "inputs": [{"name", "kind", "parameters", "lr_sha256"}]}``. Pixel
(y, x), channel c of an input of side hr, by kind:

    constant      colour[c]
    gradient      t = x, y or x + y for the axis "x", "y" or "diagonal"; n = hr - 1, or 2 hr - 2 for the diagonal:
                  (from[c] * (n - t) + to[c] * t + n / 2) / n, both divisions rounding down
    checkerboard  first[c] if x / period + y / period is even, else second[c]
    noise         the picture is cells of block x block pixels, cut off at the right and bottom; cell by cell in
                  reading order, channel by channel, low + (value * (high - low + 1)) / 256, state starting at seed
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_contract.errors import BundleError
from codec_contract.pixels import Rgb

Encode = Callable[[Rgb], Rgb]  # an encoder: uint8 [N, hr, hr, 3] to uint8 [N, lr, lr, 3]

_PLAN: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("black", "constant", {"colour": [0, 0, 0]}),
    ("white", "constant", {"colour": [255, 255, 255]}),
    ("skin", "constant", {"colour": [224, 172, 105]}),
    ("black-to-white", "gradient", {"from": [0, 0, 0], "to": [255, 255, 255], "axis": "x"}),
    ("red-to-blue", "gradient", {"from": [250, 20, 3], "to": [7, 40, 245], "axis": "y"}),
    ("olive-to-sky", "gradient", {"from": [92, 99, 11], "to": [130, 200, 255], "axis": "diagonal"}),
    ("pixels", "checkerboard", {"period": 1, "first": [0, 255, 0], "second": [255, 0, 255]}),
    ("squares", "checkerboard", {"period": 5, "first": [10, 128, 255], "second": [245, 127, 0]}),
    ("noise-0", "noise", {"block": 1, "low": 0, "high": 255}),
    ("noise-1", "noise", {"block": 1, "low": 96, "high": 159}),
    ("noise-2", "noise", {"block": 4, "low": 0, "high": 255}),
    ("noise-3", "noise", {"block": 13, "low": 0, "high": 255}),
)


def make_golden(run: Encode, hr: int, seed: int = 1) -> dict[str, Any]:
    """The content of ``golden.json`` for an encoder of input side ``hr``, made with a correct ``run``."""
    inputs = []
    for index, (name, kind, parameters) in enumerate(_PLAN):
        if kind == "noise":
            parameters = {"seed": (seed + index) % (1 << 32), **parameters}
        lr = run(golden_input(kind, parameters, hr)[None])
        inputs.append({"name": name, "kind": kind, "parameters": parameters, "lr_sha256": _digest(lr)})
    return {"seed": seed, "hr": hr, "inputs": inputs}


def check_golden(data: bytes, run: Encode) -> dict[str, bool]:
    """Run every input of a ``golden.json``: its name -> True if its LR is the same."""
    try:
        golden, same = json.loads(data), dict[str, bool]()
        for item in golden["inputs"]:
            rgb = golden_input(item["kind"], item["parameters"], golden["hr"])
            same[item["name"]] = _digest(run(rgb[None])) == item["lr_sha256"]
    except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise BundleError(f"the golden vectors are malformed ({error!r}); download the bundle again") from error
    if not same:
        raise BundleError("the golden vectors hold no inputs; download the bundle again")
    return same


def golden_input(kind: str, parameters: Mapping[str, Any], hr: int) -> Rgb:
    """One input, uint8 ``[hr, hr, 3]``, as defined in the module's docstring."""
    if not 2 <= hr <= 4096:
        raise BundleError(f"golden inputs have sides of 2 to 4096 pixels, got {hr}")
    y, x = (index[..., None] for index in np.ogrid[:hr, :hr])
    levels: Any
    match kind:
        case "constant":
            levels = parameters["colour"]
        case "gradient":
            t, steps = {"x": (x, hr - 1), "y": (y, hr - 1), "diagonal": (x + y, 2 * hr - 2)}[parameters["axis"]]
            levels = (np.array(parameters["from"]) * (steps - t) + np.array(parameters["to"]) * t + steps // 2) // steps
        case "checkerboard":
            even = (x // parameters["period"] + y // parameters["period"]) % 2 == 0
            levels = np.where(even, parameters["first"], parameters["second"])
        case "noise":
            block, low, high = parameters["block"], parameters["low"], parameters["high"]
            cells = -(-hr // block)
            values = generator_bytes(parameters["seed"], cells * cells * 3).astype(np.int64)
            levels = (low + values * (high - low + 1) // 256).reshape(cells, cells, 3)
            levels = levels.repeat(block, axis=0).repeat(block, axis=1)[:hr, :hr]
        case _:
            raise KeyError(kind)
    return np.ascontiguousarray(np.broadcast_to(levels, (hr, hr, 3)), dtype=np.uint8)


def generator_bytes(seed: int, count: int) -> npt.NDArray[np.uint8]:
    """The first ``count`` values of the generator started at ``seed``, uint8.

    Step n in closed form: state_n = a^n seed + c (1 + a + ... + a^(n-1)), all modulo 2^32, as numpy's unsigned
    arithmetic is.
    """
    powers = np.full(count, 1664525, np.uint32)
    np.multiply.accumulate(powers, out=powers)
    sums = np.cumsum(np.concatenate([np.ones(1, np.uint32), powers[:-1]]), dtype=np.uint32)
    return ((powers * np.uint32(seed) + sums * np.uint32(1013904223)) >> np.uint32(24)).astype(np.uint8)


def _digest(lr: Rgb) -> str:
    """SHA-256, in hex, of an LR's bytes in reading order, R, G, B per pixel."""
    return hashlib.sha256(np.ascontiguousarray(lr).tobytes()).hexdigest()
