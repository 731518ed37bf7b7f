"""`Refinement`: the search for LRs that an evaluation measures, as its files and its report name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Refinement:
    """Options of the search of `edgegrain.refinement.RefiningCodec`.

    Attributes:
        steps: of the search; 0: none, the encoder's LRs are measured.
        size: at which it compares pictures, in pixels; 0: the decoder's.
        max_bytes: largest payload; 0: the encoder's.
    """

    steps: int = 0
    size: int = 0
    max_bytes: int = 0

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Refinement:
        """The search of a report's summary."""
        return cls(*(summary.get(key, 0) for key in ("refinement", "refinement_size", "refinement_max_bytes")))

    def summary(self) -> dict[str, int]:
        """Its part of a report's summary; empty without a search."""
        found = {"refinement": self.steps, "refinement_size": self.size, "refinement_max_bytes": self.max_bytes}
        return {key: value for key, value in found.items() if value} if self.steps else {}

    @property
    def suffix(self) -> str:
        """End of the names of the evaluation's files: ``-refined-40-at-512-to-400``; empty without a search."""
        return self._text("-refined-{}", "-at-{}", "-to-{}")

    @property
    def title(self) -> str:
        """End of the report's title; empty without a search."""
        return self._text(", refined in {} steps", " at {}", " to at most {} bytes")

    def _text(self, steps: str, size: str, max_bytes: str) -> str:
        """The templates of the options that differ from their default, filled in."""
        if not self.steps:
            return ""
        filled = (steps, self.steps), (size, self.size), (max_bytes, self.max_bytes)
        return "".join(template.format(value) for template, value in filled if value)
