"""Checkpoints that authors published, read strictly and converted to bundles and priors.

Every tensor of the network has a tensor in the file, and every tensor of the file has one in the network, or is known
to have no use. Anything else is an error that names the tensors. The layout of a paper's files is data in the
``checkpoints.py`` of its folder: `Names`, from our tensors to theirs.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from codec_contract.errors import ModelError
from codec_contract.lr_coder.coder_tables import CoderTables
from export import papers
from export.bundle.writer import refuse_to_replace
from export.decoder.export import Comparison
from server_decoder.stylegan2 import NVIDIA_LICENCE

SOURCES = {  # name -> folder of the paper, whose checkpoints.py has convert(source, files, out, options)
    "grain": "grain",
    "irn": "irn",
    "irn-plus": "irn",
    "glean": "face_sr",
    "gcfsr": "face_sr",
    "stylegan2-nvidia": "stylegan",
    "stylegan2-rosinality": "stylegan",
}
STORAGE = "Weights are stored as float16. The payload's coder tables are the general ones, not fitted to these LRs."
"""Remark on the card of a converted bundle."""
_STYLEGAN2 = f"NVIDIA's StyleGAN2: {NVIDIA_LICENCE}."
_NO_LICENCE = "states no licence: ask its authors before you use or pass on the weights."
_FACES = "FFHQ: CC BY-NC-SA 4.0. CelebA-HQ: non-commercial research."
AUTHORS: dict[str, dict[str, str]] = {  # source of converted checkpoints -> licences of the authors' weights
    "grain": {"weights": f"cszzx/GRAIN {_NO_LICENCE} The generator inside is {_STYLEGAN2}", "data": _FACES},
    "irn": {"weights": "Apache-2.0, as pkuxmq/Invertible-Image-Rescaling.", "data": "DIV2K: academic research only."},
    "glean": {
        "weights": f"Apache-2.0, as open-mmlab/mmagic. The generator inside is {_STYLEGAN2}",
        "data": f"{_FACES} LSUN for other domains.",
    },
    "gcfsr": {"weights": f"hejingwenhejingwen/GCFSR {_NO_LICENCE}", "data": _FACES},
}
Names = Mapping[str, str | Callable[..., str]]
"""A network's names of tensors -> the file's. In ours ``#`` is a number and ``*`` the rest of the name: they fill the
braces of theirs, or are the arguments of a function that returns it."""


class Options(NamedTuple):
    """Choices for a conversion."""

    lr: int | None = None  # side of a GCFSR bundle's LRs; None for the usual one
    domain: str = "faces"  # of the training pictures; only GLEANs were published for others
    force: bool = False  # replace an existing result
    reduction: str = "bicubic"  # of GLEAN's and GCFSR's bundles, as in the papers

    def described(self, source: str, tensor_maps: Sequence[TensorMap]) -> dict[str, Any]:
        """What `write_compared` takes of every converted bundle; its manifest names the files."""
        files = [{"file": read.file, "sha256": read.sha256} for read in tensor_maps]
        fields = {"training": {"converted_from": files}, "licence": AUTHORS[source.removesuffix("-plus")]}
        return {"tables": CoderTables.default(), "formats": ("onnx",), "force": self.force, **fields}


@dataclass(frozen=True)
class Report:
    """Result of a conversion; its fields are those of ``edgegrain convert --json``."""

    source: str
    path: str  # the folder of the bundle, or the prior's file
    parameters: Mapping[str, int]  # by network
    files: Sequence[TensorMap]
    decoder_beside_torch: Comparison | None = None  # None without a bundle


def convert(source: str, files: Sequence[Path], out: Path, options: Options) -> Report:
    """Convert checkpoints, GRAIN's three or four, else one, to a bundle's folder ``out``; a StyleGAN2 to a file."""
    if not source.startswith("stylegan2"):
        refuse_to_replace(out, options.force)
    if source != "grain" and len(files) != 1:
        raise ModelError(f"{source} is converted from one file, got {len(files)}")
    report: Report = papers.load(f"{SOURCES[source]}.checkpoints:convert")(source, files, out, options)
    return report


def count(network: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


@dataclass(frozen=True)
class TensorMap:
    """The mapping of one file's tensors."""

    file: str
    sha256: str
    names: Mapping[str, str]  # name in the file -> name in the network
    unused: Sequence[str]  # names in the file of tensors that the network does not have


def rename(ours: str, names: Names) -> str:
    """The file's name of a network's tensor; "" if no pattern fits."""
    for pattern, theirs in names.items():
        if found := re.fullmatch(re.escape(pattern).replace(r"\#", r"(\d+)").replace(r"\*", "(.+)"), ours):
            parts = [int(part) if part.isdecimal() else part for part in found.groups()]
            return theirs.format(*parts) if isinstance(theirs, str) else theirs(*parts)
    return ""


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a checkpoint file under a prefix, and those left out."""

    path: Path
    tensors: Mapping[str, Tensor]  # by the names without the prefix
    prefix: str = ""  # of every name in the file, such as "params_ema."
    unused: tuple[str, ...] = ()  # names in the file with another prefix

    def full_name(self, name: str) -> str:
        """The name in the file of a tensor in `tensors`."""
        return self.prefix + name

    def under(self, prefix: str) -> TensorFile:
        """The part under one more prefix; the others are not used."""
        inside = {name[len(prefix) :]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}
        others = (self.full_name(name) for name in self.tensors if not name.startswith(prefix))
        return TensorFile(self.path, inside, self.prefix + prefix, (*self.unused, *others))

    def dimension(self, name: str, index: int) -> int:
        """One dimension of a tensor that sizes are read from."""
        tensor, full_name = self.tensors.get(name), self.full_name(name)
        if tensor is None:
            raise ModelError(f"{self.path} lacks the tensor {full_name!r}")
        if not -tensor.ndim <= index < tensor.ndim:
            raise ModelError(f"{self.path}: {full_name!r} has the shape {list(tensor.shape)}, expected a weight")
        return tensor.shape[index]

    def count(self, pattern: str, step: int = 1) -> int:
        """Number of consecutive indices 0, ``step``, 2 ``step``, ... with which ``pattern`` begins a name."""
        found = 0
        while any(name.startswith(pattern.format(found * step)) for name in self.tensors):
            found += 1
        return found

    def widths(self, pattern: str, step: int = 1) -> tuple[int, ...]:
        """First dimensions of the tensors ``pattern`` with these indices."""
        return tuple(self.dimension(pattern.format(index * step), 0) for index in range(self.count(pattern, step)))

    @contextmanager
    def reading(self, network: str) -> Iterator[None]:
        """Sizes that a configuration refuses are those of another network."""
        try:
            yield
        except ModelError:
            raise
        except ValueError as error:
            raise ModelError(f"{self.path} is no {network}: {error}") from error


def open_tensors(path: Path, wrappers: tuple[str, ...] = ()) -> TensorFile:
    """The tensors of a ``.safetensors`` or torch file under every prefix of ``wrappers`` that is found, and under the
    ``module.`` of data parallelism; nothing but tensors and plain values is unpickled."""
    found = TensorFile(path, _read_tensors(path))
    if not found.tensors:
        raise ModelError(f"{path} holds no tensors")
    for wrapper in (*wrappers, "module."):
        others = [name for name in found.tensors if not name.startswith(wrapper)]
        if len(others) < len(found.tensors) and not (wrapper == "module." and others):
            found = found.under(wrapper)
    return found


@torch.no_grad()
def fill(network: nn.Module, source: TensorFile, names: Names, unused: tuple[str, ...] = ()) -> TensorMap:
    """Load a file into a network, after all checks; tensors that ``names`` does not hold stay unchanged. ``unused``:
    beginnings of names in the file of which the network has no such tensor."""
    state, tensors, full_name = network.state_dict(), source.tensors, source.full_name
    placed = {ours: theirs for ours in state if (theirs := rename(ours, names))}
    used = set(placed.values())
    spare = {name for name in tensors if name.startswith(unused) and name not in used}
    shapes = [(name, tensors[name].shape, state[ours].shape) for ours, name in placed.items() if name in tensors]
    wrong = {
        "missing": [full_name(name) for name in used - tensors.keys()],
        "unknown": [full_name(name) for name in tensors.keys() - spare - used],
        # Layouts differ in dimensions of one: [1, out, in, k, k] for modulated convolutions, [1] for a scalar.
        "of another shape": [
            f"{full_name(name)} is {list(theirs)}, expected {list(ours)}"
            for name, theirs, ours in shapes
            if [side for side in theirs if side != 1] != [side for side in ours if side != 1]
        ],
    }
    if problems := [_some(what, sorted(found)) for what, found in wrong.items() if found]:
        raise ModelError(f"{source.path} does not fit its layout: {'; '.join(problems)}")
    for ours, name in placed.items():
        state[ours].copy_(tensors[name].reshape(state[ours].shape))
    with source.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    taken = {full_name(name): ours for ours, name in placed.items()}
    return TensorMap(source.path.name, digest, taken, sorted({*source.unused, *map(full_name, spare)}))


def _some(what: str, names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''} {what} ({', '.join(names[:most])}{more})"


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file; the names of nested dictionaries are joined by dots."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # A training checkpoint of rosinality's carries its command line: a namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # `_reason` says so
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's restricted unpickler raises exceptions of any class for malformed bytes
        raise ModelError(
            f"{path} cannot be read as tensors: {_reason(error)}. Expected a .safetensors file or a torch file of "
            "plain tensors. NVIDIA's .pkl files hold program code: write their tensors to a file once, by name, where "
            "their code is installed"
        ) from error
    return dict(_flatten(content))


def _reason(error: Exception) -> str:
    """The reason in plain words; torch's own text advises to switch its protection off."""
    if isinstance(error, (OSError, RuntimeError, SafetensorError)):
        return str(error).partition("\n")[0].rstrip(".")
    if name := re.search(r"GLOBAL `?([\w.]+)", str(error)):
        return f"it contains program code ({name[1].rstrip('.')}) and was refused; none of it was run"
    return "it is damaged, no torch file, or a pickle that can contain program code and was refused; none of it was run"


def _flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(key, str):
                yield from _flatten(value, f"{prefix}.{key}" if prefix else key)
