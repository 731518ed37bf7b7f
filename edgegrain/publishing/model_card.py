"""The model card of a bundle: what it was trained on, what it may be used for, what it measures.

    python -m edgegrain.publishing.model_card --bundle faces --evaluation results/faces.json --control results/box.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from codec_contract.bundle.manifest import load_manifest
from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import BundleError
from edgegrain.training.console import errors_on_one_line
from edgegrain.training.grain.stages import FACES
from export.bundle.writer import update_card

COLUMNS = (("bytes", "bytes", ".0f"), ("psnr", "PSNR (dB)", ".2f"), ("ssim", "SSIM", ".3f"),
           ("lpips_alex", "LPIPS-Alex", ".3f"), ("lpips_vgg", "LPIPS-VGG", ".3f"), ("identity", "identity", ".3f"),
           ("kid", "KID", ".3f"))

_FACES_CAVEAT = (
    "The set is mostly young and well-lit: FFHQ and CelebA-HQ under-represent dark skin, old age, head coverings and "
    "glasses, and the decoder fills in what it saw most. A restored face is a plausible picture, not evidence of who "
    "somebody is.")
_CAVEAT = "The decoder fills in what it saw most. A restored picture is plausible, not evidence."
_STAGES = {"1": "stage 1 (encoder and decoder)", "2": "stage 2 (codes of the generator)", "3": "stage 3 (fusion)",
           "final": "the final stage (all together, the generator frozen)"}


def card_text(bundle_id: str, training: Mapping[str, Any], evaluation: Mapping[str, Any],
              licence: Mapping[str, str], *, domain: str = FACES, sizes: tuple[int, int] = (256, 16)) -> str:
    """Markdown; ``evaluation`` as `collect` gives it, or empty for a bundle not evaluated yet.

    Args:
        bundle_id, training, licence: as in the manifest.
        evaluation: see above.
        domain: what the pictures show.
        sizes: sides of the picture and of the LR.
    """
    hr, lr = sizes
    shown = "A picture of a face" if domain == FACES else f"A picture ({domain})"
    data = ", ".join(f"{count} {name}" for name, count in training["data"].items())
    lines = [
        f"# {bundle_id}",
        "",
        f"{shown}, {hr} x {hr}, as a viewable LR of {lr} x {lr} and back.",
        "",
        ("**Research only.** " if domain == FACES else "") + licence["weights"],
        "",
        "## Training",
        "",
        f"{_stages(training)}, drawn from {training['pictures_in_set']:,} ({data}; by prefix of the file name).",
        "",
        f"Data: {licence['data']}",
        "",
        *([f"Generator inside: {licence['prior']}.", ""] if "prior" in licence else []),
        _FACES_CAVEAT if domain == FACES else _CAVEAT,
        "",
        "## Evaluation",
        "",
    ]
    if not evaluation:
        return "\n".join([*lines, "Not evaluated yet.", ""])
    lines += [
        f"Mean over the {evaluation['pictures']['count']} unseen {domain} of {evaluation['pictures']['folder']}, each "
        "through the published files. Classical codecs may use at most the payload's bytes and choose their own "
        "downscaling.",
        "",
        *score_table(evaluation),
        "",
        "Identity is the distance of dlib's face descriptors (below 0.6: the same person to dlib). LPIPS-Alex and the "
        "descriptor take part in training; LPIPS-VGG does not." if domain == FACES else
        "LPIPS-Alex takes part in training; LPIPS-VGG does not.",
        "",
    ]
    if lr_bytes := evaluation.get("lr_bytes"):
        lines += [f"The payload holds the LR in {lr_bytes['payload']:.0f} bytes on average, headers included; the same "
                  f"LR is {lr_bytes['png']:.0f} bytes as optimised PNG, {lr_bytes['webp']:.0f} as lossless WebP, "
                  f"{lr_bytes['jpeg-xl']:.0f} as lossless JPEG XL.", ""]
    if "kid_features" in evaluation:
        lines += [f"KID is the kernel distance of {evaluation['kid_features']}; it takes no part in training.", ""]
    return "\n".join(lines)


def _stages(training: Mapping[str, Any]) -> str:
    stages = training.get("stages") or [{"stage": "1", "pictures": training["pictures_seen"]}]
    seen: dict[str, int] = {}
    for stage in stages:
        seen[str(stage["stage"])] = seen.get(str(stage["stage"]), 0) + stage["pictures"]
    parts = [f"{pictures:,} pictures seen in {_STAGES[stage]}" for stage, pictures in seen.items()]
    return "Trained as GRAIN (section 3.5) with the exact encoder's quantization in the loop: " + "; ".join(parts)


def score_table(evaluation: Mapping[str, Any]) -> list[str]:
    """The lines of a Markdown table: a row for every method of an ``evaluation``, a column for what was measured."""
    methods = evaluation["methods"]
    columns = [column for column in COLUMNS if any(scores.get(column[0]) is not None for scores in methods.values())]
    lines = ["| method | " + " | ".join(title for _, title, _ in columns) + " |", "|---" + "|---:" * len(columns) + "|"]
    for name, scores in methods.items():
        cells = ["–" if scores.get(key) is None else format(scores[key], form) for key, _, form in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def collect(bundle_id: str, own: Mapping[str, Any], controls: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest's ``evaluation`` from the summaries that ``edgegrain evaluate`` writes.

    Of the classical codecs it keeps the best of all; what each reaches stands in the summary.

    Args:
        bundle_id: of the bundle.
        own: its summary.
        controls: those of [GRAIN] Table 2's controls, by the name that their row is to have.

    Raises:
        BundleError: a summary is of another bundle, or they are not of the same pictures.
    """
    if own["bundle"]["id"] != bundle_id:
        raise BundleError(f"the evaluation is of {own['bundle']['id']}, not of {bundle_id}")
    methods = {"this bundle" if name == bundle_id else name: scores for name, scores in own["means"].items()
               if name == bundle_id or name.startswith("classical")}
    for name, control in controls.items():
        if control["pictures"] != own["pictures"]:
            raise BundleError(f"the {name} was evaluated on other pictures; evaluate both on the same folder")
        methods[name] = control["means"][control["bundle"]["id"]]
    optional = {key: own[key] for key in ("lr_bytes", "kid_features") if key in own}
    return {"pictures": own["pictures"], "methods": methods, **optional, "versions": own["versions"]}


def main(
    evaluation: Annotated[Path, typer.Option(help="JSON summary that edgegrain evaluate wrote.")],
    bundle: Annotated[str, typer.Option(help="Name or folder of the bundle.")] = "faces",
    control: Annotated[Path | None, typer.Option(
        help="JSON summary of the control without invertible encoder (--control in training).")] = None,
    invertible: Annotated[Path | None, typer.Option(help="JSON summary of the control without generator.")] = None,
) -> None:
    """Enter an evaluation into a bundle's manifest and model card."""
    with errors_on_one_line():
        manifest = load_manifest(find_bundle(bundle))
        controls = {"control: box mean, invertible decoder": control, "control: invertible decoder alone": invertible}
        collected = collect(manifest.id, json.loads(evaluation.read_bytes()),
                            {name: json.loads(path.read_bytes()) for name, path in controls.items() if path})
        card = card_text(manifest.id, manifest.training, collected, manifest.licence, domain=manifest.domain,
                         sizes=(manifest.hr, manifest.lr))
        update_card(manifest.folder, evaluation=collected, card=card)
    typer.echo(card)


if __name__ == "__main__":
    typer.run(main)
