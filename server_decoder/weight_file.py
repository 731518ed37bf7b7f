"""Weight files: safetensors with tensors of one stored type and a header that describes the network.

Every family stores its networks this way; a `WeightKind` says how its configuration is found in the header.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from codec_contract.errors import ModelError
from codec_contract.files import write_atomically

_SCALE = ".int8_scale"

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class WeightKind(Generic[Config]):
    """One kind of network in weight files: the header's entry with its configuration as JSON, the function that parses
    it, which refuses another kind's, and other entries. ``hint`` tells in error messages how to get such a file."""

    name: str
    config_entry: str
    parse: Callable[[Mapping[str, Any]], Config]
    entries: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""

    @contextmanager
    def reading(self, path: str | Path) -> Iterator[None]:
        """Turn errors of reading a file into a `ModelError` that names the file and the kind."""
        try:
            yield
        except ModelError:
            raise
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            hint = f"; {self.hint}" if self.hint else ""
            raise ModelError(f"{path} holds no {self.name} ({type(error).__name__}: {error}){hint}") from error


def save_network(
    path: str | Path,
    kind: WeightKind[Any],
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    records: Mapping[str, Any] | None = None,
    entries: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
    compact: bool = False,
    force: bool = False,
) -> Path:
    """Write a network. More entries of the header are stored as JSON (``records``, for `read_record`) or as text.

    ``compact`` stores matrices and kernels from 4096 numbers on as int8, each output channel in steps of 1/127 of its
    largest weight.
    """
    described = {name: json.dumps(value) for name, value in (records or {}).items()}
    header = {**(entries or {}), **described, **kind.entries, kind.config_entry: json.dumps(config)}
    tensors = {}
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise ModelError(f"weight {name!r} has values that are not finite; the training diverged")
        if compact and tensor.ndim > 1 and tensor.numel() >= 4096:
            tensors[name], tensors[name + _SCALE] = _int8(tensor)
            continue
        stored = tensor.detach().cpu().to(dtype)
        if not stored.isfinite().all():
            raise ModelError(f"weight {name!r} does not fit {dtype} (largest {tensor.abs().max():g})")
        tensors[name] = stored.contiguous()
    return write_atomically(path, save(tensors, metadata=header), force=force)


def read_config(path: str | Path, kind: WeightKind[Config]) -> Config:
    """The configuration in a file's header."""
    with kind.reading(path):
        header = read_header(path)
        for name, value in kind.entries.items():
            if header.get(name) != value:
                raise ValueError(f"{name} {header.get(name)!r}, expected {value!r}")
        return kind.parse(json.loads(header[kind.config_entry]))


def read_record(path: str | Path, kind: WeightKind[Any], name: str, default: Any) -> Any:
    """A JSON entry of a file's header, or ``default`` if it has none."""
    with kind.reading(path):
        header = read_header(path)
        return json.loads(header[name]) if name in header else default


def fill_network(network: nn.Module, path: str | Path, kind: WeightKind[Any], *, without: str | None = None) -> None:
    """Load a file's tensors into a network; strict, but for the network's tensors under ``without``, which such files
    do not hold."""
    fill(network, read_weights(path, kind), path, without=without)


def fill(network: nn.Module, state: Mapping[str, Tensor], path: str | Path, *, without: str | None = None) -> None:
    """Load a state that was read from ``path``; strict, as `fill_network`."""
    wanted = {name for name in network.state_dict() if without is None or not name.startswith(without)}
    missing, unknown = sorted(wanted - set(state)), sorted(set(state) - wanted)
    try:
        if missing or unknown:
            raise RuntimeError(f"missing {missing[:3]}, unknown {unknown[:3]}")
        network.load_state_dict(dict(state), strict=without is None)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit the sizes in its header: {error}") from error


def read_header(path: str | Path) -> dict[str, str]:
    """All entries of a file's header."""
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def read_weights(path: str | Path, kind: WeightKind[Any], prefix: str = "") -> dict[str, Tensor]:
    """The tensors under a prefix by the names after it, float32 on the CPU."""
    with kind.reading(path), safe_open(path, "pt") as file:
        names, tensors = set(file.keys()), {}
        for name in names:
            if name.startswith(prefix) and not name.endswith(_SCALE):
                tensor = file.get_tensor(name).float()
                if name + _SCALE in names:
                    tensor *= file.get_tensor(name + _SCALE)  # in place: a scale cannot enlarge a tensor
                tensors[name.removeprefix(prefix)] = tensor
        return tensors


def described_network(path: str | Path, make: Callable[[], Network]) -> Network:
    """The network that ``make`` builds from a file's header; `ModelError` if it has more weights than the file bytes,
    and 2^26 in another file, as a generator's."""
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in make().parameters())
    if weights > (size := Path(path).stat().st_size) + (1 << 26):
        raise ModelError(
            f"{path} describes a network of {weights:,} weights and has {size:,} bytes; it is damaged or forged"
        )
    return make()


def is_compact(path: str | Path) -> bool:
    """True if `save_network` stored large tensors as int8."""
    with safe_open(path, "pt") as file:
        return any(name.endswith(_SCALE) for name in set(file.keys()))


def _int8(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Levels, and the float32 scales to multiply them by."""
    values = tensor.detach().cpu().float()
    scale = values.abs().amax(tuple(range(1, values.ndim)), keepdim=True).clamp_min(torch.finfo().tiny) / 127
    return torch.round(values / scale).to(torch.int8).contiguous(), scale
