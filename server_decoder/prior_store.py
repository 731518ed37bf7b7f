"""The folder of generative priors on this machine, and one function that loads any of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from codec_contract.errors import ModelError
from codec_contract.files import cache_folder
from server_decoder import mobile_stylegan
from server_decoder.generative_prior import GenerativePrior
from server_decoder.mobile_stylegan import MobileStyleGANConfig
from server_decoder.stylegan2 import networks as stylegan2
from server_decoder.stylegan2.networks import StyleGAN2Config
from server_decoder.weight_file import WeightKind, read_header

DEFAULT_PRIOR = "mobile-stylegan-ffhq"
_PRIOR_FILE = WeightKind("safetensors file", "config", dict)
_NAME = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")


_RIGHTS = {
    "origin": "the PyPI package random-face 2021.7.21.1 by Sergei Belousov",
    "licence": "distilled from NVIDIA's StyleGAN2, trained on FFHQ: both allow non-commercial use only; the package "
    "itself is Apache-2.0",
}
PUBLISHED = {DEFAULT_PRIOR: ("MobileStyleGAN, faces of FFHQ, 1024x1024", _RIGHTS)}
"""Name of a prior that ``edgegrain prior fetch`` downloads -> description, origin and licence of its weights."""


def prior_folder() -> Path:
    """The folder of fetched priors."""
    return cache_folder() / "priors"


def find_prior(name_or_path: str | Path) -> Path:
    """The file of a prior: a file that exists, else the fetched prior of that name."""
    path = Path(name_or_path)
    if os.path.isfile(path):  # not Path.is_file, which raises an error for a name that is too long
        return path
    name = str(name_or_path)
    if _NAME.fullmatch(name):  # a name cannot leave the folder
        fetched = prior_folder() / f"{name}.safetensors"
        if os.path.isfile(fetched):
            return fetched
        if name in PUBLISHED:
            raise ModelError(f"the prior {name} is not in {fetched.parent}; run: edgegrain prior fetch")
    raise ModelError(
        f"there is no prior {name!r}: no such file, and no prior of that name in {prior_folder()}; "
        f"edgegrain prior fetch downloads {', '.join(PUBLISHED)}"
    )


def prior_licence(name_or_path: str | Path) -> str:
    """Origin and licence of a prior's weights, as its file states them."""
    metadata = _header(find_prior(name_or_path))
    return f"{metadata.get('origin', 'origin not stated')}: {metadata.get('licence', 'licence not stated')}"


def load_prior(
    name_or_path: str | Path = DEFAULT_PRIOR,
    config: MobileStyleGANConfig | StyleGAN2Config | None = None,
    *,
    size: int | None = None,
) -> GenerativePrior:
    """A generator in evaluation mode, its parameters frozen: a fetched prior by name, or a weight file of one.

    ``config`` is the expected kind and size of the result; a larger generator is cut to pictures of side ``size``.
    """
    path = find_prior(name_or_path)
    kind = _header(path).get("format")
    prior: GenerativePrior
    if kind == mobile_stylegan.FORMAT and not isinstance(config, StyleGAN2Config):
        prior = mobile_stylegan.load_mobile_stylegan(path, config, cut_to=size)
    elif kind == stylegan2.FORMAT and not isinstance(config, MobileStyleGANConfig):
        prior = stylegan2.load_stylegan2(path, config, cut_to=size)
    else:
        expected = "a prior" if config is None else f"a {type(config).__name__.removesuffix('Config')}"
        raise ModelError(
            f"{path} is not {expected} (format {kind!r}); edgegrain convert --from "
            "stylegan2-rosinality rewrites public checkpoints of StyleGAN2"
        )
    return prior.eval().requires_grad_(False)


def _header(path: Path) -> dict[str, str]:
    with _PRIOR_FILE.reading(path):
        return read_header(path)
