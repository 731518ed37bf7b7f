"""The checkpoint of a training run, a safetensors file.

The header holds the family, the configuration, the pictures seen, the progress and a few values of the family.
Optimizer moments are not stored; most recipes rebuild them in a warm-up.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from codec_contract.errors import EdgegrainError, ModelError
from codec_contract.files import write_atomically
from edgegrain.training.adversarial import AdversarialLoss
from edgegrain.training.recipe import continued

Network = TypeVar("Network", bound=nn.Module)

CHECKPOINT = "last.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read: the recipe and further values as plain JSON, tensors by ``PREFIX.NAME``."""

    config: dict[str, Any]
    pictures: int
    state: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The state dict of a network; empty if the checkpoint does not have it."""
        start = f"{prefix}."
        return {name.removeprefix(start): each for name, each in self.tensors.items() if name.startswith(start)}


@dataclass
class Run:
    """The state of a training run, as a checkpoint holds it. A family adds what it stores besides.

    Attributes:
        recipe: what is trained, and how.
        model, average: the network that the optimizer changes, and that with averaged weights, which is published.
        adversarial: the discriminator, in recipes that have one.
        pictures: seen so far.
        prefix: of the model in a checkpoint.
        frozen: prefixes of the weights that no checkpoint holds.
    """

    recipe: Any
    model: Any
    average: Any
    adversarial: AdversarialLoss | None = None
    pictures: int = 0

    family: ClassVar[str]
    prefix: ClassVar[str] = "model"
    frozen: ClassVar[tuple[str, ...]] = ()

    def networks(self) -> dict[str, nn.Module]:
        """All networks by their prefix in a checkpoint."""
        networks = {self.prefix: self.model, "average": self.average}
        return networks if self.adversarial is None else {**networks, "discriminator": self.adversarial.discriminator}

    def tensors(self) -> dict[str, Tensor]:
        """Everything to store, by ``PREFIX.NAME``."""
        return {
            f"{prefix}.{name}": tensor
            for prefix, network in self.networks().items()
            for name, tensor in network.state_dict().items()
            if not name.startswith(self.frozen)
        }

    def state(self) -> dict[str, Any]:
        """Further values to store, plain JSON."""
        return {}

    def load(self, stored: Checkpoint) -> Self:
        """This run with the weights and the number of pictures of a checkpoint; a KeyError if it has others."""
        for prefix, network in self.networks().items():
            missing, unexpected = network.load_state_dict(stored.part(prefix), strict=False)
            if others := [name for name in missing if not name.startswith(self.frozen)] + unexpected:
                raise KeyError(f"missing or unknown weights: {others[:3]}")
        self.pictures = stored.pictures
        return self

    def resume(self, recipe: Any, discriminator: nn.Module | None = None, **kept: Any) -> None:
        """Go on with a recipe, except for the shapes ``kept``; ``discriminator``: a trained one for a run without."""
        wanted = recipe.adversarial
        if wanted is None or self.adversarial is None:
            self.adversarial = wanted and AdversarialLoss(wanted, discriminator)
        else:  # the run's own discriminator
            self.adversarial.config = continued(wanted, discriminator=self.adversarial.config.discriminator)
        self.recipe = continued(recipe, adversarial=self.adversarial and self.adversarial.config, **kept)

    def save_weights(self, folder: Path) -> None:
        """Write the averaged network as a file that other commands use, if the family has such a file."""


def take_weights(network: Any, trained: Any, start: str | Path) -> None:
    """Give a network the weights of the one in ``start``, of the same shape."""
    if trained.config != network.config:
        raise ModelError(f"{start} holds {trained.config}, the recipe has {network.config}")
    network.load_state_dict(trained.state_dict())


def frozen_copy(network: Network) -> Network:
    """A copy for averaged weights, in evaluation mode."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def checkpoint_path(run: Path) -> Path:
    """The first file of a checkpoint, given a run's folder or that file itself."""
    return run / CHECKPOINT if run.is_dir() else run


def save_checkpoint(folder: Path, run: Run, progress: float = 1.0) -> None:
    """Write the checkpoint of a run that has come to ``progress``, 0...1, of its schedule."""
    header = {
        "family": run.family,
        "config": json.dumps(run.recipe.as_dict()),
        "pictures": str(run.pictures),
        "progress": str(progress),
        "state": json.dumps(run.state()),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in run.tensors().items()}
    write_atomically(folder / CHECKPOINT, save(tensors, header), force=True)


@contextlib.contextmanager
def open_checkpoint(run: Path, family: str) -> Iterator[Checkpoint]:
    """Read a checkpoint of a family; errors while its contents are used are reported as a damaged file."""
    with open_header(run) as header:
        path = checkpoint_path(run)
        if (found := header.get("family")) != family:
            raise ModelError(f"{path} is a checkpoint of {found or 'no known family'}, expected {family}")
        config, state = json.loads(header["config"]), json.loads(header["state"])
        yield Checkpoint(config, int(header["pictures"]), state, load_file(path))


@contextlib.contextmanager
def open_header(run: Path) -> Iterator[dict[str, str]]:
    """Read the header of a checkpoint, without its weights; errors as of `open_checkpoint`."""
    path = checkpoint_path(run)
    try:
        with safe_open(path, "pt") as file:
            yield file.metadata() or {}
    except EdgegrainError:
        raise
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} is not a training checkpoint ({error})") from error
