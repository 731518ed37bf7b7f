"""Products of halves computed as GPUs do, for tests of float16 networks on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = {torch.ops.aten.convolution, torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm}


class HalvesInFloat32(TorchDispatchMode):
    """Convolutions and matrix products of halves sum in float32 and round their result to a half.

    torch's own CPU kernels for halves give the same up to the order of the sums, and take tens of times as long.
    """

    def __torch_dispatch__(
            self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket not in PRODUCTS or not any(map(_half, args)):
            return func(*args, **(kwargs or {}))
        wide = [item.float() if _half(item) else item for item in args]
        return func(*wide, **(kwargs or {})).half()  # operands of one product have one type


def _half(item: Any) -> bool:
    return isinstance(item, torch.Tensor) and item.dtype == torch.float16
