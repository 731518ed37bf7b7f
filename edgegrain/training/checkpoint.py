"""The checkpoint of a training run: safetensors files of at most 16 MB each, or of one larger tensor; the first names
the others.

The header holds the family, the configuration, the pictures seen, the progress and a few values of the family.
Optimizer moments are not stored, so that a checkpoint stays small enough to travel; most recipes rebuild them in a
warm-up.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError, ModelError
from edgegrain.training.family import Run
from edgegrain.training.run_folder import CHECKPOINT, LOG, ended_after
from edgegrain.training.weight_shards import load_shards, save_shards

# Format tags of edgegrain 0.5 and earlier; GRAIN's checkpoints had none.
_OLD_FORMATS = {
    "edgegrain IRN training 1": "irn", "edgegrain face SR training 1": "face_sr", "edgegrain-prior-run-1": "stylegan2",
    "edgegrain-distillation-1": "distillation"}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        config: the recipe, as plain JSON values.
        pictures: seen so far.
        state: further values of the family, plain JSON.
        tensors: on the CPU, by ``PREFIX.NAME``.
    """

    config: dict[str, Any]
    pictures: int
    state: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The state dict of a network; empty if the checkpoint does not have it."""
        return {name.removeprefix(f"{prefix}."): tensor for name, tensor in self.tensors.items()
                if name.startswith(f"{prefix}.")}


def checkpoint_path(run: Path) -> Path:
    """The first file of a checkpoint, given a run's folder or that file itself."""
    return run / CHECKPOINT if run.is_dir() else run


def prefixed(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The tensors of networks by ``PREFIX.NAME``."""
    return {f"{prefix}.{name}": tensor for prefix, network in networks.items()
            for name, tensor in network.state_dict().items()}


def save_checkpoint(folder: Path, run: Run, progress: float = 1.0) -> None:
    """Write the checkpoint of a run that has come to ``progress``, 0...1, of its schedule.

    An interrupted write leaves the previous one whole.
    """
    header = {"family": run.family, "config": json.dumps(run.recipe.as_dict()), "pictures": str(run.pictures),
              "progress": str(progress), "state": json.dumps(run.state())}
    save_shards(folder / CHECKPOINT, run.tensors(), header, run.pictures)


@contextlib.contextmanager
def open_checkpoint(run: Path, family: str) -> Iterator[Checkpoint]:
    """Read a checkpoint; errors while its contents are used are reported as a damaged file.

    Args:
        run: folder of the run, or the checkpoint's first file.
        family: the family it must be of.

    Raises:
        ModelError: there is no checkpoint, a part of it is missing or damaged, or it is of another family.
    """
    path = checkpoint_path(run)
    with _errors(path):
        metadata, tensors = load_shards(path)
        found = _family(metadata)
        if found != family:
            raise ModelError(f"{path} is a checkpoint of {found or 'no known family'}, expected {family}")
        state = _state(metadata)
        pictures = int(metadata["pictures"]) if "pictures" in metadata else int(state["pictures"])
        yield Checkpoint(json.loads(metadata["config"]), pictures, state, tensors)


def read_checkpoint_header(run: Path) -> dict[str, str]:
    """The header of a checkpoint, without its weights.

    Raises:
        ModelError: there is no checkpoint.
    """
    path = checkpoint_path(run)
    with _errors(path), safe_open(path, "pt") as file:
        return file.metadata() or {}


def progress_of(folder: Path) -> float:
    """The part of its schedule that an interrupted run had behind it, 0...1.

    0 without a run, if it had ended, or if it came to its end and has no log, as after a copy of the checkpoint alone;
    1 if only the last evaluation is missing in the log.
    """
    if not (folder / CHECKPOINT).is_file():
        return 0.0
    with _errors(folder / CHECKPOINT):
        header = read_checkpoint_header(folder)
        progress = float(header.get("progress", 0))  # earlier checkpoints have none
        pictures = int(header.get("pictures", 0))
    if progress < 1:
        return progress
    return 0.0 if ended_after(folder, pictures) or not (folder / LOG).is_file() else 1.0


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except EdgegrainError:
        raise
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} is not a training checkpoint ({error})") from error


def _family(metadata: Mapping[str, str]) -> str:
    if "family" in metadata or "format" in metadata:
        return metadata.get("family") or _OLD_FORMATS.get(metadata["format"], "")
    return "grain" if {"config", "pictures"} <= metadata.keys() else ""


def _state(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The family's values; checkpoints of edgegrain 0.5 had some of them in the header itself."""
    state: dict[str, Any] = {name: metadata[name] for name in ("prior", "bank") if name in metadata}
    if "history" in metadata:
        state["history"] = json.loads(metadata["history"])
    return state | json.loads(metadata.get("state", "{}"))
