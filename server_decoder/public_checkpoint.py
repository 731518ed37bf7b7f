"""Reading checkpoint files of other projects: tensors by name, no program code."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
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
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's restricted unpickler raises exceptions of any class for malformed bytes
        reason = (str(error) or repr(error)).splitlines()[0]
        raise ModelError(f"{path} cannot be read as tensors ({reason}); expected a .safetensors file or a torch "
                         "file of plain tensors. NVIDIA's .pkl files hold program code: write their tensors to a file "
                         "once, by name, where their code is installed") from error
    return dict(_flatten(content))


def _flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(key, str):
                yield from _flatten(value, f"{prefix}.{key}" if prefix else key)
