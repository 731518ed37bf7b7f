"""The judge gives what the single metrics give."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgegrain.contract.errors import EdgegrainError
from edgegrain.evaluation.identity import FaceIdentity
from edgegrain.evaluation.judge import Judge, unit_batch
from edgegrain.evaluation.lpips import LPIPS
from edgegrain.evaluation.metrics import psnr, ssim


def test_scores_are_the_single_metrics(shared_weights: Path, portrait: np.ndarray) -> None:
    darker = (portrait // 2 + 30).astype(np.uint8)
    judge = Judge(shared_weights)
    scores = judge.scores(darker, portrait)
    x, target = unit_batch(darker), unit_batch(portrait)
    with torch.no_grad():
        expected = [float(metric) for metric in (
            LPIPS(shared_weights, "alex")(x, target), LPIPS(shared_weights, "vgg")(x, target),
            FaceIdentity(shared_weights).distance(x, target))]
    assert (scores.psnr, scores.ssim) == (psnr(darker, portrait), ssim(darker, portrait))
    assert [scores.lpips_alex, scores.lpips_vgg, scores.identity] == pytest.approx(expected, rel=1e-5)
    assert judge.lpips_alex(darker, portrait) == pytest.approx(scores.lpips_alex, rel=1e-6)
    assert 0 < scores.identity < 0.6


def test_a_unit_batch_spans_minus_one_to_one() -> None:
    batch = unit_batch(np.array([[[0, 255, 51]]], np.uint8))
    assert batch.shape == (1, 3, 1, 1)
    assert batch.flatten().tolist() == pytest.approx([-1, 1, -0.6])


def test_absent_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(EdgegrainError, match="--weights"):
        Judge(tmp_path)
