"""Training losses follow from the family, the domain and the training record, and are marked in titles."""

from typing import Any

import pytest

from edgegrain.metrics.training_losses import marked, training_losses

SEE_VGG = {"lpips_vgg", "dists", "kid", "kid_crops", "lpips_eyes", "lpips_mouth", "kid_eyes", "kid_mouth"}


@pytest.mark.parametrize(("codec", "domain", "training", "losses"), [
    ("grain", "faces", {"pictures_seen": 5}, {"lpips_alex", "identity"}),
    ("grain", "cats", {}, {"lpips_alex"}),
    ("grain", "cats", {"config": {"loss": {"grid": 2.0}}}, {"lpips_alex", "grid_2", "grid_4", "grid_8", "grid_16"}),
    ("glean", "faces", {"config": {"loss": {"lpips": 0.35, "identity": 0.0}, "perceptual": 0.0}}, {"lpips_alex"}),
    ("gcfsr", "faces", {"config": {"loss": {"l1": 1.0}, "perceptual": 0.01}}, SEE_VGG),
    ("irn", "photos", {"config": {"losses": {"guide": 16.0, "perceptual": 0.0}}}, set()),
    ("irn_plus", "photos", {"config": {"losses": {"perceptual": 0.01}}}, SEE_VGG),
    ("irn_plus", "photos", {"config": {"losses": {"perceptual": 0.0, "lpips": 300.0}}}, SEE_VGG),
    ("irn", "photos", {}, set()),
])
def test_losses(codec: str, domain: str, training: dict[str, Any], losses: set[str]) -> None:
    assert training_losses(codec, domain, training) == losses


def test_titles_of_losses_are_marked_before_their_arrow() -> None:
    assert marked("LPIPS-Alex ↓", "lpips_alex", {"lpips_alex"}) == "LPIPS-Alex† ↓"
    assert marked("DISTS", "dists", {"dists"}) == "DISTS†" and marked("DISTS ↓", "dists", {"kid"}) == "DISTS ↓"
