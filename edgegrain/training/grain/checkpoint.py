"""What a run leaves behind: weights as safetensors files of at most 16 MB, the first of which names the others.

Optimizer moments are not stored: a warm-up rebuilds them, and a checkpoint stays small enough to travel.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from codec_contract.errors import BundleError
from edgegrain.training.adversarial import Opponent
from edgegrain.training.grain.autoencoder import Autoencoder, build_autoencoder
from edgegrain.training.grain.stages import StageConfig
from edgegrain.training.weight_shards import load_shards, save_shards
from server_decoder.generative_prior import GenerativePrior, digest

CHECKPOINT = "last.safetensors"


@dataclass
class Run:
    """The state of a training run.

    Attributes:
        model: what the optimizer moves.
        average: the same with averaged weights: what is evaluated and published.
        opponent: the discriminator, in stages that have one.
        pictures: seen in this stage.
        history: the stages before this one, ``{"stage": ..., "pictures": ...}``.
    """

    model: Autoencoder
    average: Autoencoder
    config: StageConfig
    opponent: Opponent | None = None
    pictures: int = 0
    history: tuple[Mapping[str, Any], ...] = ()


def checkpoint_path(run: Path) -> Path:
    """The checkpoint's first file, of a run's folder or that file itself."""
    return run / CHECKPOINT if run.is_dir() else run


def save_run(folder: Path, run: Run) -> None:
    """Write a run's checkpoint; whenever the writing is interrupted, a whole one is there."""
    tensors = {f"model.{name}": tensor for name, tensor in _stored(run.model)}
    trained = {name for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    tensors |= {f"average.{name}": tensor for name, tensor in _stored(run.average) if name in trained}
    if run.opponent is not None:
        tensors |= {f"discriminator.{name}": tensor
                    for name, tensor in run.opponent.discriminator.state_dict().items()}
    prior = run.model.prior
    metadata = {"config": json.dumps(run.config.as_dict()), "pictures": str(run.pictures),
                "history": json.dumps(list(run.history)), "prior": digest(prior) if prior is not None else ""}
    save_shards(folder / CHECKPOINT, tensors, metadata, run.pictures)


def load_run(path: Path, prior: GenerativePrior | None = None) -> Run:
    """A run from its folder or its checkpoint's first file, on the CPU.

    Args:
        path: the run.
        prior: the generator it was trained with; its weights are in no checkpoint, for they never change.

    Raises:
        BundleError: the file is no checkpoint, a part of it is absent, or it was trained with another prior.
    """
    path = checkpoint_path(path)
    try:
        metadata, tensors = load_shards(path)
        config = StageConfig.from_dict(json.loads(metadata["config"]))
        if metadata.get("prior") and prior is None:
            raise BundleError(f"{path} was trained with a generator, whose file is needed too (--prior)")
        if metadata.get("prior") and prior is not None and metadata["prior"] != digest(prior):
            raise BundleError(f"{path} was trained with another generator than the one given")
        model = build_autoencoder(config, prior)
        state = {name.removeprefix("model."): tensor for name, tensor in tensors.items()
                 if name.startswith("model.")}
        _load(model, state)
        average = copy.deepcopy(model)
        _load(average, state | {name.removeprefix("average."): tensor for name, tensor in tensors.items()
                                if name.startswith("average.")})
        opponent = None
        judge = {name.removeprefix("discriminator."): tensor for name, tensor in tensors.items()
                 if name.startswith("discriminator.")}
        if config.adversarial is not None and judge:
            opponent = Opponent(config.adversarial)
            opponent.discriminator.load_state_dict(judge)
        return Run(model, average.requires_grad_(False), config, opponent, int(metadata["pictures"]),
                   tuple(json.loads(metadata.get("history", "[]"))))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path} is not a training checkpoint ({error})") from error


def read_config(path: Path) -> StageConfig:
    """The configuration of a run, without its weights.

    Raises:
        BundleError: there is no checkpoint.
    """
    path = checkpoint_path(path)
    try:
        with safe_open(path, "pt") as file:
            return StageConfig.from_dict(json.loads((file.metadata() or {})["config"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} is not a training checkpoint ({error})") from error


def _stored(model: Autoencoder) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.state_dict().items():
        if not model.is_prior(name):
            yield name, tensor


def _load(model: Autoencoder, state: Mapping[str, Tensor]) -> None:
    missing, unexpected = model.load_state_dict(dict(state), strict=False)
    missing = [name for name in missing if not model.is_prior(name)]
    if missing or unexpected:
        raise KeyError(f"missing {missing[:3]}, unexpected {unexpected[:3]}")
