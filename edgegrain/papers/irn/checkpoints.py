"""IRN's and IRN+'s checkpoints (pkuxmq/Invertible-Image-Rescaling, ``InvRescaleNet``): ``IRN_x2.pth``, ``IRN_x3.pth``,
``IRN_x4.pth``, ``IRN_x8.pth``, ``IRN+_x4.pth``.

A list of operations, transforms and InvBlocks in turn. A block's F, G and H are the paper's phi, eta and rho. The
transforms are Haar's, but that of 3x is a trained matrix of 9 x 9.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from codec_contract.errors import ModelError
from edgegrain.papers.convert import Names, Options, Report, TensorFile, TensorMap, count, fill, open_tensors
from edgegrain.papers.irn.bundle import write_bundle_of
from edgegrain.papers.irn.network import IRN, IRNConfig
from server_decoder.weight_file import described_network

_WRAPPERS = ("params_ema.", "params.", "state_dict.")  # in files that others saved again; the authors' have none
_HAAR, _MATRIX = "operations.{}.haar_weights", "operations.{}.conv_weights"


def load_irn_checkpoint(path: Path) -> tuple[IRN, TensorMap]:
    """The network of a checkpoint; its depth and widths follow from the tensors."""
    source = open_tensors(path, _WRAPPERS)
    blocks, transforms = _operations(source)
    matrix = _MATRIX.format(0)
    scale = math.isqrt(source.dimension(matrix, 0)) if matrix in source.tensors else 2
    with source.reading("IRN"):
        config = IRNConfig(blocks, growth=source.dimension("operations.1.F.conv1.weight", 0), scale=scale)
    irn = described_network(path, lambda: IRN(config))

    def block(part: str) -> Callable[[int, int, str], str]:
        return lambda stage, index, end: f"operations.{transforms[stage] + 1 + index}.{part}.{end}"

    names: Names = {
        "stages.#.transform.matrix": lambda stage: _MATRIX.format(transforms[stage]),
        "stages.#.blocks.#.phi.*": block("F"),
        "stages.#.blocks.#.eta.*": block("G"),
        "stages.#.blocks.#.rho.*": block("H"),
    }
    haar = tuple(_HAAR.format(index) for index in transforms)  # constants here
    tensor_map = fill(irn, source, names, haar)
    return irn.eval(), tensor_map


def _operations(source: TensorFile) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Blocks of each module, and the positions of the transforms."""
    total = source.count("operations.{}.")
    names = source.tensors.keys()
    transforms = tuple(index for index in range(total) if {_HAAR.format(index), _MATRIX.format(index)} & names)
    blocks = tuple(end - start - 1 for start, end in itertools.pairwise((*transforms, total)))
    if not transforms or transforms[0] != 0 or min(blocks) < 1:
        raise ModelError(
            f"{source.path} is no IRN: expected {source.full_name(_HAAR.format(0))!r} or, for 3x, "
            f"{source.full_name(_MATRIX.format(0))!r}, and InvBlocks after every transform"
        )
    return blocks, transforms


def convert(source: str, files: Sequence[Path], out: Path, options: Options) -> Report:
    """Write the bundle of a checkpoint; ``source`` is ``irn`` or ``irn-plus``."""
    irn, tensor_map = load_irn_checkpoint(files[0])
    written = write_bundle_of(irn, out, source == "irn-plus", **options.described(source, [tensor_map]))
    return Report(source, str(out), {"rescaler": count(irn)}, [tensor_map], written.decoder)
