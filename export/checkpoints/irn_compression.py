"""IRN-Compression's checkpoints (pkuxmq/Invertible-Image-Rescaling): ``IRN_x2_finetune.pth`` or
``IRN_x2_finetune_Kodak.pth``, an ``InvRescaleNet``, and ``CRM_x2_q90.pth``, an ``RRDBNet``.

The second restores LRs of the first that went through JPEG at quality 90. Its tensors have the same names here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from codec_contract.errors import ModelError
from export.checkpoints.irn import WRAPPERS, load_irn_checkpoint
from export.checkpoints.tensor_map import TensorMap, file_sha256, fill, open_tensors, place
from server_decoder.irn.jpeg_restorer import JPEGRestorer, JPEGRestorerConfig
from server_decoder.irn.network import IRN

_FIRST = "conv_first.weight"


class IRNCompressionCheckpoint(NamedTuple):
    """The authors' model.

    Attributes:
        irn: picture <-> LR.
        restorer: LR after JPEG -> LR.
        tensor_maps: of the file of each.
    """

    irn: IRN
    restorer: JPEGRestorer
    tensor_maps: tuple[TensorMap, TensorMap]


def load_irn_compression_checkpoint(paths: Sequence[Path]) -> IRNCompressionCheckpoint:
    """The model whose parts are in two files, in any order.

    Raises:
        ModelError: a file cannot be read or is of another layout, or they are not one of each kind.
    """
    restorers = [path for path in paths if _FIRST in open_tensors(path, WRAPPERS).tensors]
    rescalers = [path for path in paths if path not in restorers]
    if len(restorers) != 1 or len(rescalers) != 1:
        raise ModelError("irn-compression is converted from two files, IRN_x2_finetune.pth or another IRN and "
                         f"CRM_x2_q90.pth (with {_FIRST!r}); got {', '.join(map(str, paths))}. An IRN alone is "
                         "converted as irn")
    irn, rescaler_map = load_irn_checkpoint(rescalers[0])
    restorer, restorer_map = load_jpeg_restorer_checkpoint(restorers[0])
    return IRNCompressionCheckpoint(irn, restorer, (rescaler_map, restorer_map))


def load_jpeg_restorer_checkpoint(path: Path) -> tuple[JPEGRestorer, TensorMap]:
    """The network of a ``CRM_*.pth``; its depth and widths follow from the tensors.

    Raises:
        ModelError: the file cannot be read, or is no such checkpoint.
    """
    source = open_tensors(path, WRAPPERS)
    blocks = source.count("RRDB_trunk.{}.")
    if not blocks:
        raise ModelError(f"{path} is no JPEG restorer: it lacks {source.full_name('RRDB_trunk.0.')}*")
    network = JPEGRestorer(JPEGRestorerConfig(
        source.dimension(_FIRST, 0), source.dimension("RRDB_trunk.0.RDB1.conv1.weight", 0), blocks))
    placed = place(source, network.state_dict(), lambda ours: ours)
    fill(network, placed.state)
    return network.eval(), TensorMap(path.name, file_sha256(path), placed.names, source.unused)
