"""Runtimes may compute stride-1 3x3 convolutions with float32 Winograd kernels: the guard half must cover their error.

torch does: without oneDNN, from batch 16 on, NNPACK runs depthwise layers as F(6, 3).
"""

from fractions import Fraction

import numpy as np
import pytest
import torch

from edge_encoder.integer_network import IntegerNetwork, load_integer_network, run_reference
from edge_encoder.twin import EncoderTwin, encoder_config, lower
from export.encoder.graph import exact_graph
from export.encoder.torch_graph import torch_encoder
from tests.networks import random_network, without_guard

POINTS = {2: (0, 1, -1), 4: (0, 1, -1, 2, -2), 6: (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2))}
"""Finite interpolation points of F(m, 3), as in Lavin and Gray 2016 and NNPACK."""
GUARD = 0.5
SEARCH_STEPS = 400

Matrices = tuple[np.ndarray, np.ndarray, np.ndarray]


def cook_toom(m: int) -> Matrices:
    """A^T [m, m + 2], G [m + 2, 3], B^T [m + 2, m + 2] of F(m, 3), from exact fractions."""
    points = [Fraction(point) for point in POINTS[m]]

    def evaluate(degree: int) -> list[list[Fraction]]:
        at_infinity = [Fraction(0)] * (degree - 1) + [Fraction(1)]
        return [[point**power for power in range(degree)] for point in points] + [at_infinity]

    def product(roots: list[Fraction]) -> list[Fraction]:
        polynomial = [Fraction(1)]
        for root in roots:
            shifted, scaled = [Fraction(0), *polynomial], [*(-root * c for c in polynomial), Fraction(0)]
            polynomial = [a + b for a, b in zip(shifted, scaled, strict=True)]
        return polynomial

    filters = evaluate(3)
    inputs = []
    for index, point in enumerate(points):
        others = points[:index] + points[index + 1 :]
        norm = Fraction(1)
        for other in others:
            norm *= point - other
        filters[index] = [value / norm for value in filters[index]]
        inputs.append([*product(others), Fraction(0)])
    inputs.append(product(points))
    outputs = np.array(evaluate(m), float).T
    return outputs, np.array(filters, float), np.array(inputs, float)


def winograd(weight: np.ndarray, tiles: np.ndarray, m: int) -> np.ndarray:
    """Float32 F(m, 3) of one tile ``[C, m + 2, m + 2]`` per channel ``weight [C, 3, 3]`` -> ``[C, m, m]``."""
    a, g, b = (matrix.astype(np.float32) for matrix in cook_toom(m))
    result: np.ndarray = a @ ((g @ weight.astype(np.float32) @ g.T) * (b @ tiles.astype(np.float32) @ b.T)) @ a.T
    assert result.dtype == np.float32
    return result


def exact(weight: np.ndarray, tiles: np.ndarray, m: int) -> np.ndarray:
    weight, tiles = weight.astype(np.int64), tiles.astype(np.int64)
    return np.sum([weight[:, i, j, None, None] * tiles[:, i : i + m, j : j + m] for i, j in np.ndindex(3, 3)], 0)


def worst_error(weight: np.ndarray, m: int, seed: int = 0) -> np.ndarray:
    """Per channel ``[C]``, the largest error found by hill climbing over tiles of bytes."""
    rng = np.random.default_rng(seed)
    count, side = len(weight), m + 2

    def error(tiles: np.ndarray) -> np.ndarray:
        return np.abs(winograd(weight, tiles, m) - exact(weight, tiles, m)).max((1, 2))

    best = rng.choice([0, 255], (count, side, side))
    best_error = error(best)
    for step in range(SEARCH_STEPS):
        tiles = best.copy()
        for _ in range(1 + step % 3):
            i, j = rng.integers(0, side, 2)
            tiles[:, i, j] = rng.choice([0, 255], count) if step % 2 else rng.integers(0, 256, count)
        new = error(tiles)
        better = new > best_error
        best[better], best_error[better] = tiles[better], new[better]
    return best_error


def heaviest_channels(network: IntegerNetwork, count: int = 192) -> np.ndarray:
    """The ``[C, 3, 3]`` depthwise weights with the largest absolute sums."""
    weight = np.concatenate([layer.weight[:, 0] for layer in network.layers if layer.groups > 1 and layer.stride == 1])
    return weight[np.argsort(-np.abs(weight.astype(int)).sum((1, 2)))[:count]]


@pytest.mark.parametrize("m", [2, 4, 6])
def test_the_simulated_kernels_are_convolutions(m: int) -> None:
    rng = np.random.default_rng(1)
    weight, tiles = rng.integers(-2, 3, (50, 3, 3)), rng.integers(0, 3, (50, m + 2, m + 2))
    assert np.abs(winograd(weight, tiles, m) - exact(weight, tiles, m)).max() < 1e-4


@pytest.mark.parametrize("m", [2, 4, 6])
@pytest.mark.parametrize("trained", [False, True])
def test_the_guard_half_covers_depthwise_layers(m: int, trained: bool, request: pytest.FixtureRequest) -> None:
    network = lower(EncoderTwin(encoder_config(256, 16)))
    if trained:
        network = load_integer_network(request.getfixturevalue("default_bundle") / "encoder.safetensors")
    worst = worst_error(heaviest_channels(network), m).max()
    assert worst < 0.8 * GUARD, f"F({m}, 3) can err by {worst:.3f} accumulator units"


def test_torch_without_onednn_at_batch_16_needs_the_guard_half() -> None:
    network = random_network()
    rgb = np.random.default_rng(4).integers(0, 256, (16, network.hr, network.hr, 3), dtype=np.uint8)
    expected = run_reference(network, rgb)
    assert np.array_equal(torch_encoder(exact_graph(network), onednn=False)(rgb), expected)
    if torch.backends.nnpack.is_available():
        assert (torch_encoder(without_guard(network), onednn=False)(rgb) != expected).any()
