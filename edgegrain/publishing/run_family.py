"""Read the family of networks that a training run belongs to from the header of its checkpoint or weights."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path

from safetensors import SafetensorError

from codec_contract.errors import ModelError
from edgegrain.training.grain.checkpoint import CHECKPOINT
from server_decoder.face_sr.gcfsr import KIND as GCFSR_KIND
from server_decoder.face_sr.glean import KIND as GLEAN_KIND
from server_decoder.face_sr.weights import GCFSR_WEIGHTS, GLEAN_WEIGHTS
from server_decoder.irn.weights import WEIGHTS as IRN_WEIGHTS
from server_decoder.weight_file import read_header


class Family(StrEnum):
    """A family of networks that is trained and published in one way."""

    grain = "GRAIN"
    face_sr = "GLEAN or GCFSR"
    irn = "IRN"


def run_family(run: Path) -> Family:
    """The family of a run, given by its folder, its checkpoint or its weights.

    Raises:
        ModelError: there is no such run.
    """
    path = run
    if run.is_dir():
        names = (GLEAN_WEIGHTS, GCFSR_WEIGHTS, IRN_WEIGHTS, CHECKPOINT)
        path = next((run / name for name in names if (run / name).is_file()), run / CHECKPOINT)
    try:
        header = read_header(path)
        config = json.loads(header.get("config", "{}"))
        kind = config.get("kind") or config.get("network", {}).get("kind")
    except (OSError, SafetensorError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is not a checkpoint of a training run ({error})") from error
    if kind in (GLEAN_KIND, GCFSR_KIND):
        return Family.face_sr
    return Family.irn if kind == "irn" or "irn" in header else Family.grain
