"""Fitting coder tables: what is written must be what was trained, and better than generic tables."""

from pathlib import Path

import numpy as np
import pytest
import torch

from codec_contract.errors import ImageError
from codec_contract.lr_coder.coder import decode_lr, encode_lr
from codec_contract.lr_coder.coder_tables import CoderTables, to_indices
from edgegrain.publishing import fit_coder
from edgegrain.training.grain.rate import code_length
from tests.unit.codec_contract.lr_coder.test_coder import predicted


def checkered_lrs(count, seed=0):
    """Ramps with a channel-opposed checkerboard and some noise: predictable, but not by generic tables."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:8, :8]
    board = ((x + y) % 2 * 2 - 1)[..., None] * np.array([30, -30, 30])
    ramps = (x[..., None] * rng.uniform(-9, 9, (count, 1, 1, 1)) + rng.uniform(80, 170, (count, 1, 1, 3))) + board
    return np.clip(ramps + rng.normal(0, 3, ramps.shape), 0, 255).astype(np.uint8)


HELD_OUT = checkered_lrs(20, seed=1)


def bytes_of(tables: CoderTables) -> float:
    """Mean size of an LR that the tables were not fitted to."""
    return float(np.mean([len(encode_lr(lr, tables)) for lr in HELD_OUT]))


def test_fitted_tables_need_fewer_bytes_than_the_default_and_those_of_a_step_even_fewer():
    fitted = fit_coder.fit_tables(checkered_lrs(200), widths=(8,), steps=150)
    assert bytes_of(fitted) < 0.85 * bytes_of(CoderTables.default())
    # Noise of standard deviation 3 alone has 3.6 bits a sample, of which 1.6 are left in steps of 3.
    assert 80 < bytes_of(fitted) < 130
    assert all(np.array_equal(decode_lr(encode_lr(lr, fitted), 8, 8, fitted), lr) for lr in HELD_OUT)
    coarse = fit_coder.fit_tables(checkered_lrs(200), widths=(8,), steps=150, level_step=3)
    assert coarse.step == 3
    assert bytes_of(fitted) - bytes_of(coarse) > 0.8 * 8 * 8 * 3 * np.log2(3) / 8


@pytest.mark.parametrize("step", [1, 24])
def test_the_integers_do_what_was_trained(step):
    lrs = [to_indices(lr, step) for lr in checkered_lrs(200)]
    context, reference, level = fit_coder._samples(lrs, 2)
    network = fit_coder.fit_network((context, reference, level), (8, 6), 120, step, seed=0)
    with torch.no_grad():
        prediction = network(context.float())
    means, scales = predicted(network.integers(), context.numpy().astype(np.int32), reference.numpy().astype(np.int32))
    expected_mean = np.clip(reference.numpy() + 16 * prediction[:, 0].numpy(), 0, 255)
    expected_scale = np.clip(8 * (prediction[:, 1].numpy() + 2), 0, 63)
    assert np.abs(np.array(means) / 16 - expected_mean).mean() < 0.1
    assert np.abs(np.array(scales) - expected_scale).mean() < 0.6  # half a step is rounding


def test_coarse_steps_are_learnt():
    """At this step levels are four indices around the middle."""
    tables = fit_coder.fit_tables(checkered_lrs(200), widths=(16,), steps=300, level_step=40)
    _, counts = np.unique(to_indices(HELD_OUT, 40), return_counts=True)
    share = counts / counts.sum()
    independent = -(share * np.log2(share)).sum() * 8 * 8 * 3 / 8  # bytes of an LR whose samples say nothing of others
    assert bytes_of(tables) < 0.5 * independent


def test_integers_lose_little_at_steps():
    """Indices of a step are small numbers with large weights, next to which other weights must not round to zero."""
    lrs = [to_indices(lr, 7) for lr in checkered_lrs(300)]
    context, reference, level = fit_coder._samples(lrs, 1)
    network = fit_coder.fit_network((context, reference, level), (32, 32), 400, seed=0)
    with torch.no_grad():
        bits = code_length(network(context.float()), reference.float(), level.float()).mean().item()
    assert bits < 1.7  # 1.4; 2.8 if the output layer takes the context as well


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_sizes_may_be_mixed_and_weights_are_rounded_also_in_few_steps(steps: int) -> None:
    lrs = [*checkered_lrs(20), *np.random.default_rng(0).integers(0, 256, (3, 5, 9, 3), dtype=np.uint8)]
    tables = fit_coder.fit_tables(lrs, widths=(4,), steps=steps)
    for lr in (lrs[0], lrs[-1]):
        assert np.array_equal(decode_lr(encode_lr(lr, tables), lr.shape[1], lr.shape[0], tables), lr)


def test_steps_follow_from_the_data() -> None:
    few, many = fit_coder.steps_for(160 * 256), fit_coder.steps_for(20_000 * 256)
    assert fit_coder.steps_for(1) == fit_coder.LEAST_STEPS <= few < fit_coder.STEPS / 4 and many == fit_coder.STEPS


def test_an_interrupted_fit_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lrs, kept, fit, parts = checkered_lrs(20), tmp_path / "fit.json", fit_coder.fit_network, []
    whole = fit_coder.fit_tables(lrs, widths=(4,), steps=10, report=lambda part, line: parts.append(part))
    assert parts == sorted(parts) and parts[-1] == 1.0

    def fit_two(*given: object, seed: int, **named: object) -> object:
        if seed == 2:
            raise KeyboardInterrupt
        return fit(*given, seed=seed, **named)

    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupted.setattr(fit_coder, "fit_network", fit_two)
        fit_coder.fit_tables(lrs, widths=(4,), steps=10, kept=kept)
    seeds = []
    monkeypatch.setattr(
        fit_coder, "fit_network", lambda *given, seed, **named: seeds.append(seed) or fit(*given, seed=seed, **named)
    )
    for _ in range(2):
        again = fit_coder.fit_tables(lrs, widths=(4,), steps=10, kept=kept)
        assert again.to_json() == whole.to_json() and seeds == [2]
    fit_coder.fit_tables(lrs[:-1], widths=(4,), steps=10, kept=kept)  # other LRs
    assert seeds == [2, 0, 1, 2]


def test_of_many_lrs_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    lrs = list(checkered_lrs(40))
    whole = fit_coder.fit_tables(lrs, widths=(4,), steps=10)
    monkeypatch.setattr(fit_coder, "SAMPLES", 40 * 8 * 8)
    assert fit_coder.fit_tables(lrs, widths=(4,), steps=10).to_json() == whole.to_json()
    monkeypatch.setattr(fit_coder, "SAMPLES", 10 * 8 * 8 + 5)
    drawn = fit_coder._some(lrs)
    assert len(drawn) == 10
    assert {lr.tobytes() for lr in drawn} < {lr.tobytes() for lr in lrs}
    assert not any(np.array_equal(a, b) for a, b in zip(drawn, lrs, strict=False))
    monkeypatch.setattr(fit_coder, "SAMPLES", 5)
    assert len(fit_coder._some(lrs)) == 1


def test_the_report_codes_every_tenth_lr():
    lrs = list(checkered_lrs(60))
    report = fit_coder.fit_and_report(lrs, (4,), steps=20, held_out=5)
    assert (report.fitted_to, report.held_out) == (54, 5)
    assert report.coded == np.mean([len(encode_lr(lr, report.tables)) for lr in lrs[::10][:5]])
    tables = fit_coder.fit_tables([lr for i, lr in enumerate(lrs) if i % 10], widths=(4,), steps=20)
    assert report.tables.to_json() == tables.to_json()
    assert list(report.lossless) == ["optimised PNG", "lossless WebP"]
    coarse = fit_coder.fit_and_report(lrs, (4,), steps=20, held_out=5, level_step=4)
    assert coarse.tables.step == 4
    assert coarse.coded < report.coded and coarse.lossless["lossless WebP"] < report.lossless["lossless WebP"]


def test_a_file_that_holds_no_lrs_or_too_few_is_refused(tmp_path):
    for array in (np.zeros((4, 16, 16, 3)), np.zeros((0, 16, 16, 3), np.uint8)):
        np.save(tmp_path / "wrong.npy", array)
        with pytest.raises(ImageError, match=r"must hold LRs, uint8 \[N, h, w, 3\]"):
            fit_coder.load_lrs(tmp_path / "wrong.npy")
    for content in (b"no array", b""):
        (tmp_path / "wrong.npy").write_bytes(content)
        with pytest.raises(ImageError, match="is not a .npy file"):
            fit_coder.load_lrs(tmp_path / "wrong.npy")
    with pytest.raises(ImageError, match="got 1; give at least 2"):
        fit_coder.fit_and_report([np.zeros((16, 16, 3), np.uint8)], (4,), steps=1, held_out=1)
