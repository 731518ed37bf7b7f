"""Pictures for checking an exact encoder: real, synthetic, and searched to sit on rounding boundaries.

Everything is drawn from a seeded generator, so two runs of the same command check the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codec_contract.errors import ExportError
from codec_contract.exact_square import exact_resize
from codec_contract.pixels import unit_to_levels
from edge_encoder.integer_network import INPUT, IntegerConv, IntegerNetwork, accumulate, unclamped
from edge_encoder.preprocessing import PICTURE_SUFFIXES, load_picture

SHARES = {"picture": 0.38, "noise": 0.2, "adversarial": 0.16, "gradient": 0.1, "checkerboard": 0.1, "constant": 0.06}
"""Share of every kind among the inputs; noise fills up to the total."""
SEARCH_STEPS = 10  # full runs of the network for an input searched at one layer


class CheckInput(NamedTuple):
    """One input: ``picture`` uint8 ``[hr, hr, 3]`` of a ``kind`` from `SHARES`."""

    kind: str
    name: str
    picture: np.ndarray


def find_pictures(folder: Path | None = None) -> list[Path]:
    """Picture files in ``folder``, sorted by name; without a folder the small portrait that ships with the package."""
    if folder is None:
        # The application's portrait is data for this package, which does not import the application.
        portrait = Path(__file__).resolve().parents[2] / "edgegrain" / "demo" / "portrait.jpg"
        return [portrait] if portrait.is_file() else []
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not found:
        raise ExportError(f"{folder} holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
    return found


def smooth_pictures(count: int, side: int, seed: int = 0) -> list[np.ndarray]:
    """uint8 ``[side, side, 3]``: smooth colours with some grain, for comparisons without photographs."""
    import torch

    rng = np.random.default_rng(seed)
    waves = torch.nn.functional.interpolate(
        torch.from_numpy(rng.uniform(-1, 1, (count, 3, 9, 9))), (side, side), mode="bicubic", align_corners=True
    )
    levels = unit_to_levels(waves.permute(0, 2, 3, 1).numpy()) + rng.normal(0, 6, (count, side, side, 1))
    return list(np.clip(levels, 0, 255).astype(np.uint8))


def input_counts(count: int, *, adversarial: bool = True) -> dict[str, int]:
    """Number of inputs of every kind, ``count`` in total."""
    counts = {kind: int(count * share) for kind, share in SHARES.items() if adversarial or kind != "adversarial"}
    counts["noise"] += count - sum(counts.values())
    return counts


def make_inputs(
    hr: int,
    count: int,
    *,
    network: IntegerNetwork | None = None,
    pictures: Sequence[Path] = (),
    seed: int = 0,
    span: slice = slice(None),
) -> Iterator[CheckInput]:
    """Generate those of ``count`` inputs that are in ``span``, one by one: large pictures are not in memory together.

    Adversarial inputs are searched on the rounding boundaries of ``network``; without it noise replaces them. Each real
    picture is used several times (cropped, turned, mirrored); without any, synthetic photographs replace them.
    """
    counts = input_counts(count, adversarial=network is not None)
    makers: dict[str, Callable[[np.random.Generator, int, int], tuple[str, np.ndarray]]] = {
        "picture": partial(_picture, pictures),
        "noise": _noise,
        "adversarial": partial(_adversarial, network),
        "gradient": _gradient,
        "checkerboard": _checkerboard,
        "constant": _constant,
    }
    plan = [(kind_index, kind, index) for kind_index, kind in enumerate(SHARES) for index in range(counts.get(kind, 0))]
    for kind_index, kind, index in plan[span]:
        name, picture = makers[kind](np.random.default_rng([seed, kind_index, index]), index, hr)
        yield CheckInput(kind, f"{kind} {index}: {name}", np.ascontiguousarray(picture, dtype=np.uint8))


def _adversarial(network: Any, rng: np.random.Generator, index: int, hr: int) -> tuple[str, np.ndarray]:
    """A picture whose accumulators sit half a unit from a rounding boundary, or are as large as possible.

    In turn: the stem's patches, each the best of many random ones; patches that drive one channel of the stem to
    its largest or smallest accumulator; and a random search on the last layer or, every second time, on an inner one.
    """
    layers, stem = network.layers, network.layers[0]
    tiles = stem.kernel == stem.strides and stem.input == INPUT and stem.groups == 1
    turn, step = index % 3, index // 3
    if turn == 0 and tiles:
        return "stem near boundaries", _boundary_patches(rng, stem, hr)
    if turn == 1 and tiles:
        channel, sign = step % stem.out_channels, 1 - 2 * (step // stem.out_channels % 2)
        tile = (np.sign(stem.weight[channel].astype(int)) == sign).transpose(1, 2, 0) * 255
        return f"stem channel {channel} extreme", np.tile(tile, (hr // stem.strides[0], hr // stem.strides[1], 1))
    layer = layers[-1] if step % 2 == 0 else layers[int(rng.integers(0, len(layers)))]
    return f"{layer.name} near boundaries", _search(rng, network, layer)


def _boundary_patches(rng: np.random.Generator, stem: IntegerConv, hr: int) -> np.ndarray:
    best = rng.integers(0, 256, (1, hr, hr, 3))
    best_score = near_boundary(accumulate(stem, best), stem).sum(3)
    for _ in range(23):
        candidate = rng.integers(0, 256, (1, hr, hr, 3))
        score = near_boundary(accumulate(stem, candidate), stem).sum(3)
        better = score > best_score
        pixels = np.repeat(np.repeat(better, stem.strides[0], 1), stem.strides[0], 2)[..., None]
        best, best_score = np.where(pixels, candidate, best), np.where(better, score, best_score)
    return best[0]


def _search(rng: np.random.Generator, network: IntegerNetwork, target: IntegerConv) -> np.ndarray:
    """Keep random changes of random rectangles that move more of one layer's accumulators to a boundary."""
    hr = network.hr
    best = _photograph(rng, hr) if rng.random() < 0.5 else rng.integers(0, 256, (hr, hr, 3))
    best_score = boundary_counts(network, best, until=target.name)[target.name]
    for _ in range(SEARCH_STEPS):
        candidate = best.copy()
        height, width = (int(side) for side in rng.integers(hr // 8, hr + 1, 2))
        top, left = int(rng.integers(0, hr - height + 1)), int(rng.integers(0, hr - width + 1))
        region = candidate[top : top + height, left : left + width]
        region[...] = np.clip(region + rng.integers(-8, 9, region.shape), 0, 255)
        score = boundary_counts(network, candidate, until=target.name)[target.name]
        if score > best_score:
            best, best_score = candidate, score
    return best


def near_boundary(acc: np.ndarray, layer: IntegerConv) -> np.ndarray:
    """Mask of int64 accumulators ``[N, h, w, O]`` at the least possible distance, half a unit, from a boundary."""
    scale = np.int64(1) << layer.shift.astype(np.int64)
    remainder = (acc + scale // 2) % scale
    return (remainder == 0) | (remainder == scale - 1)


def boundary_counts(network: IntegerNetwork, picture: np.ndarray, until: str | None = None) -> dict[str, int]:
    """Number of values per layer of one picture that would change if their accumulator moved by one unit.

    Values hidden by the clamp are not counted. Stops after the layer ``until``.
    """
    tensors = {INPUT: picture[None].astype(np.int64)}
    counts = {}
    for layer in network.layers:
        acc = accumulate(layer, tensors[layer.input])
        value = unclamped(layer, acc, tensors)
        counts[layer.name] = int((near_boundary(acc, layer) & (value >= 0) & (value <= 255)).sum())
        tensors[layer.name] = np.clip(value, 0, 255)
        if layer.name == until:
            break
    return counts


def _constant(rng: np.random.Generator, index: int, hr: int) -> tuple[str, np.ndarray]:
    greys = [(level, level, level) for level in (0, 255, 127, 128, 1, 254)]
    special = [*greys[:4], (255, 0, 0), (0, 255, 0), (0, 0, 255), *greys[4:]]
    colour = special[index] if index < len(special) else tuple(int(value) for value in rng.integers(0, 256, 3))
    return f"colour {colour}", np.broadcast_to(np.array(colour, np.uint8), (hr, hr, 3))


def _checkerboard(rng: np.random.Generator, index: int, hr: int) -> tuple[str, np.ndarray]:
    period = 2 ** (index % 6)
    first, second = ((0, 255), (255, 0), (127, 128))[index // 6] if index < 18 else rng.integers(0, 256, 2)
    y, x = np.indices((hr, hr)) // period
    picture = np.where((x + y) % 2 == 0, first, second)[:, :, None]
    phases = np.stack([picture[:, :, 0], np.roll(picture[:, :, 0], index % 3, 1), picture[:, :, 0]], 2)
    return f"squares of {period} pixels, {first} and {second}", phases


def _gradient(rng: np.random.Generator, index: int, hr: int) -> tuple[str, np.ndarray]:
    y, x = np.indices((hr, hr)) / (hr - 1)
    angle = 2 * np.pi * index / 16
    ramp = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)
    if index % 4 == 3:
        ramp = np.hypot(x - rng.random(), y - rng.random())
    ramp = (ramp - ramp.min()) / np.ptp(ramp)
    ends = rng.integers(0, 256, (2, 3)) if index else np.array([[0, 0, 0], [255, 255, 255]])
    return f"from {ends[0].tolist()} to {ends[1].tolist()}", np.round(ends[0] + ramp[:, :, None] * (ends[1] - ends[0]))


def _noise(rng: np.random.Generator, index: int, hr: int) -> tuple[str, np.ndarray]:
    match index % 4:
        case 0:
            return "uniform", rng.integers(0, 256, (hr, hr, 3))
        case 1:
            return "black and white", rng.integers(0, 2, (hr, hr, 3)) * 255
        case 2:
            centre, spread = rng.integers(40, 216), rng.integers(2, 60)
            return f"normal {centre} +- {spread}", np.clip(rng.normal(centre, spread, (hr, hr, 3)).round(), 0, 255)
        case _:
            block = 2 ** int(rng.integers(1, 6))
            coarse = rng.integers(0, 256, (-(-hr // block), -(-hr // block), 3))
            return f"blocks of {block} pixels", np.repeat(np.repeat(coarse, block, 0), block, 1)[:hr, :hr]


def _picture(paths: Sequence[Path], rng: np.random.Generator, index: int, hr: int) -> tuple[str, np.ndarray]:
    """A real picture in varied crops and orientations."""
    if not paths:
        return "synthetic photograph", _photograph(rng, hr)
    path, variation = paths[index % len(paths)], index // len(paths)
    rgb = load_picture(path)
    side = min(rgb.shape[:2])
    if variation:
        side = int(side * rng.uniform(0.4, 1))
        top, left = (int(rng.integers(0, limit - side + 1)) for limit in rgb.shape[:2])
    else:
        top, left = ((limit - side) // 2 for limit in rgb.shape[:2])
    square = exact_resize(np.ascontiguousarray(rgb[top : top + side, left : left + side]), (hr, hr))
    square = np.rot90(square, variation % 4)
    return f"{path.name}, variation {variation}", square[:, ::-1] if variation % 2 else square


def _photograph(rng: np.random.Generator, hr: int) -> np.ndarray:
    """Noise with the 1/f spectrum of photographs and correlated colours."""
    frequency = np.hypot(np.fft.fftfreq(hr)[:, None], np.fft.rfftfreq(hr)[None, :])
    frequency[0, 0] = 1
    planes = []
    for _ in range(3):
        spectrum = np.fft.rfft2(rng.normal(size=(hr, hr))) / frequency
        spectrum[0, 0] = 0
        plane = np.fft.irfft2(spectrum, (hr, hr))
        planes.append(plane / plane.std())
    mixed = np.stack(planes, 2) @ np.array([[0.8, 0.8, 0.8], [0.3, 0.0, -0.3], [0.1, -0.2, 0.1]])
    return np.clip(np.round(rng.integers(80, 176) + 50 * mixed), 0, 255)
