"""IRN's and IRN+'s checkpoints (pkuxmq/Invertible-Image-Rescaling, ``InvRescaleNet``): ``IRN_x2.pth``, ``IRN_x3.pth``,
``IRN_x4.pth``, ``IRN_x8.pth``, ``IRN+_x4.pth``.

A list of operations, transforms and InvBlocks in turn. A block's F, G and H are the paper's phi, eta and rho. The
transforms are Haar's, but that of 3x is a trained matrix of 9 x 9.
"""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import torch

from codec_contract.errors import ModelError
from edgegrain.papers.irn.network import IRN, RGB, IRNConfig
from edgegrain.papers.tensor_map import TensorFile, TensorMap, file_sha256, fill, open_tensors, place

_WRAPPERS = ("params_ema.", "params.", "state_dict.")
"""Prefixes in files that others saved again; the authors' have none."""
_HAAR, _MATRIX, _GROWTH = (
    "operations.{}.haar_weights", "operations.{}.conv_weights", "operations.{}.F.conv1.weight")
_PARTS = {"phi": "F", "eta": "G", "rho": "H"}
_OURS = re.compile(r"stages\.(\d+)\.(?:transform\.matrix|blocks\.(\d+)\.(.+))")
# The cell (a, b; c, d) -> mean, horizontal, vertical and diagonal difference, four times over.
_BANDS = torch.tensor([[[1.0, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]])[:, None]


def load_irn_checkpoint(path: Path) -> tuple[IRN, TensorMap]:
    """The network of a checkpoint; its depth and widths follow from the tensors."""
    source = open_tensors(path, _WRAPPERS)
    blocks, transforms = _operations(source)
    matrix = _MATRIX.format(0)
    if matrix in source.tensors and source.dimension(matrix, 0) == RGB:
        raise ModelError(f"{path} is an IRN-Color ({source.full_name(matrix)} mixes colours), which makes no LRs")
    scale = math.isqrt(source.dimension(matrix, 0)) if matrix in source.tensors else 2
    if scale == 2 and matrix in source.tensors:
        raise ModelError(f"{path}: {source.full_name(matrix)} is a trained transform of 2 x 2 cells; expected a Haar "
                         "transform, as in the authors' models of 2x")
    config = IRNConfig(blocks, growth=source.dimension(_GROWTH.format(1), 0), scale=scale)

    def theirs(ours: str) -> str | None:
        stage, block, inside = _OURS.fullmatch(ours).groups()  # type: ignore[union-attr]  # all names of IRN match
        if block is None:
            return _MATRIX.format(transforms[int(stage)])
        return f"operations.{transforms[int(stage)] + 1 + int(block)}.{_block_name(inside)}"

    irn = IRN(config)
    constants = {_HAAR.format(index): "the Haar transform, a constant here" for index in transforms}
    placed = place(source, irn.state_dict(), theirs, unused=constants)
    for depth, index in enumerate(transforms):
        if scale == 2:
            _check_transform(source, index, RGB * 4**depth)
    fill(irn, placed.state)
    return irn.eval(), TensorMap(path.name, file_sha256(path), placed.names, {**source.unused, **placed.unused})


def _block_name(ours: str) -> str:
    """The name inside an InvBlock of the file: ``phi.conv1.weight`` -> ``F.conv1.weight``."""
    part, rest = ours.split(".", 1)
    return f"{_PARTS[part]}.{rest}"


def _operations(source: TensorFile) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Blocks of each module, and the positions of the transforms."""
    total = source.count("operations.{}.")
    transforms = tuple(index for index in range(total)
                       if _HAAR.format(index) in source.tensors or _MATRIX.format(index) in source.tensors)
    blocks = tuple(end - start - 1 for start, end in itertools.pairwise((*transforms, total)))
    if not transforms or transforms[0] != 0 or min(blocks) < 1:
        raise ModelError(f"{source.path} is no IRN: expected {source.full_name(_HAAR.format(0))!r} or, for 3x, "
                         f"{source.full_name(_MATRIX.format(0))!r}, and InvBlocks after every transform")
    return blocks, transforms


def _check_transform(source: TensorFile, index: int, channels: int) -> None:
    name = _HAAR.format(index)
    if not torch.equal(source.tensors[name].float().cpu(), _BANDS.repeat(channels, 1, 1, 1)):
        raise ModelError(f"{source.path}: {source.full_name(name)} is no Haar transform of {channels} channels")
