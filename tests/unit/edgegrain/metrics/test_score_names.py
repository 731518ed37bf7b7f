"""Every score has a name, and titles show unit, mark and direction."""

from __future__ import annotations

from edgegrain.evaluation.results import SCORES
from edgegrain.metrics.kid import KIDS
from edgegrain.metrics.score_names import DETAILS, MEANS, SCORE_NAMES, column_titles, formatted


def test_every_score_has_a_name_and_a_table() -> None:
    assert set(SCORE_NAMES) == {"bytes", *SCORES, *KIDS} == {"bytes", *MEANS, *DETAILS}
    assert len({score.name for score in SCORE_NAMES.values()}) == len(SCORE_NAMES)


def test_titles_and_values() -> None:
    assert column_titles(("psnr", "kid_eyes"), {"psnr"}) == ["PSNR (dB)†", "KID, eyes"]
    assert column_titles(("psnr", "identity"), {"identity"}, arrows=True) == ["PSNR (dB) ↑", "identity (dlib)† ↓"]
    assert [SCORE_NAMES[score].plot_title for score in ("ssim", "identity")] == [
        "SSIM: higher is better", "Identity (dlib): lower is better"]
    assert [formatted(score, 1.23456) for score in ("bytes", "psnr", "ssim", "grid_2")] == ["1", "1.23", "1.235", "1.2"]
