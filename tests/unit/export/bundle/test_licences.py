"""Licences of bundles that have parts of others."""

from __future__ import annotations

from export.bundle.licences import with_kept

KEPT = {"weights": "Apache-2.0.", "data": "FFHQ.", "prior": "ours", "enlarger": "that of faces"}


def test_the_kept_parts_licence_stays_and_the_new_ones_is_added_where_it_differs() -> None:
    assert with_kept(KEPT, {"weights": "Apache-2.0.", "data": "Own photographs."}, "Decoder") == {
        "weights": "Apache-2.0.", "data": "FFHQ. Decoder: Own photographs.", "enlarger": "that of faces"}
    assert with_kept(KEPT, {}, "Decoder") == {"weights": "Apache-2.0.", "data": "FFHQ.", "enlarger": "that of faces"}
