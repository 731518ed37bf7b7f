"""IRN-Color's checkpoint (pkuxmq/Invertible-Image-Rescaling, ``InvGreyNet``): ``IRN_color.pth``.

A list of operations: the matrix that mixes colours, then InvBlocks, whose F, G and H are the paper's phi, eta and rho.
"""

from __future__ import annotations

from pathlib import Path

from codec_contract.errors import ModelError
from export.checkpoints.irn import WRAPPERS, block_name
from export.checkpoints.tensor_map import TensorMap, file_sha256, fill, open_tensors, place
from server_decoder.irn.color import IRNColor, IRNColorConfig
from server_decoder.irn.network import RGB

_MATRIX = "operations.0.conv_weights"


def load_irn_color_checkpoint(path: Path) -> tuple[IRNColor, TensorMap]:
    """The network of a checkpoint; its depth and width follow from the tensors.

    Raises:
        ModelError: the file cannot be read, or is no IRN-Color checkpoint.
    """
    source = open_tensors(path, WRAPPERS)
    if _MATRIX not in source.tensors or list(source.tensors[_MATRIX].shape) != [RGB, RGB]:
        raise ModelError(f"{path} is no IRN-Color: expected {source.full_name(_MATRIX)!r} of 3 x 3. Convert an IRN as "
                         "irn or irn-plus")
    growth = source.dimension("operations.1.F.conv1.weight", 0)
    network = IRNColor(IRNColorConfig(source.count("operations.{}.") - 1, growth))

    def theirs(ours: str) -> str:
        if ours == "matrix":
            return _MATRIX
        _, block, inside = ours.split(".", 2)
        return f"operations.{1 + int(block)}.{block_name(inside)}"

    placed = place(source, network.state_dict(), theirs)
    fill(network, placed.state)
    return network.eval(), TensorMap(path.name, file_sha256(path), placed.names, source.unused)
