"""Model card of a GRAIN bundle: training data, licences, limits and measured scores.

`enter_evaluation` (``edgegrain publish card``) writes the result of ``edgegrain evaluate`` into a bundle's manifest and
card.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import BundleError
from edgegrain.metrics.score_names import (
    DETAILS,
    MEANS,
    NOTE,
    column_titles,
    formatted,
    marked,
    photographs_in_words,
    training_losses,
)
from edgegrain.training.grain.recipes import FACES
from export.bundle.card import CAVEAT, bundle_card
from export.bundle.writer import update_card

CODEC = "grain"
COLUMNS = ("bytes", *MEANS)
"""Scores of a card's first table."""
_FIELDS = {"bundle": ("id",), "pictures": ("folder", "count"), "means": (), "versions": ()}
"""Objects of a summary of ``edgegrain evaluate``, and what they must hold."""

_FACES_CAVEAT = (
    "The set is mostly young and well-lit: FFHQ and CelebA-HQ under-represent dark skin, old age, head coverings and "
    "glasses, and the decoder fills in what it saw most. A restored face is a plausible picture, not evidence of who "
    "somebody is.")
_STAGES = {"1": "stage 1 (encoder and decoder)", "2": "stage 2 (codes of the generator)", "3": "stage 3 (fusion)",
           "final": "the final stage (all together, the generator frozen)"}


def card_text(bundle_id: str, training: Mapping[str, Any], evaluation: Mapping[str, Any],
              licence: Mapping[str, str], *, domain: str = FACES, sizes: tuple[int, int] = (256, 16)) -> str:
    """The card as Markdown.

    Args:
        bundle_id: id of the bundle.
        training: training record, as in the manifest.
        evaluation: result of `collect`; empty for a bundle that is not evaluated yet.
        licence: as in the manifest.
        domain: subject of the pictures.
        sizes: sides of the picture and of the LR.
    """
    hr, lr = sizes
    shown = "A picture of a face" if domain == FACES else f"A picture ({domain})"
    data = ", ".join(f"{count} {name}" for name, count in training["data"].items())
    return bundle_card(
        bundle_id, f"{shown}, {hr} x {hr}, as a viewable LR of {lr} x {lr} and back.", training, licence,
        record=f"{_stages(training)}, drawn from {training['pictures_in_set']:,} ({data}; by prefix of the file name).",
        caveat=_FACES_CAVEAT if domain == FACES else CAVEAT,
        evaluation=_scores(evaluation, domain, training_losses(CODEC, domain, training)) if evaluation
        else ["Not evaluated yet."])


def score_table(evaluation: Mapping[str, Any], losses: Collection[str], columns: Sequence[str] = COLUMNS
                ) -> list[str]:
    """Lines of a Markdown table with a row per method and a column per measured score.

    Args:
        evaluation: result of `collect`.
        losses: scores that are marked, see `edgegrain.metrics.score_names`.
        columns: of the table, if they were measured.
    """
    methods = evaluation["methods"]
    columns = measured_columns(methods.values(), columns)
    lines = ["| method | " + " | ".join(column_titles(columns, losses)) + " |", "|---" + "|---:" * len(columns) + "|"]
    for name, scores in methods.items():
        lines.append(f"| {name} | " + " | ".join(score_cells(scores, columns)) + " |")
    return lines


def measured_columns(methods: Collection[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> list[str]:
    """Those of the columns that at least one method has a score for."""
    return [column for column in columns if any(scores.get(column) is not None for scores in methods)]


def score_cells(scores: Mapping[str, Any], columns: Sequence[str], losses: Collection[str] = ()) -> list[str]:
    """A method's scores as text with half the width of their intervals, a dash for each that was not measured.

    Scores in ``losses`` are marked.
    """
    return [marked(_cell(scores, key), key, losses) for key in columns]


def collect(bundle_id: str, own: Mapping[str, Any], controls: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest's ``evaluation``, made from the summaries that ``edgegrain evaluate`` writes.

    Of the classical codecs it keeps the best over all codecs; the summary lists each of them.

    Args:
        bundle_id: id of the bundle.
        own: its summary.
        controls: summaries of the controls of [GRAIN] Table 2, by the name of their row.
    """
    if own["bundle"]["id"] != bundle_id:
        raise BundleError(f"the evaluation is of {own['bundle']['id']}, not of {bundle_id}")
    methods = {"this bundle" if name == bundle_id else name: scores for name, scores in own["means"].items()
               if name == bundle_id or name.startswith("classical")}
    for name, control in controls.items():
        if control["pictures"] != own["pictures"]:
            raise BundleError(f"the {name} was evaluated on other pictures; evaluate both on the same folder")
        methods[name] = control["means"][control["bundle"]["id"]]
    optional = {key: own[key] for key in ("lr_bytes", "lr_saturation", "kid_features", "photographs") if key in own}
    return {"pictures": own["pictures"], "methods": methods, **optional, "versions": own["versions"]}


def enter_evaluation(folder: Path, evaluation: Path, controls: Mapping[str, Path]) -> str:
    """Enter an evaluation into a bundle's manifest and model card, and return the card.

    Args:
        folder: of the bundle.
        evaluation: JSON summary that ``edgegrain evaluate`` wrote.
        controls: summaries of the controls, by the name of their row.
    """
    manifest = load_manifest(folder)
    if missing := sorted({"data", "pictures_seen", "pictures_in_set"} - manifest.training.keys()):
        raise BundleError(f"the training record of bundle {manifest.id} lacks {', '.join(missing)}; a card is made for "
                          "bundles that edgegrain publish run wrote")
    own, others = _summary(evaluation), {name: _summary(path) for name, path in controls.items()}
    collected = collect(manifest.id, own, others)
    _refuse_other_figures(manifest, own, others)
    card = card_text(manifest.id, manifest.training, collected, manifest.licence, domain=manifest.domain,
                     sizes=(manifest.hr, manifest.lr))
    update_card(manifest.folder, evaluation=collected, card=card)
    return card


def _scores(evaluation: Mapping[str, Any], domain: str, losses: Collection[str]) -> list[str]:
    """Lines of the section on measured scores."""
    lines = [
        f"Mean over the {evaluation['pictures']['count']} unseen {domain} of {evaluation['pictures']['folder']}, each "
        "through the published files. Classical codecs may use at most the payload's bytes and choose their own "
        "downscaling.",
        "",
        *score_table(evaluation, losses),
        "",
        *_detail_table(evaluation, losses),
        f"{NOTE}. ±: 95 % bootstrap interval over pictures. Higher is better for PSNR and SSIM, else lower.",
        "",
        *(["Identity is the distance of face descriptors: Euclidean for dlib (below 0.6: the same person to dlib), one "
           "minus the cosine for MobileFace (different people have about 0.9).", ""] if domain == FACES else []),
    ]
    if photographs := evaluation.get("photographs"):
        lines += [photographs_in_words(photographs), ""]
    if lr_bytes := evaluation.get("lr_bytes"):
        lines += [f"The payload holds the LR in {lr_bytes['payload']:.0f} bytes on average, headers included; the same "
                  f"LR is {lr_bytes['png']:.0f} bytes as optimised PNG, {lr_bytes['webp']:.0f} as lossless WebP, "
                  f"{lr_bytes['jpeg-xl']:.0f} as lossless JPEG XL.", ""]
    if evaluation.get("lr_saturation"):
        lines += [f"The LR's colours have {evaluation['lr_saturation']:.2f} times the mean saturation of the plain "
                  "area mean.", ""]
    if "kid_features" in evaluation:
        lines += [f"KID is the kernel distance of {evaluation['kid_features']}.", ""]
    return lines


def _stages(training: Mapping[str, Any]) -> str:
    stages = training.get("stages") or [{"stage": "1", "pictures": training["pictures_seen"]}]
    seen: dict[str, int] = {}
    for stage in stages:
        seen[str(stage["stage"])] = seen.get(str(stage["stage"]), 0) + stage["pictures"]
    parts = [f"{pictures:,} pictures seen in {_STAGES[stage]}" for stage, pictures in seen.items()]
    loop = ", with the exact encoder's quantization in the loop" if training.get("learned_correction", True) else ""
    return f"Trained as GRAIN (section 3.5){loop}: " + "; ".join(parts)


def _detail_table(evaluation: Mapping[str, Any], losses: Collection[str]) -> list[str]:
    """Lines of the second table; none if nothing in it was measured."""
    if not measured_columns(evaluation["methods"].values(), DETAILS):
        return []
    return ["Eyes and mouth are fixed boxes of aligned faces; the colour error is a distance in CIELAB's a* and b*. "
            "Grid of k: by how many dB the spectrum's peaks of period k pixels are higher than the original's.", "",
            *score_table(evaluation, losses, DETAILS), ""]


def _cell(scores: Mapping[str, Any], key: str) -> str:
    if scores.get(key) is None:
        return "–"
    low, high = scores.get(f"{key}_low"), scores.get(f"{key}_high")
    half_width = "" if low is None or high is None else f" ±{formatted(key, (high - low) / 2)}"
    return formatted(key, scores[key]) + half_width


def _refuse_other_figures(manifest: Manifest, own: Mapping[str, Any], controls: Mapping[str, Mapping[str, Any]]
                          ) -> None:
    """Raise `BundleError` for figures of another version, encoder or size.

    Summaries without a size, of earlier releases, were measured at the bundle's.
    """
    for field, expected in (("version", manifest.version), ("lr_contract_id", manifest.lr_contract_id.hex())):
        if (found := own["bundle"].get(field, expected)) != expected:
            raise BundleError(f"the evaluation is of {manifest.id} with {field} {found}, but the bundle has "
                              f"{expected}; evaluate it again: edgegrain evaluate --bundle {manifest.folder}")
    for name, summary in {"evaluation": own, **controls}.items():
        if (size := summary.get("size", manifest.hr)) != manifest.hr:
            raise BundleError(f"the {name} was measured at {size} pixels, but the card states figures at "
                              f"{manifest.hr}; evaluate again without --size")


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_bytes())
    except ValueError as error:
        raise BundleError(f"{path} is not a summary of edgegrain evaluate ({error})") from error
    if lacking := _lacking(summary):
        raise BundleError(f"{path} is not a summary of edgegrain evaluate: it lacks {', '.join(lacking)}; pass the "
                          "JSON file that the command wrote")
    return dict(summary)


def _lacking(summary: Any) -> list[str]:
    """Fields that a card is made from and that JSON data does not have."""
    fields = summary if isinstance(summary, dict) else {}
    lacking = [name for name in _FIELDS if not isinstance(fields.get(name), dict)]
    lacking += [f"{name}.{part}" for name, parts in _FIELDS.items() if name not in lacking
                for part in parts if part not in fields[name]]
    if not lacking and not isinstance(fields["means"].get(str(fields["bundle"]["id"])), dict):
        lacking.append(f"the means of {fields['bundle']['id']}")
    return lacking
