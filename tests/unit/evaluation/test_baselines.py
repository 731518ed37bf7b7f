"""The classical opponents: they fit their budget, the search finds what it should, results are reproducible."""

import io

import numpy as np
import pytest
from PIL import Image

from edgegrain.contract.errors import EdgegrainError
from edgegrain.evaluation.baselines import FACTORS, best_at, candidates
from edgegrain.evaluation.metrics import psnr

CODECS = ["jpeg", "webp", "avif"]


@pytest.mark.parametrize("codec", CODECS)
def test_every_candidate_fits_and_the_best_by_psnr_wins(portrait: np.ndarray, codec: str) -> None:
    small = np.ascontiguousarray(portrait[::2, ::2])
    results = list(candidates(small, codec, 700))
    assert len(results) >= 3
    assert all(result.nbytes <= 700 and result.rgb.shape == small.shape and result.rgb.dtype == np.uint8
               for result in results)
    assert len({result.factor for result in results}) == len(results)
    best = best_at(small, codec, 700)
    assert best is not None
    assert psnr(best.rgb, small) == max(psnr(result.rgb, small) for result in results) > 20
    assert f"{best.nbytes} bytes" in best.description


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_downscaling_beats_full_size_at_few_bytes(portrait: np.ndarray, codec: str) -> None:
    best = best_at(portrait, codec, 700)
    assert best is not None and best.factor > 1
    full = [result for result in candidates(portrait, codec, 700) if result.factor == 1]
    assert not full or psnr(full[0].rgb, portrait) < psnr(best.rgb, portrait)


def test_the_highest_quality_that_fits_is_found(portrait: np.ndarray) -> None:
    """Against trying all 101 qualities."""
    image = Image.fromarray(portrait)

    def size(quality: int) -> int:
        stream = io.BytesIO()
        image.save(stream, "WEBP", quality=quality, method=6)
        return len(stream.getvalue())

    fitting = max(quality for quality in range(101) if size(quality) <= 5000)
    assert next(candidates(portrait, "webp", 5000)).quality == fitting


def test_a_score_decides_instead_of_psnr(portrait: np.ndarray) -> None:
    sharpest = best_at(portrait, "webp", 700, score=lambda rgb: -float(np.abs(np.diff(rgb.astype(int), axis=1)).mean()))
    finest = best_at(portrait, "webp", 700)
    assert sharpest is not None and finest is not None
    assert psnr(sharpest.rgb, portrait) < psnr(finest.rgb, portrait)


def test_a_budget_for_the_best_quality_ends_the_search_at_full_size(portrait: np.ndarray) -> None:
    results = list(candidates(portrait, "jpeg", 1 << 20))
    assert [(result.factor, result.quality) for result in results] == [(1.0, 100)]


@pytest.mark.parametrize("codec", CODECS)
def test_nothing_fits_in_a_few_bytes(portrait: np.ndarray, codec: str) -> None:
    assert best_at(portrait, codec, 20) is None


def test_the_same_picture_gives_the_same_result(portrait: np.ndarray) -> None:
    first, second = best_at(portrait, "webp", 640), best_at(portrait, "webp", 640)
    assert first is not None and second is not None
    assert (first.nbytes, first.description) == (second.nbytes, second.description)
    assert np.array_equal(first.rgb, second.rgb)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 90, 3), (37, 5, 3)])
def test_odd_and_tiny_sizes(shape: tuple[int, int, int]) -> None:
    rgb = np.full(shape, 128, np.uint8)
    best = best_at(rgb, "webp", 1000)
    assert best is not None and best.rgb.shape == shape
    assert psnr(best.rgb, rgb) > 40


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(EdgegrainError, match="'gif'"):
        best_at(np.zeros((8, 8, 3), np.uint8), "gif", 100)


def test_factors_grow_from_full_size() -> None:
    assert FACTORS[0] == 1 and list(FACTORS) == sorted(set(FACTORS))
