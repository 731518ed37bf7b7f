"""Every score has a name, and titles show unit, mark and direction."""

from pathlib import Path
from typing import Any

import pytest

from codec_contract.bundle.manifest import load_manifest
from edgegrain.evaluation.results import SCORES
from edgegrain.metrics import score_names
from edgegrain.metrics.kid import KIDS
from edgegrain.metrics.score_names import DETAILS, GRIDS, MEANS, SCORE_NAMES, column_titles, losses_at, training_losses
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle


def test_every_score_has_a_name_and_a_table() -> None:
    assert set(SCORE_NAMES) == {"bytes", *SCORES, *KIDS} == {"bytes", *MEANS, *DETAILS}
    assert len({score.name for score in SCORE_NAMES.values()}) == len(SCORE_NAMES)


def test_titles_and_values() -> None:
    assert column_titles(("psnr", "kid_eyes"), {"psnr"}) == ["PSNR (dB)†", "KID, eyes"]
    assert column_titles(("psnr", "identity"), {"identity"}, arrows=True) == ["PSNR (dB) ↑", "identity (dlib)† ↓"]
    titles = [SCORE_NAMES[score].plot_title for score in ("ssim", "identity")]
    assert titles == ["SSIM: higher is better", "Identity (dlib): lower is better"]
    values = [score_names.formatted(score, 1.23456) for score in ("bytes", "psnr", "ssim", "grid_2")]
    assert values == ["1", "1.23", "1.235", "1.2"]


SEE_VGG = {"lpips_vgg", "dists", "kid", "kid_crops", "lpips_eyes", "lpips_mouth", "kid_eyes", "kid_mouth"}


@pytest.mark.parametrize(
    ("codec", "domain", "training", "losses"),
    [
        ("grain", "faces", {"pictures_seen": 5}, {"lpips_alex", "identity"}),
        ("grain", "cats", {}, {"lpips_alex"}),
        ("grain", "cats", {"config": {"loss": {"grid": 2.0}}}, {"lpips_alex", "grid_2", "grid_4", "grid_8", "grid_16"}),
        ("grain", "cats", {"stages": [{"stage": "2", "grid": 2.0}, {"stage": "3"}]}, {"lpips_alex", *GRIDS}),
        ("glean", "faces", {"config": {"loss": {"lpips": 0.35, "identity": 0.0}, "perceptual": 0.0}}, {"lpips_alex"}),
        ("gcfsr", "faces", {"config": {"loss": {"l1": 1.0}, "perceptual": 0.01}}, SEE_VGG),
        ("irn", "photos", {"config": {"losses": {"guide": 16.0, "perceptual": 0.0}}}, set()),
        ("irn_plus", "photos", {"config": {"losses": {"perceptual": 0.01}}}, SEE_VGG),
        ("irn_plus", "photos", {"config": {"loss": {"perceptual": 0.0, "lpips": 300.0}}}, SEE_VGG),
        ("irn", "photos", {}, set()),
    ],
)
def test_losses(codec: str, domain: str, training: dict[str, Any], losses: set[str]) -> None:
    assert training_losses(codec, domain, training) == losses


def test_losses_of_the_enlarger_count_where_it_takes_part(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, doublings=1)
    files = list(load_manifest(folder).enlarger.files)  # type: ignore[union-attr]
    for config, found in (
        ({"loss": {"grid": 10.0}}, GRIDS),
        ({"losses": {"grid": 10.0}}, GRIDS),
        ({"loss": {"grid": 0.0, "lpips": 1.0}}, {"lpips_alex"}),
        ({}, set()),
    ):
        training = {"config": config} if config else {}
        refresh_manifest(folder, codec="glean", enlarger={"files": files, "training": training})
        assert losses_at(load_manifest(folder), 65) == found and losses_at(load_manifest(folder), 64) == set()
    alone = load_manifest(write_tiny_bundle(tmp_path, "alone"))
    assert losses_at(alone, 128) == losses_at(alone, 64) == {"lpips_alex"}
