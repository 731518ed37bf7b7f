"""Read the family of networks that a training run belongs to from the header of its checkpoint or weights."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError

from codec_contract.errors import ModelError
from edgegrain.training.checkpoint import checkpoint_path
from edgegrain.training.super_resolution.trainer import FAMILY as SUPER_RESOLUTION
from export import papers
from server_decoder.weight_file import read_header

GRAIN = "grain"


def run_family(run: Path) -> str:
    """The family of a run, given by its folder, its checkpoint or its weights: `GRAIN`, or one of `papers.WEIGHTS`.

    Raises:
        ModelError: there is no such run, or it trains a generative prior.
    """
    path = checkpoint_path(run)
    if run.is_dir():
        path = next((run / name for name in papers.WEIGHTS if (run / name).is_file()), path)
    try:
        header = read_header(path)
        config = json.loads(header.get("config", "{}"))
        kind = config.get("kind") or config.get("network", {}).get("kind")
    except (OSError, SafetensorError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is not a checkpoint of a training run ({error})") from error
    by_kind = {weights.name.lower(): weights.family for weights in papers.WEIGHTS.values()}
    family = header.get("family") or by_kind.get("irn" if "irn" in header else kind, GRAIN)
    if family == SUPER_RESOLUTION:
        raise ModelError(f"{path} is a checkpoint of an enlarger, not of a codec; add it to a bundle with 'edgegrain "
                         "export enlarger'")
    if family not in (GRAIN, *by_kind.values()):
        raise ModelError(f"{path} is a checkpoint of {family}, not of a codec; its weights are a prior for --prior")
    return family
