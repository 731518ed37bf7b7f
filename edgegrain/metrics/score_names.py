"""Names, units and number formats of scores in tables, messages and plots."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgegrain.metrics.training_losses import marked

OTHER_PERSON = 0.6
"""Distance of dlib's descriptors from which on two faces count as those of different people (King, 2017)."""


@dataclass(frozen=True)
class ScoreName:
    """A score as it is shown.

    Attributes:
        name: in messages.
        format: of its values.
        unit: of its values; empty for none.
        higher_is_better: else lower is better.
    """

    name: str
    format: str = ".3f"
    unit: str = ""
    higher_is_better: bool = False

    @property
    def column_title(self) -> str:
        """The name with the unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

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
    """Titles of a table's columns.

    Args:
        scores: of the columns.
        losses: those that are marked, see `edgegrain.metrics.training_losses`.
        arrows: with an arrow up or down to better values.
    """
    titles = {score: marked(SCORE_NAMES[score].column_title, score, losses) for score in scores}
    return [f"{title} {'↑' if SCORE_NAMES[score].higher_is_better else '↓'}" if arrows else title
            for score, title in titles.items()]


def formatted(score: str, value: float) -> str:
    """A value of a score as text."""
    return format(value, SCORE_NAMES[score].format)


def photographs_in_words(scores: Mapping[str, Any]) -> str:
    """The scores of photographs (`edgegrain.evaluation.photographs`) in words, for the report and the model card."""
    text = (f"Photographs: of {scores['photographs']} photographs as people have them, a face was found in "
            f"{scores['photographs'] - scores['missed']} ({scores['missed']} missed); its payload has "
            f"{scores['bytes']:.0f} bytes on average, and the restored face an identity distance of "
            f"{scores['identity']:.3f} (dlib; {scores['above']:.0%} above {OTHER_PERSON}) and "
            f"{scores['identity_mobileface']:.3f} (MobileFace).")
    if scores["empty"]:
        text += f" In {scores['invented']} of {scores['empty']} pictures without faces one was found."
    return text
