"""A safetensors file of trained weights: tensors of one stored type, and a header that describes the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from edgegrain.contract.errors import ModelError
from edgegrain.contract.files import write_atomically


def write_weights(path: str | Path, state: Mapping[str, Tensor], header: Mapping[str, str], *,
                  dtype: torch.dtype = torch.float16, force: bool = False) -> Path:
    """Write a state dict.

    Args:
        path: of the new file.
        state: tensors of any device, by name.
        header: what `read_header` is to give.
        dtype: of the stored tensors.
        force: replace the file if it exists.

    Raises:
        ModelError: a weight does not fit ``dtype``.
        FileExistsError: the file exists and ``force`` is false.
    """
    tensors = {}
    for name, tensor in state.items():
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
        return {name: file.get_tensor(name).float() for name in file.keys()}
