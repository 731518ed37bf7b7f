"""Licences of weights and of their training data, for manifests and model cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server_decoder.stylegan2 import NVIDIA_LICENCE

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
