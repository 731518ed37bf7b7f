"""Scores that are also training losses. They are optimistic, so they are marked and not used to compare bundles."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from codec_contract.bundle.manifest import Manifest
from edgegrain.metrics.kid import KIDS

MARK = "†"
"""After the title of a score that the bundle was trained on."""
NOTE = "† a training loss of this bundle, so the score is optimistic"
GRAIN_SCORES = frozenset({"lpips_alex", "identity"})
"""Scores that all recipes of GRAIN are trained on. Of other losses, its training records name only the one against
grids, for each stage that has it."""
VGG_SCORES = frozenset({"lpips_vgg", "dists", "lpips_eyes", "lpips_mouth", *KIDS})
"""Scores on features of VGG16, which the perceptual losses of the other families compare."""
GRIDS = frozenset({"grid_2", "grid_4", "grid_8", "grid_16"})
"""Peaks of the spectrum, which the loss ``grid`` flattens."""


def training_losses(codec: str, domain: str, training: Mapping[str, Any]) -> frozenset[str]:
    """The scores that a bundle was trained on.

    Args:
        codec: the manifest's: ``"grain"``, ``"irn"``...
        domain: the manifest's; the identity loss is for faces.
        training: the manifest's training record.
    """
    config, weights = training.get("config") or {}, _loss_weights(training)
    if codec == "grain":
        found = GRAIN_SCORES
    else:
        photographs = codec.startswith("irn")  # whose LPIPS is that of VGG16, as its perceptual loss
        scores = {"identity": "identity"} if photographs else {"identity": "identity", "lpips": "lpips_alex"}
        found = frozenset(score for loss, score in scores.items() if weights.get(loss))
        if config.get("perceptual") or weights.get("perceptual") or (photographs and weights.get("lpips")):
            found |= VGG_SCORES
    if weights.get("grid") or any(stage.get("grid") for stage in training.get("stages") or ()):
        found |= GRIDS
    return found if domain == "faces" else found - {"identity"}


def losses_at(manifest: Manifest, side: int) -> frozenset[str]:
    """The scores of pictures restored at a side that a bundle was trained on.

    Above the bundle's own side they include the losses of its enlarger, if it has one.
    """
    found = training_losses(manifest.codec, manifest.domain, manifest.training)
    if manifest.enlarger is None or side <= manifest.hr:
        return found
    weights = _loss_weights(manifest.enlarger.training)
    if weights.get("lpips"):
        found |= {"lpips_alex"}
    return found | GRIDS if weights.get("grid") else found


def marked(title: str, score: str, losses: Collection[str]) -> str:
    """The title of a score, with `MARK` if it is a training loss."""
    return title + MARK if score in losses else title


def _loss_weights(training: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights of the losses in a training record; ``losses`` in older ones of IRN and enlargers."""
    config = training.get("config") or {}
    return config.get("loss") or config.get("losses") or {}
