"""Model card of a GRAIN bundle, and the result of ``edgegrain evaluate`` in it and in the manifest
(``edgegrain publish card``)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import BundleError
from edgegrain.metrics import score_names
from edgegrain.metrics.score_names import MEANS, NOTE, column_titles, formatted
from edgegrain.training.grain.recipes import FACES
from export.bundle.writer import CAVEAT, bundle_card, read_record, update_card

CODEC = "grain"
_FACES_CAVEAT = (
    "The set is mostly young and well-lit: FFHQ and CelebA-HQ under-represent dark skin, old age, head coverings and "
    "glasses, and the decoder fills in what it saw most. A restored face is a plausible picture, not evidence of who "
    "somebody is."
)
_GROUP_COLUMNS = {"lightness": "skin L*", "red": "skin a*", "yellow": "skin b*", "identity": "identity (MobileFace)"}
_GROUP_COLUMNS |= {"years": "age (years)", "years_off": "age, absolute", "flips": "other gender"}
_GROUP_FORMATS = {"identity": ".3f", "years_off": ".1f", "flips": ".0%"}
_STAGES = {
    "1": "stage 1 (encoder and decoder)",
    "2": "stage 2 (codes of the generator)",
    "3": "stage 3 (fusion)",
    "final": "the final stage (all together, the generator frozen)",
}


def card_text(record: Mapping[str, Any]) -> str:
    """The card of a manifest, Markdown; its ``evaluation`` is the result of `collect`, or empty."""
    training, domain, evaluation = record["training"], record["domain"], record["evaluation"]
    hr, lr = record["hr"], record["lr"]
    shown = "A picture of a face" if domain == FACES else f"A picture ({domain})"
    data = ", ".join(f"{count} {name}" for name, count in training["data"].items())
    return bundle_card(
        record,
        f"{shown}, {hr} x {hr}, as a viewable LR of {lr} x {lr} and back.",
        record=f"{_stages(training)}, drawn from {training['pictures_in_set']:,} ({data}; by prefix of the file name).",
        caveat=_FACES_CAVEAT if domain == FACES else CAVEAT,
        evaluation=_scores(evaluation, domain, score_names.training_losses(CODEC, domain, training))
        if evaluation
        else ["Not evaluated yet."],
    )


def _stages(training: Mapping[str, Any]) -> str:
    stages = training.get("stages") or [{"stage": "1", "pictures": training["pictures_seen"]}]
    seen: dict[str, int] = {}
    for stage in stages:
        seen[str(stage["stage"])] = seen.get(str(stage["stage"]), 0) + stage["pictures"]
    parts = [f"{pictures:,} pictures seen in {_STAGES[stage]}" for stage, pictures in seen.items()]
    loop = ", with the exact encoder's quantization in the loop" if training.get("learned_correction", True) else ""
    return f"Trained as GRAIN (section 3.5){loop}: " + "; ".join(parts)


def _scores(evaluation: Mapping[str, Any], domain: str, losses: Collection[str]) -> list[str]:
    """Lines of the section on measured scores."""
    pictures, details = evaluation["pictures"], _table(evaluation, losses, score_names.DETAILS)
    text = (
        f"Mean over the {pictures['count']} unseen {domain} of {pictures['folder']}, each through the published files. "
        "Classical codecs may use at most the payload's bytes and choose their own downscaling."
    )
    lines = [text, "", *_table(evaluation, losses, ("bytes", *MEANS)), ""]
    if details:
        text = (
            "Eyes and mouth are fixed boxes of aligned faces; the colour error is a distance in CIELAB's a* and b*. "
            "Grid of k: by how many dB the spectrum's peaks of period k pixels are higher than the original's."
        )
        lines += [text, "", *details, ""]
    paragraphs = [f"{NOTE}. ±: 95 % bootstrap interval over pictures. Higher is better for PSNR and SSIM, else lower."]
    if domain == FACES:
        paragraphs.append(
            "Identity is the distance of face descriptors: Euclidean for dlib (below 0.6: the same "
            "person to dlib), one minus the cosine for MobileFace (different people have about 0.9)."
        )
    if photographs := evaluation.get("photographs"):
        paragraphs.append(score_names.photographs_in_words(photographs))
    if groups := evaluation.get("groups"):
        paragraphs += _groups(groups)
    if lr_bytes := evaluation.get("lr_bytes"):
        paragraphs.append(
            f"The payload holds the LR in {lr_bytes['payload']:.0f} bytes on average, headers included; "
            f"the same LR is {lr_bytes['png']:.0f} bytes as optimised PNG, {lr_bytes['webp']:.0f} as "
            f"lossless WebP, {lr_bytes['jpeg-xl']:.0f} as lossless JPEG XL."
        )
    if saturation := evaluation.get("lr_saturation"):
        paragraphs.append(f"The LR's colours have {saturation:.2f} times the mean saturation of the plain area mean.")
    if "kid_features" in evaluation:
        paragraphs.append(f"KID is the kernel distance of {evaluation['kid_features']}.")
    return [*lines, "\n\n".join(paragraphs)]


def _groups(groups: Mapping[str, Any]) -> list[str]:
    """Paragraphs on the scores of groups of people; with their remarks, and a row per group."""
    rows = {}
    for name, row in groups["rows"].items():
        formats = {key: _GROUP_FORMATS.get(key, "+.1f") for key in _GROUP_COLUMNS}
        cells = ["–" if row.get(key) is None else format(row[key], kind) for key, kind in formats.items()]
        rows[name] = [str(row["pictures"]), *cells]
    lines = _markdown("group", ["pictures", *_GROUP_COLUMNS.values()], rows)
    return ["Who comes back: mean errors by groups of people. " + groups["remark"], "\n".join(lines)]


def _table(evaluation: Mapping[str, Any], losses: Collection[str], columns: Sequence[str]) -> list[str]:
    """Lines of a Markdown table with a row per method and a column per measured score; none if nothing was measured."""
    methods = evaluation["methods"]
    columns = [column for column in columns if any(scores.get(column) is not None for scores in methods.values())]
    if not columns:
        return []
    rows = {name: [_cell(scores, key) for key in columns] for name, scores in methods.items()}
    return _markdown("method", column_titles(columns, losses), rows)


def _markdown(first: str, titles: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines of a table, name of a row -> cells."""
    lines = [f"| {first} | {' | '.join(titles)} |", "|---" + "|---:" * len(titles) + "|"]
    return [*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())]


def _cell(scores: Mapping[str, Any], key: str) -> str:
    if scores.get(key) is None:
        return "–"
    low, high = scores.get(f"{key}_low"), scores.get(f"{key}_high")
    half_width = "" if low is None or high is None else f" ±{formatted(key, (high - low) / 2)}"
    return formatted(key, scores[key]) + half_width


def collect(bundle_id: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's ``evaluation``, made from the bundle's summary, with the best over all classical codecs only."""
    if own["bundle"]["id"] != bundle_id:
        raise BundleError(f"the evaluation is of {own['bundle']['id']}, not of {bundle_id}")
    kept = [name for name in own["means"] if name == bundle_id or name.startswith("classical")]
    methods = {"this bundle" if name == bundle_id else name: own["means"][name] for name in kept}
    optional = {"lr_bytes", "lr_saturation", "kid_features", "photographs", "groups"}
    further = {key: value for key, value in own.items() if key in optional}
    return {"pictures": own["pictures"], "methods": methods, **further, "versions": own["versions"]}


def enter_evaluation(folder: Path, evaluation: Path) -> str:
    """Enter the summary that ``edgegrain evaluate`` wrote into a bundle's manifest and model card; returns the card."""
    manifest = load_manifest(folder)
    if missing := sorted({"data", "pictures_seen", "pictures_in_set"} - manifest.training.keys()):
        lacking = f"the training record of bundle {manifest.id} lacks {', '.join(missing)}"
        raise BundleError(f"{lacking}; a card is made for bundles that edgegrain publish run wrote")
    try:
        own = json.loads(evaluation.read_bytes())
        collected = collect(manifest.id, own)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = f"{evaluation} is not a summary of edgegrain evaluate ({error!r})"
        raise BundleError(f"{wrong}; pass the JSON file that the command wrote") from error
    for field, expected in (("version", manifest.version), ("lr_contract_id", manifest.lr_contract_id.hex())):
        if (found := own["bundle"].get(field, expected)) != expected:
            wrong = f"the evaluation is of {manifest.id} with {field} {found}, but the bundle has {expected}"
            raise BundleError(f"{wrong}; evaluate it again: edgegrain evaluate --bundle {manifest.folder}")
    if (size := own.get("size", manifest.hr)) != manifest.hr:  # those of earlier releases have no size
        wrong = f"the evaluation was measured at {size} pixels, but the card states figures at {manifest.hr}"
        raise BundleError(f"{wrong}; evaluate again without --size")
    card = card_text({**read_record(folder), "evaluation": collected})
    update_card(folder, evaluation=collected, card=card)
    return card
