"""Names of evaluations of refined payloads."""

from __future__ import annotations

import pytest

from edgegrain.evaluation.refinement import Refinement


@pytest.mark.parametrize(("refinement", "suffix", "title"), [
    (Refinement(), "", ""),
    (Refinement(0, 512, 400), "", ""),
    (Refinement(40), "-refined-40", ", refined in 40 steps"),
    (Refinement(40, 512), "-refined-40-at-512", ", refined in 40 steps at 512"),
    (Refinement(80, 1024, 400), "-refined-80-at-1024-to-400", ", refined in 80 steps at 1024 to at most 400 bytes"),
])
def test_names(refinement: Refinement, suffix: str, title: str) -> None:
    assert (refinement.suffix, refinement.title) == (suffix, title)
    assert Refinement.of(refinement.summary()) == (refinement if refinement.steps else Refinement())


def test_reports_of_the_encoders_lrs_say_nothing_of_it() -> None:
    assert Refinement().summary() == {}
    assert Refinement(40).summary() == {"refinement": 40}
