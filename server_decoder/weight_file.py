"""A safetensors file of trained weights: tensors of one stored type, and a header that describes the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from codec_contract.errors import ModelError
from codec_contract.files import write_atomically

COMPACT_FROM = 4096
"""Elements from which on `write_weights` stores a matrix or a kernel as int8, if it may."""
_SCALE = ".int8_scale"
_MOST = 127


def write_weights(path: str | Path, state: Mapping[str, Tensor], header: Mapping[str, str], *,
                  dtype: torch.dtype = torch.float16, compact: bool = False, force: bool = False) -> Path:
    """Write a state dict.

    Args:
        path: of the new file.
        state: tensors of any device, by name.
        header: what `read_header` is to give.
        dtype: of the stored tensors.
        compact: store large matrices and kernels as int8, each output channel in steps of 1/127 of its largest weight.
        force: replace the file if it exists.

    Raises:
        ModelError: a weight does not fit ``dtype``.
        FileExistsError: the file exists and ``force`` is false.
    """
    tensors = {}
    for name, tensor in state.items():
        if compact and tensor.ndim > 1 and tensor.numel() >= COMPACT_FROM:
            tensors[name], tensors[name + _SCALE] = _int8(tensor)
            continue
        stored = tensor.detach().cpu().to(dtype)
        if not stored.isfinite().all():
            raise ModelError(f"weight {name!r} does not fit {dtype} (largest {tensor.abs().max():g})")
        tensors[name] = stored.contiguous()
    return write_atomically(path, save(tensors, metadata=dict(header)), force=force)


def read_header(path: str | Path) -> dict[str, str]:
    """What `write_weights` was given as the header.

    Raises:
        OSError, SafetensorError: there is no such file, or it is no safetensors file.
    """
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors by name, float32 on the CPU. Errors as in `read_header`."""
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        return {name: file.get_tensor(name).float() * (file.get_tensor(name + _SCALE) if name + _SCALE in names else 1)
                for name in names if not name.endswith(_SCALE)}


def _int8(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Levels and the scales, float32, that they are to be multiplied by."""
    values = tensor.detach().cpu().float()
    scale = values.abs().amax(tuple(range(1, values.ndim)), keepdim=True).clamp_min(torch.finfo().tiny) / _MOST
    return torch.round(values / scale).to(torch.int8).contiguous(), scale
