"""Scores in tables, messages and plots: names, units, number formats, and marks of those that are training losses.

Those are optimistic, and are not used to compare bundles.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from codec_contract.bundle.manifest import Manifest
from edgegrain.metrics.kid import KIDS

OTHER_PERSON = 0.6
"""Distance of dlib's descriptors from which on two faces count as those of different people (King, 2017)."""
MARK = "†"  # after the title of a score that the bundle was trained on
NOTE = "† a training loss of this bundle, so the score is optimistic"
GRAIN_SCORES = frozenset({"lpips_alex", "identity"})
"""Scores that all recipes of GRAIN are trained on. Of other losses, its training records name only the one against
grids, for each stage that has it."""
VGG_SCORES = frozenset({"lpips_vgg", "dists", "lpips_eyes", "lpips_mouth", *KIDS})
"""Scores on features of VGG16, which the perceptual losses of the other families compare."""
GRIDS = frozenset({"grid_2", "grid_4", "grid_8", "grid_16"})  # peaks of the spectrum, which the loss ``grid`` flattens


@dataclass(frozen=True)
class ScoreName:
    """A score as it is shown: its name in messages, and format and unit of its values."""

    name: str
    format: str = ".3f"
    unit: str = ""
    higher_is_better: bool = False

    @property
    def plot_title(self) -> str:
        """The name with the direction of better values."""
        return f"{self.name[0].upper()}{self.name[1:]}: {'higher' if self.higher_is_better else 'lower'} is better"


SCORE_NAMES = {
    "bytes": ScoreName("bytes", ".0f"),
    "psnr": ScoreName("PSNR", ".2f", "dB", higher_is_better=True),
    "ssim": ScoreName("SSIM", higher_is_better=True),
    "lpips_alex": ScoreName("LPIPS-Alex"),
    "identity": ScoreName("identity (dlib)"),
    "lpips_vgg": ScoreName("LPIPS-VGG"),
    "dists": ScoreName("DISTS"),
    "identity_mobileface": ScoreName("identity (MobileFace)"),
    "kid": ScoreName("KID"),
    "lpips_eyes": ScoreName("LPIPS-VGG, eyes"),
    "lpips_mouth": ScoreName("LPIPS-VGG, mouth"),
    "kid_eyes": ScoreName("KID, eyes"),
    "kid_mouth": ScoreName("KID, mouth"),
    "kid_crops": ScoreName("KID, crops"),
    "chroma_eyes": ScoreName("colour error, eyes", ".2f"),
    "chroma_mouth": ScoreName("colour error, mouth", ".2f"),
    "grid_2": ScoreName("grid of 2", ".1f", "dB"),
    "grid_4": ScoreName("grid of 4", ".1f", "dB"),
    "grid_8": ScoreName("grid of 8", ".1f", "dB"),
    "grid_16": ScoreName("grid of 16", ".1f", "dB"),
}
"""Score -> its name; ``bytes`` are a payload's."""
MEANS = ("psnr", "ssim", "lpips_alex", "identity", "lpips_vgg", "dists", "identity_mobileface", "kid")
"""Scores of whole pictures, in the order of tables."""
DETAILS = tuple(score for score in SCORE_NAMES if score not in ("bytes", *MEANS))
"""Scores of eyes, mouth and crops, and of grids."""


def column_titles(scores: Iterable[str], losses: Collection[str] = (), *, arrows: bool = False) -> list[str]:
    """Titles of a table's columns; ``losses`` are marked, and arrows point up or down to better values."""
    named = [(score, SCORE_NAMES[score]) for score in scores]
    return [
        marked(name.name + f" ({name.unit})" * bool(name.unit), score, losses)
        + f" {'↑' if name.higher_is_better else '↓'}" * arrows
        for score, name in named
    ]


def formatted(score: str, value: float) -> str:
    """A value of a score as text."""
    return format(value, SCORE_NAMES[score].format)


def photographs_in_words(scores: Mapping[str, Any]) -> str:
    """The scores of photographs (`edgegrain.evaluation.evaluator`) in words, for the report and the model card."""
    text = (
        f"Photographs: of {scores['photographs']} photographs as people have them, a face was found in "
        f"{scores['photographs'] - scores['missed']} ({scores['missed']} missed); its payload has "
        f"{scores['bytes']:.0f} bytes on average, and the restored face an identity distance of "
        f"{scores['identity']:.3f} (dlib; {scores['above']:.0%} above {OTHER_PERSON}) and "
        f"{scores['identity_mobileface']:.3f} (MobileFace)."
    )
    if scores["empty"]:
        text += f" In {scores['invented']} of {scores['empty']} pictures without faces one was found."
    return text


def training_losses(codec: str, domain: str, training: Mapping[str, Any]) -> frozenset[str]:
    """The scores that a bundle was trained on, by its manifest's codec, domain and training record."""
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
    """The scores that a bundle was trained on of pictures restored at a side, maybe by its enlarger."""
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
