"""The classical codecs: they fit their budget, the search finds what it should, results are reproducible."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from codec_contract.errors import EdgegrainError
from edgegrain.evaluation import classical_codecs as baselines
from edgegrain.evaluation.classical_codecs import CODECS, ClassicalCodec, ClassicalResult, Setting, encode_lossless
from edgegrain.metrics.pixel_scores import psnr


@pytest.fixture(scope="module")
def small(portrait: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(portrait[::2, ::2])


def candidates(classical: ClassicalCodec, max_bytes: int) -> list[ClassicalResult]:
    """For every scale at which something fits, the highest quality that does; AVIF in 4:2:0, then in 4:4:4."""
    found = []
    for chroma in classical._chroma:
        factors = classical._useful_factors(chroma, max_bytes)
        found += [classical._highest_quality(factor, chroma, max_bytes) for factor in factors]
    return [result for result in found if result is not None]


@pytest.mark.parametrize("codec", CODECS)
def test_every_candidate_fits_and_the_best_by_psnr_wins_and_is_encoded_again(small: np.ndarray, codec: str) -> None:
    classical = ClassicalCodec(small, codec)
    results = candidates(classical, 700)
    assert len(results) >= 3
    assert all(result.nbytes <= 700 for result in results)
    assert all((result.rgb.shape, result.rgb.dtype) == (small.shape, np.uint8) for result in results)
    scales = [(result.setting.full_chroma, result.setting.factor) for result in results]
    assert scales == sorted(set(scales)) and {chroma for chroma, _ in scales} == {False, codec == "avif"}
    assert all(result.setting.quality > 0 for result in results) or codec != "jpeg-xl"
    best = classical.best(700)
    highest = max(psnr(result.rgb, small) for result in results)
    assert psnr(best.rgb, small) == pytest.approx(highest, abs=1e-6) and highest > 20
    assert f"{best.nbytes} bytes" in best.description and CODECS[codec] in best.description
    again = ClassicalCodec(small, codec).result(best.setting)
    assert (again.nbytes, again.description) == (best.nbytes, best.description)
    assert np.array_equal(again.rgb, best.rgb)
    for score in (None, lambda result: 0.0):
        assert classical.best(8, score) is None


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_downscaling_beats_full_size_at_few_bytes(portrait: np.ndarray, codec: str) -> None:
    classical = ClassicalCodec(portrait, codec)
    best, full = classical.best(1000), classical.at_full_size(1000)
    assert best is not None and best.setting.factor > 1
    assert full is not None and psnr(full.rgb, portrait) < psnr(best.rgb, portrait)


def test_the_highest_quality_that_fits_is_found(small: np.ndarray) -> None:
    """Against trying all 101 qualities."""
    image = Image.fromarray(small)

    def size(quality: int) -> int:
        stream = io.BytesIO()
        image.save(stream, "WEBP", quality=quality, method=6)
        return len(stream.getvalue())

    fitting = max(quality for quality in range(101) if size(quality) <= 1500)
    assert candidates(ClassicalCodec(small, "webp"), 1500)[0].setting.quality == fitting > 20


@pytest.mark.parametrize("wanted", [112, 40])
def test_few_scales_are_scored_and_the_best_of_a_smooth_course_is_found(small: np.ndarray, wanted: int) -> None:
    asked: list[float] = []

    def score(result: ClassicalResult) -> float:
        asked.append(128 / result.setting.factor)
        return abs(asked[-1] - wanted)

    best = ClassicalCodec(small, "jpeg").best(1500, score)
    assert best is not None and best.setting.factor == 128 / wanted
    everything = candidates(ClassicalCodec(small, "jpeg"), 1500)
    assert len(set(asked)) == len(asked) < len(everything) - 2
    assert min(everything, key=score).setting == best.setting


def test_a_lesser_minimum_among_the_scales_that_are_scored_first_does_not_hide_the_best(small: np.ndarray) -> None:
    """Sides 128, 96, 64 and 32 come first; the best, 88, is next to the second best of them."""
    scores = {128: 5, 96: 2, 88: 0, 80: 1, 64: 3, 32: 1.5}
    best = ClassicalCodec(small, "jpeg").best(4000, lambda result: scores.get(round(128 / result.setting.factor), 9))
    assert best is not None and best.setting.factor == 128 / 88


def test_avif_is_also_tried_with_chroma_at_full_size() -> None:
    """Stripes of two colours of equal luma disappear in 4:2:0."""
    rgb = np.tile(np.array([[[200, 60, 60], [40, 130, 60]]], np.uint8), (64, 32, 1))
    classical = ClassicalCodec(rgb, "avif")
    best, full = classical.best(1500), classical.at_full_size(1500)
    assert best is not None and best.setting.full_chroma
    assert best.description.startswith("AVIF 4:4:4, quality ")
    assert full is not None and not full.setting.full_chroma and psnr(full.rgb, rgb) < psnr(best.rgb, rgb) - 10


def test_files_are_encoded_once_for_all_budgets(small: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    saved, save = list[object](), baselines._save
    monkeypatch.setattr(baselines, "_save", lambda *given, **options: saved.append(given) or save(*given, **options))
    classical = ClassicalCodec(small, "webp")
    first = classical.best(700)
    count = len(saved)
    assert classical.best(700) is first and len(saved) == count
    classical.best(650)
    assert count < len(saved) < 1.6 * count


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 90, 3)])
def test_odd_and_tiny_sizes(shape: tuple[int, int, int]) -> None:
    rgb = np.full(shape, 128, np.uint8)
    best = ClassicalCodec(rgb, "webp").best(1000)
    assert best is not None and best.rgb.shape == shape
    assert psnr(best.rgb, rgb) > 40


@pytest.mark.parametrize("codec", ["png", "webp", "jpeg-xl"])
def test_lossless_files_hold_every_pixel(small: np.ndarray, codec: str) -> None:
    lr = np.ascontiguousarray(small[:16, :16])
    data = encode_lossless(lr, codec)  # type: ignore[arg-type]
    assert np.array_equal(np.asarray(baselines._decode(codec, data)), lr)
    assert 100 < len(data) < 1100


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, small: np.ndarray) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(EdgegrainError, match=r"edgegrain\[eval\]"):
        ClassicalCodec(small, "jpeg-xl")


def test_pictures_keep_their_aspect_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, save = [], baselines._save
    monkeypatch.setattr(baselines, "_save", lambda one, *more, **kw: sizes.append(one.size) or save(one, *more, **kw))
    rgb = np.zeros((96, 64, 3), np.uint8)
    for factor in baselines._factors(96, 16):
        assert ClassicalCodec(rgb, "webp").result(Setting("webp", factor, 0)).rgb.shape == rgb.shape
    assert sizes == [(64, 96), (53, 80), (43, 64), (32, 48), (21, 32), (11, 16)]


@pytest.mark.parametrize(("factor", "described"), [(1.0, "full size"), (256 / 96, "downscaled 2.67x")])
def test_settings_are_described_briefly(factor: float, described: str) -> None:
    assert Setting("webp", factor, 31).description == f"WebP, quality 31, {described}"
