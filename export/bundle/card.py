"""The model card of a bundle: one template for every family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server_decoder.stylegan2 import NVIDIA_LICENCE

LICENCE, ENLARGER = "**Licence.** ", "Enlarger inside: "
CAVEAT = "Detail that a restored picture shows beyond its LR is plausible, not evidence."


def bundle_card(fields: Mapping[str, Any], summary: str, remarks: Sequence[str] = (), *, record: str = "",
                caveat: str = CAVEAT, evaluation: Sequence[str] = ()) -> str:
    """The card of the manifest's ``fields``, Markdown.

    ``summary`` names the network, its sizes and its controls; ``record`` takes the place of the training's counts,
    ``evaluation`` are the lines of the section on measured scores, if there is one.
    """
    training, licence = fields["training"], fields["licence"]
    paragraphs = [f"# {fields['id']}", summary]
    if converted := training.get("converted_from"):
        paragraphs.append("\n".join([
            "Converted from the files of its authors:", "",
            *(f"- `{source['file']}`, SHA-256 {source['sha256']}" for source in converted)]))
    paragraphs.append(f"{LICENCE}{licence.get('weights', 'Unknown.')}")
    if "enlarger" in licence:
        paragraphs.append(f"{ENLARGER}{licence['enlarger']}")
    seen = record or " ".join(f"{training[key]:,} {what}." for key, what in (
        ("pictures_seen", "pictures seen"), ("crops_seen", "crops")) if isinstance(training.get(key), int))
    paragraphs += ["## Training", *filter(None, [seen]), f"Data: {licence.get('data', 'unknown')}"]
    if "prior" in licence:
        paragraphs.append(f"Generator inside: {licence['prior']}.")
    paragraphs += [*remarks, caveat]
    if evaluation:
        paragraphs += ["## Evaluation", "\n".join(evaluation).rstrip()]
    return "\n\n".join(paragraphs) + "\n"


def state_enlarger(card: str, licence: str | None) -> str:
    """A card with the licence of another bundle's enlarger, if it has one, after that of the weights."""
    body = card.rstrip("\n")
    paragraphs = [text for text in body.split("\n\n") if not text.startswith(ENLARGER)]
    if licence is not None:
        place = next((index for index, text in enumerate(paragraphs, 1) if text.startswith(LICENCE)), len(paragraphs))
        paragraphs.insert(place, ENLARGER + licence)
    return "\n\n".join(paragraphs) + card[len(body):]


UNSTATED = {"weights": "What the data's and the generator's licences allow; the code is Apache-2.0.",
            "data": "Not stated."}
BY_DOMAIN = {
    "faces": {
        "weights": "Non-commercial research only, because of the data; the code is Apache-2.0.",
        "data": "FFHQ: CC BY-NC-SA 4.0. CelebA-HQ / CelebAMask-HQ: non-commercial research. "
                "Portraits of members of the United States Congress: mostly public domain.",
    },
}
"""Domain -> licences of edgegrain's own bundles with an encoder for one size of pictures."""
PHOTOGRAPHS = {
    "weights": "Research only, because of the data; the code is Apache-2.0.",
    "data": "BSDS500, training and validation pictures: research use.",
}
"""Licence of edgegrain's own IRN."""
_STYLEGAN2 = f"NVIDIA's StyleGAN2: {NVIDIA_LICENCE}."
_NO_LICENCE = "states no licence: ask its authors before you use or pass on the weights."
_FACES = "FFHQ: CC BY-NC-SA 4.0. CelebA-HQ: non-commercial research."
AUTHORS: dict[str, dict[str, str]] = {
    "grain": {"weights": f"cszzx/GRAIN {_NO_LICENCE} The generator inside is {_STYLEGAN2}", "data": _FACES},
    "irn": {"weights": "Apache-2.0, as pkuxmq/Invertible-Image-Rescaling.", "data": "DIV2K: academic research only."},
    "glean": {"weights": f"Apache-2.0, as open-mmlab/mmagic. The generator inside is {_STYLEGAN2}",
              "data": f"{_FACES} LSUN for other domains."},
    "gcfsr": {"weights": f"hejingwenhejingwen/GCFSR {_NO_LICENCE}", "data": _FACES},
}
"""Source of converted checkpoints -> licences of the authors' weights."""


def with_kept(kept: Mapping[str, Any], added: Mapping[str, str], part: str) -> dict[str, str]:
    """Licences of a bundle's parts, followed by those of a new ``part`` beside them where they differ."""
    licence = {name: str(text) for name, text in kept.items() if name != "prior"}
    for name, text in added.items():
        if licence.setdefault(name, text) != text:
            licence[name] += f" {part}: {text}"
    return licence


def usual_licence(domain: str) -> dict[str, str]:
    """``weights`` and ``data`` of a bundle whose maker states nothing."""
    return dict(BY_DOMAIN.get(domain, UNSTATED))
