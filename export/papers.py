"""What `edgegrain.papers` adds to the commands, by name: a paper is imported when one of its parts is used.

No package below `edgegrain.cli` imports `edgegrain.papers` otherwise (`pyproject.toml`).
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any, NamedTuple

from codec_contract.bundle.manifest import IRN_WEIGHTS, RRDB_ENCODER_WEIGHTS


class WeightFamily(NamedTuple):
    """The networks of one weight file."""

    name: str  # of the paper
    family: str  # of the training runs that write the file
    writer: str  # of the bundle of such a file: ``write(weights, folder, force=…, **options)``


WEIGHTS = {  # name of a weight file in the folder of a run or of the zoo -> its networks
    IRN_WEIGHTS: WeightFamily("IRN", "irn", "irn.bundle:write_irn_bundle"),
    "glean.safetensors": WeightFamily("GLEAN", "face_sr", "face_sr.bundle:write_face_sr_bundle"),
    "gcfsr.safetensors": WeightFamily("GCFSR", "face_sr", "face_sr.bundle:write_face_sr_bundle"),
}

FLOAT_ENCODERS = {IRN_WEIGHTS: "irn.bundle:bundle_graph", RRDB_ENCODER_WEIGHTS: "grain.rrdb_encoder:bundle_graph"}
"""Weight file of a float encoder in a bundle -> ``graph(path, hr)``, its `EncoderGraph`."""

TRAINING = (  # families of runs
    "irn.training:IRN_FAMILY",
    "face_sr.training:FACE_SR",
    "stylegan.training:STYLEGAN2",
    "stylegan.distillation:DISTILLATION",
)


def load(name: str) -> Any:
    """The object of a name, ``MODULE:OBJECT`` below `edgegrain.papers`."""
    return resolve_name(f"edgegrain.papers.{name}")
