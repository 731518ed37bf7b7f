"""The model card of a bundle: one template for every family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CAVEAT = "Detail that a restored picture shows beyond its LR is plausible, not evidence."


def bundle_card(bundle_id: str, summary: str, training: Mapping[str, Any], licence: Mapping[str, str],
                remarks: Sequence[str] = (), *, record: str = "", caveat: str = CAVEAT,
                evaluation: Sequence[str] = ()) -> str:
    """Markdown.

    Args:
        bundle_id: the heading.
        summary: one or two sentences: the network, its sizes, its controls.
        training: the manifest's; ``pictures_seen``, ``crops_seen`` and ``converted_from`` are stated where they exist.
        licence: the manifest's ``weights`` and ``data``, and ``prior`` of a bundle with a generator.
        remarks: more paragraphs.
        record: sentences on the training, in place of the counts in ``training``.
        caveat: limits of what a restored picture shows.
        evaluation: lines of the section on measured scores; () for no such section.
    """
    paragraphs = [f"# {bundle_id}", summary]
    if converted := training.get("converted_from"):
        paragraphs.append("\n".join([
            "Converted from the files of its authors:", "",
            *(f"- `{source['file']}`, SHA-256 {source['sha256']}" for source in converted)]))
    paragraphs.append(f"**Licence.** {licence.get('weights', 'Unknown.')}")
    seen = record or " ".join(f"{training[key]:,} {what}." for key, what in (
        ("pictures_seen", "pictures seen"), ("crops_seen", "crops")) if isinstance(training.get(key), int))
    paragraphs += ["## Training", *filter(None, [seen]), f"Data: {licence.get('data', 'unknown')}"]
    if "prior" in licence:
        paragraphs.append(f"Generator inside: {licence['prior']}.")
    paragraphs += [*remarks, caveat]
    if evaluation:
        paragraphs += ["## Evaluation", "\n".join(evaluation).rstrip()]
    return "\n\n".join(paragraphs) + "\n"
