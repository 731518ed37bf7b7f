"""Questions about the values of an ONNX graph (`onnx_ir`): constants, readers, shapes."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
import onnx_ir as ir

from codec_contract.errors import ExportError
from server_decoder.cuda_ops.library import DOMAIN


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant that no caller can replace; None for all other values."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def require_constant(value: ir.Value | None) -> np.ndarray:
    """As `constant`.

    Raises:
        ExportError: the value is none.
    """
    array = constant(value)
    if array is None:
        raise ExportError(f"{'an absent value' if value is None else value.name} is no constant of the graph")
    return array


def scalar(value: ir.Value | None) -> float | None:
    """The only element of a constant."""
    array = constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that reads the value, if there is one alone and it reads it once."""
    uses = value.uses()
    return next(iter(uses)).node if len(uses) == 1 and not value.is_graph_output() else None


def other_input(node: ir.Node, value: ir.Value) -> ir.Value:
    """The second operand of a node of two."""
    first, second = node.inputs
    found = second if first is value else first
    assert found is not None  # both are required
    return found


def is_op(node: ir.Node | None, *names: str, domain: str = "") -> TypeGuard[ir.Node]:
    """True if the node is one of these operators."""
    return node is not None and node.op_type in names and node.domain == domain


def is_own_op(node: ir.Node | None, *names: str) -> TypeGuard[ir.Node]:
    """True if the node is one of these operators of ``com.edgegrain``."""
    return is_op(node, *names, domain=DOMAIN)


def sizes(value: ir.Value | None) -> tuple[int | None, ...]:
    """The dimensions of a value, None for an open one; () if nothing is known."""
    if value is None or value.shape is None:
        return ()
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def channel_count(value: ir.Value) -> int:
    """The second dimension.

    Raises:
        ExportError: it is open.
    """
    count = sizes(value)[1]
    if count is None:
        raise ExportError(f"{value.name} has an open number of channels")
    return count


def is_map(value: ir.Value | None) -> bool:
    """True for ``[B, C, H, W]`` with more than one pixel."""
    shape = sizes(value)
    return len(shape) == 4 and None not in shape[1:] and shape[2:] != (1, 1)


def is_vector(value: ir.Value | None) -> bool:
    """True for ``[B, C]``, ``[B, C, 1]`` and ``[B, C, 1, 1]``, one number per picture and channel."""
    shape = sizes(value)
    return 2 <= len(shape) <= 4 and shape[1] is not None and shape[0] is None and set(shape[2:]) <= {1}


def integers(node: ir.Node, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """An attribute of integers."""
    attribute = node.attributes.get(name)
    return default if attribute is None else tuple(attribute.as_ints())


def integer(node: ir.Node, name: str, default: int = 0) -> int:
    """An attribute of one integer."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def number(node: ir.Node, name: str, default: float) -> float:
    """An attribute of one number."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def text(node: ir.Node, name: str, default: str = "") -> str:
    """An attribute of characters."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()
