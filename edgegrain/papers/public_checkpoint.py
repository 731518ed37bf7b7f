"""Reading checkpoint files of other projects: tensors by name, no program code."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from codec_contract.errors import ModelError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a ``.safetensors`` or torch file by name; nested dictionaries are joined by dots.

    Raises:
        ModelError: the file cannot be read, or holds anything but tensors and plain values: nothing else is unpickled.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # A training checkpoint of rosinality's carries its command line: a namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # `_reason` says it
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's restricted unpickler raises exceptions of any class for malformed bytes
        raise ModelError(f"{path} cannot be read as tensors: {_reason(error, path)}. Expected a .safetensors file or a "
                         "torch file of plain tensors. NVIDIA's .pkl files hold program code: write their tensors to a "
                         "file once, by name, where their code is installed") from error
    return dict(_flatten(content))


def _reason(error: Exception, path: Path) -> str:
    """The reason in plain words; torch's own text advises to switch its protection off."""
    if isinstance(error, (OSError, RuntimeError, SafetensorError)):
        return str(error).partition("\n")[0].rstrip(".")
    if path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, pickle.UnpicklingError):
        if name := re.search(r"GLOBAL `?([\w.]+)", str(error)):
            return f"it contains program code ({name[1].rstrip('.')}) and was refused; none of it was run"
        with path.open("rb") as file:
            if file.read(1) == pickle.PROTO:
                return "it is a pickle that can contain program code and was refused; none of it was run"
    return "it is damaged, or no torch file"


def _flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(key, str):
                yield from _flatten(value, f"{prefix}.{key}" if prefix else key)
