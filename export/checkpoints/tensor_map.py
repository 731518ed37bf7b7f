"""Placing a file's tensors into a network of ours by name, strictly, and the record of what went where.

Every tensor of the network has its place in the file, and every tensor of the file a place in the network, or stands on
the layout's short list of what the network has no use for. Anything else is an error that names the tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder.public_checkpoint import read_tensors

_NAMED = 8  # tensors that a message names of each kind


@dataclass(frozen=True)
class TensorMap:
    """What became of the tensors of a file.

    Attributes:
        file: its name.
        sha256: of the file, in hex.
        names: its name of a tensor -> ours.
        unused: its name of a tensor that no network of ours has -> why.
        made: our name of a tensor that the file does not hold -> where it comes from.
    """

    file: str
    sha256: str
    names: Mapping[str, str]
    unused: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a checkpoint file, and what was left aside on the way to them.

    Attributes:
        path: of the file.
        prefix: what stands before every name in the file, such as ``"params_ema."``.
        tensors: by the names without it.
        unused: names in the file that have another prefix -> why they are not used.
    """

    path: Path
    prefix: str
    tensors: Mapping[str, Tensor]
    unused: Mapping[str, str] = field(default_factory=dict)

    def full_name(self, name: str) -> str:
        """The name in the file of a tensor in `tensors`."""
        return self.prefix + name

    def dimension(self, name: str, index: int) -> int:
        """One dimension of a tensor that sizes are read from.

        Raises:
            ModelError: the file has no such tensor, or it has fewer dimensions.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelError(f"{self.path} lacks the tensor {self.full_name(name)!r}")
        if not -tensor.ndim <= index < tensor.ndim:
            raise ModelError(f"{self.path}: {self.full_name(name)!r} has the shape {list(tensor.shape)}, expected a "
                             "weight")
        return int(tensor.shape[index])

    def count(self, pattern: str, step: int = 1) -> int:
        """How many of ``pattern`` with 0, ``step``, 2 ``step``, ... in its braces begin a name, up to the first that
        does not."""
        found = 0
        while any(name.startswith(pattern.format(found * step)) for name in self.tensors):
            found += 1
        return found


class Placed(NamedTuple):
    """What `place` found.

    Attributes:
        state: our names -> tensors, float32.
        names: the file's full names -> ours.
        unused: the file's full names -> why they are not used.
    """

    state: dict[str, Tensor]
    names: dict[str, str]
    unused: dict[str, str]


def open_tensors(path: Path, wrappers: tuple[str, ...] = ()) -> TensorFile:
    """The tensors of a ``.safetensors`` or torch file; nothing but tensors and plain values is unpickled.

    Args:
        path: of the file.
        wrappers: prefixes, most wanted first: of the first one that is there, the tensors under it are the file's. Data
            parallelism's ``module.`` is taken off too.

    Raises:
        ModelError: the file cannot be read, holds program code, or holds no tensors.
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
        wanted: the state that our network has now, or a part of it; only names and shapes matter.
        theirs: our name of a tensor -> the file's; None for one that files of this layout do not hold.
        prefix: of our names in the record.
        unused: beginning of a name in the file -> why our network has no such tensor.

    Raises:
        ModelError: tensors are missing, unknown or of another shape; the message names them.
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
    """Load a state that `place` gave; what it does not hold stays as it is."""
    network.load_state_dict({**network.state_dict(), **state})


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fits(tensor: Tensor, ours: Tensor) -> bool:
    # Layouts differ in dimensions of one: [1, out, in, k, k] for weights of modulated convolutions, [1] for a scalar.
    return [side for side in tensor.shape if side != 1] == [side for side in ours.shape if side != 1]


def _some(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''} {what} ({', '.join(names[:_NAMED])}{more})"
