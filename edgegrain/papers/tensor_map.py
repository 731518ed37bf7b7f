"""Strict mapping of a checkpoint's tensors to a network's by name, and a record of it.

Every tensor of the network has a tensor in the file, and every tensor of the file one in the network, or it is on the
layout's list of unused tensors. Anything else is an error that names the tensors.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from codec_contract.errors import ModelError

_NAMED = 8  # tensors that a message names of each kind


@dataclass(frozen=True)
class TensorMap:
    """The mapping of one file's tensors.

    Attributes:
        file: its name.
        sha256: of the file, in hex.
        names: name in the file -> name in the network.
        unused: name in the file of a tensor that the network does not have -> reason.
        made: name in the network of a tensor that the file does not hold -> its origin.
    """

    file: str
    sha256: str
    names: Mapping[str, str]
    unused: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a checkpoint file under a prefix, and those left out.

    Attributes:
        path: of the file.
        prefix: of every name in the file, such as ``"params_ema."``.
        tensors: by the names without it.
        unused: names in the file with another prefix -> why they are not used.
    """

    path: Path
    prefix: str
    tensors: Mapping[str, Tensor]
    unused: Mapping[str, str] = field(default_factory=dict)

    def full_name(self, name: str) -> str:
        """The name in the file of a tensor in `tensors`."""
        return self.prefix + name

    def dimension(self, name: str, index: int) -> int:
        """One dimension of a tensor that sizes are read from."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelError(f"{self.path} lacks the tensor {self.full_name(name)!r}")
        if not -tensor.ndim <= index < tensor.ndim:
            raise ModelError(f"{self.path}: {self.full_name(name)!r} has the shape {list(tensor.shape)}, expected a "
                             "weight")
        return int(tensor.shape[index])

    def count(self, pattern: str, step: int = 1) -> int:
        """Number of consecutive indices 0, ``step``, 2 ``step``, ... with which ``pattern`` begins a name."""
        found = 0
        while any(name.startswith(pattern.format(found * step)) for name in self.tensors):
            found += 1
        return found


class Placed(NamedTuple):
    """Result of `place`.

    Attributes:
        state: names in the network -> tensors, float32.
        names: full names in the file -> names in the network.
        unused: full names in the file -> why they are not used.
    """

    state: dict[str, Tensor]
    names: dict[str, str]
    unused: dict[str, str]


def open_tensors(path: Path, wrappers: tuple[str, ...] = ()) -> TensorFile:
    """The tensors of a ``.safetensors`` or torch file; nothing but tensors and plain values is unpickled.

    Args:
        path: of the file.
        wrappers: prefixes, preferred ones first: only the tensors under the first one found are taken. The prefix
            ``module.`` of data parallelism is removed too.
    """
    found: Mapping[str, Tensor] = read_tensors(path)
    if not found:
        raise ModelError(f"{path} holds no tensors")
    prefix, unused = "", dict[str, str]()
    for wrapper in (*wrappers, "module."):
        inside = {name.removeprefix(wrapper): tensor for name, tensor in found.items() if name.startswith(wrapper)}
        if inside and not (wrapper == "module." and len(inside) != len(found)):
            unused |= {prefix + name: f"not part of {wrapper.rstrip('.')}" for name in found
                       if not name.startswith(wrapper)}
            prefix, found = prefix + wrapper, inside
    return TensorFile(path, prefix, found, unused)


def place(source: TensorFile, wanted: Mapping[str, Tensor], theirs: Callable[[str], str | None], *, prefix: str = "",
          unused: Mapping[str, str] | None = None) -> Placed:
    """A network's state from a file, after all checks.

    Args:
        source: the file.
        wanted: the network's state, or a part of it; only names and shapes are used.
        theirs: name in the network -> name in the file; None for a tensor that files of this layout do not hold.
        prefix: of the network's names in the record.
        unused: beginning of a name in the file -> why the network has no such tensor.
    """
    names = {ours: name for ours in wanted if (name := theirs(ours)) is not None}
    used = set(names.values())
    spare = {name: why for start, why in (unused or {}).items() for name in source.tensors
             if name.startswith(start) and name not in used}
    missing = [source.full_name(name) for name in used if name not in source.tensors]
    unknown = [source.full_name(name) for name in source.tensors if name not in spare and name not in used]
    misshapen = [f"{source.full_name(name)} is {list(source.tensors[name].shape)}, expected {list(wanted[ours].shape)}"
                 for ours, name in names.items() if name in source.tensors
                 and not _fits(source.tensors[name], wanted[ours])]
    problems = [_some(what, sorted(found)) for what, found in (
        ("missing", missing), ("unknown", unknown), ("of another shape", misshapen)) if found]
    if problems:
        raise ModelError(f"{source.path} does not fit its layout: {'; '.join(problems)}")
    state = {ours: source.tensors[name].detach().to(torch.float32, copy=True).reshape(wanted[ours].shape).contiguous()
             for ours, name in names.items()}
    return Placed(state, {source.full_name(name): prefix + ours for ours, name in names.items()},
                  {source.full_name(name): why for name, why in spare.items()})


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state from `place`; tensors that it does not hold stay unchanged."""
    network.load_state_dict({**network.state_dict(), **state})


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fits(tensor: Tensor, ours: Tensor) -> bool:
    # Layouts differ in dimensions of one: [1, out, in, k, k] for weights of modulated convolutions, [1] for a scalar.
    return [side for side in tensor.shape if side != 1] == [side for side in ours.shape if side != 1]


def _some(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''} {what} ({', '.join(names[:_NAMED])}{more})"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a ``.safetensors`` or torch file by name; nested dictionaries are joined by dots."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _refuse_more_than(path, sum(entry.file_size for entry in archive.infolist()))
        # A training checkpoint of rosinality's carries its command line: a namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # `_reason` says it
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except Exception as error:  # torch's restricted unpickler raises exceptions of any class for malformed bytes
        raise ModelError(f"{path} cannot be read as tensors: {_reason(error, path)}. Expected a .safetensors file or a "
                         "torch file of plain tensors. NVIDIA's .pkl files hold program code: write their tensors to a "
                         "file once, by name, where their code is installed") from error
    tensors = dict(_flatten(content))
    _refuse_more_than(path, max((tensor.nbytes for tensor in tensors.values()), default=0))
    return tensors


def _refuse_more_than(path: Path, nbytes: int) -> None:
    """Raise `ModelError` for a file that claims more bytes than it has: torch compresses and repeats nothing."""
    if nbytes > (has := path.stat().st_size):
        raise ModelError(f"{path} claims {nbytes:,} bytes of tensors and has {has:,}; it is damaged or forged")


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
