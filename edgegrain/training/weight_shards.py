"""Tensors in several safetensors files of at most 16 MB, or of one larger tensor; the first file names the others."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from codec_contract.files import write_atomically

FILE_LIMIT = 16_000_000  # bytes; a single tensor larger than that gets a file of its own
_HEADER = 200_000  # room for the file's header


def save_shards(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], serial: int) -> None:
    """Write tensors to ``path`` and, if they are larger than one file, to ``STEM-SERIAL-N.safetensors`` next to it.

    The first file is replaced last, and no other file is replaced, so that after an interruption the first file and the
    files that it names belong together. At the end, the further files of earlier calls are removed. A call that fails
    removes its own.

    Args:
        path: the first file, ``.safetensors``.
        tensors: name -> tensor, on any device.
        metadata: for the first file's header; ``files`` is reserved.
        serial: number for the names of the further files; if files have it already, the next free number is used.
    """
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and used + size > FILE_LIMIT - _HEADER:
            shards.append({})
            used = 0
        shards[-1][name] = tensor.detach().cpu().contiguous()
        used += size
    while any(path.parent.glob(f"{path.stem}-{serial:010}-*")):
        serial += 1
    names = [f"{path.stem}-{serial:010}-{index}.safetensors" for index in range(1, len(shards))]
    try:
        for name, shard in zip(names, shards[1:], strict=True):
            write_atomically(path.parent / name, save(shard))
        write_atomically(path, save(shards[0], metadata={**metadata, "files": json.dumps(names)}), force=True)
    except Exception:  # on a full disk they would leave no room for the next attempt
        for name in names:
            (path.parent / name).unlink(missing_ok=True)
        raise
    of_a_call = re.compile(rf"{re.escape(path.stem)}-\d{{10}}-\d+\.safetensors")
    for old in path.parent.iterdir():
        if of_a_call.fullmatch(old.name) and old.name not in names:
            old.unlink()


def load_shards(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors, on the CPU.

    Raises:
        OSError, SafetensorError: a file is missing or damaged.
        ValueError: the first file names one outside its folder.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    for name in json.loads(metadata.get("files", "[]")):
        if Path(name).name != name:
            raise ValueError(f"it names a file outside its folder: {name!r}")
        with safe_open(path.parent / name, "pt") as file:
            tensors |= {key: file.get_tensor(key) for key in file.keys()}
    return metadata, tensors
