"""Licences of weights that were trained here and of their data, for manifests and model cards."""

from __future__ import annotations

UNSTATED = {"weights": "What the data's and the generator's licences allow; the code is Apache-2.0.",
            "data": "Not stated."}
BY_DOMAIN = {
    "faces": {
        "weights": "Non-commercial research only, because of the data; the code is Apache-2.0.",
        "data": "FFHQ: CC BY-NC-SA 4.0. CelebA-HQ / CelebAMask-HQ: non-commercial research. "
                "Portraits of members of the United States Congress: mostly public domain.",
    },
}
"""Domain -> licences of edgegrain's own bundles."""


def usual_licence(domain: str) -> dict[str, str]:
    """``weights`` and ``data`` of a bundle whose maker states nothing."""
    return dict(BY_DOMAIN.get(domain, UNSTATED))
