"""The model card of a bundle that is written from weights: one template for every family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def bundle_card(bundle_id: str, summary: str, training: Mapping[str, Any], licence: Mapping[str, str],
                remarks: Sequence[str] = ()) -> str:
    """Markdown.

    Args:
        bundle_id: the heading.
        summary: one or two sentences: the network, its sizes, its controls.
        training: the manifest's; ``pictures_seen``, ``crops_seen`` and ``converted_from`` are stated where they exist.
        licence: the manifest's ``weights`` and ``data``, and ``prior`` of a bundle with a generator.
        remarks: more paragraphs.
    """
    paragraphs = [f"# {bundle_id}", summary]
    if converted := training.get("converted_from"):
        paragraphs.append("\n".join([
            "Converted from the files of its authors:", "",
            *(f"- `{source['file']}`, SHA-256 {source['sha256']}" for source in converted)]))
    paragraphs.append(f"**{licence.get('weights', 'Licence unknown.')}**")
    seen = [f"Training: {training[key]:,} {what}." for key, what in (
        ("pictures_seen", "pictures seen"), ("crops_seen", "crops")) if isinstance(training.get(key), int)]
    paragraphs.append("\n".join([*seen, f"Data: {licence.get('data', 'unknown')}"]))
    if "prior" in licence:
        paragraphs.append(f"Generator inside: {licence['prior']}.")
    paragraphs += [*remarks, "Detail that a restored picture shows beyond its LR is plausible, not evidence."]
    return "\n\n".join(paragraphs) + "\n"
