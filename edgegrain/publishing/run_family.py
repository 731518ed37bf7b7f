"""Read the family of networks that a training run belongs to from the header of its checkpoint or weights."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path

from safetensors import SafetensorError

from codec_contract.bundle.file_names import IRN_WEIGHTS
from codec_contract.errors import ModelError
from edgegrain.training.checkpoint import checkpoint_path
from edgegrain.training.super_resolution.trainer import FAMILY as SUPER_RESOLUTION
from server_decoder.face_sr.gcfsr import KIND as GCFSR_KIND
from server_decoder.face_sr.glean import KIND as GLEAN_KIND
from server_decoder.face_sr.weights import GCFSR_WEIGHTS, GLEAN_WEIGHTS
from server_decoder.weight_file import read_header


class CodecFamily(StrEnum):
    """A family of networks that is published in one way; values are those in the header of a checkpoint."""

    grain = "grain"
    face_sr = "face_sr"
    """GLEAN and GCFSR."""
    irn = "irn"


def run_family(run: Path) -> CodecFamily:
    """The family of a run, given by its folder, its checkpoint or its weights.

    Raises:
        ModelError: there is no such run, or it trains a generative prior.
    """
    path = checkpoint_path(run)
    if run.is_dir():
        names = (GLEAN_WEIGHTS, GCFSR_WEIGHTS, IRN_WEIGHTS)
        path = next((run / name for name in names if (run / name).is_file()), path)
    try:
        header = read_header(path)
        config = json.loads(header.get("config", "{}"))
        kind = config.get("kind") or config.get("network", {}).get("kind")
    except (OSError, SafetensorError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is not a checkpoint of a training run ({error})") from error
    family = header.get("family")
    if family == SUPER_RESOLUTION:
        raise ModelError(f"{path} is a checkpoint of an enlarger, not of a codec; add it to a bundle with 'edgegrain "
                         "export enlarger'")
    if family is not None and family not in set(CodecFamily):
        raise ModelError(f"{path} is a checkpoint of {family}, not of a codec; its weights are a prior for --prior")
    if family is not None:
        return CodecFamily(family)
    if kind in (GLEAN_KIND, GCFSR_KIND):
        return CodecFamily.face_sr
    return CodecFamily.irn if kind == "irn" or "irn" in header else CodecFamily.grain
