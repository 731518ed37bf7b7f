"""Checkpoints that authors published, converted to bundles and priors.

The layout of a paper's files is data in the ``checkpoints.py`` of its folder: `tensor_files.Names`, from our tensors to
theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from codec_contract.errors import ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from edgegrain.papers.tensor_files import TensorMap
from export import papers
from export.bundle.writer import refuse_to_replace, require_bundle_formats
from export.decoder.export import Comparison
from server_decoder.stylegan2 import NVIDIA_LICENCE

SOURCES = {"grain": "grain", "irn": "irn", "irn-plus": "irn", "glean": "face_sr", "gcfsr": "face_sr",
           "stylegan2-nvidia": "stylegan", "stylegan2-rosinality": "stylegan"}
"""Name -> folder of the paper, whose ``checkpoints.py`` has ``convert(source, files, out, options)``."""
STORAGE = "Weights are stored as float16. The payload's coder tables are the general ones, not fitted to these LRs."
"""Remark on the card of a converted bundle."""
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


class ConversionOptions(NamedTuple):
    """Choices for a conversion."""

    lr: int | None = None  # side of a GCFSR bundle's LRs; None for the usual one
    domain: str = "faces"  # of the training pictures; only GLEANs were published for others
    formats: Sequence[str] = ("onnx",)  # of the bundle's encoder
    force: bool = False  # replace an existing result
    reduction: str = "bicubic"  # of GLEAN's and GCFSR's bundles, as in the papers

    def described(self, tensor_maps: Sequence[TensorMap]) -> dict[str, Any]:
        """What `write_compared_bundle` takes of every converted bundle; its manifest names the files."""
        files = [{"file": source.file, "sha256": source.sha256} for source in tensor_maps]
        return {"tables": CoderTables.default(), "training": {"converted_from": files}, "formats": self.formats,
                "force": self.force}


@dataclass(frozen=True)
class ConversionReport:
    """Result of a conversion; its fields are those of ``edgegrain convert --json``."""

    source: str
    path: str  # the folder of the bundle, or the prior's file
    parameters: Mapping[str, int]  # by network
    files: Sequence[TensorMap]
    decoder_beside_torch: Comparison | None = None  # None without a bundle


def convert(source: str, files: Sequence[Path], out: Path, options: ConversionOptions) -> ConversionReport:
    """Convert checkpoints, GRAIN's three or four, else one, to a bundle's folder ``out``; a StyleGAN2 to a file."""
    if not source.startswith("stylegan2"):
        refuse_to_replace(out, options.force)
        require_bundle_formats(options.formats)
    if source != "grain" and len(files) != 1:
        raise ModelError(f"{source} is converted from one file, got {len(files)}")
    report: ConversionReport = papers.load(f"{SOURCES[source]}.checkpoints:convert")(source, files, out, options)
    return report


def count(network: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(parameter.numel() for parameter in network.parameters())
