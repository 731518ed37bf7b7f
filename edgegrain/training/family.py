"""Families of networks: the parts that one adds to the training program, all recipes by name, and the trainer that the
families share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codec_contract.errors import EdgegrainError
from edgegrain.pictures.writing import Progress
from edgegrain.training.checkpoint import Run
from edgegrain.training.distributed import Distributed, mixed_precision
from edgegrain.training.losses import MetricNetworks
from edgegrain.training.optimizers import annealed, descend, optimizers, update_averages
from export import papers

NONE = MetricNetworks()

_SHIPPED = (
    "stage1-faces-256-lr16",
    "stage1-faces-256-lr16-deep",
    "stage1-faces-256-lr16-rates",
    "stage1-faces-256-lr32-fine",
    "stage1-faces-256-lr32-rates",
    "stage1-faces-256-lr64-fine",
    "stage1-faces-256-lr64-rates",
    "stage2-faces-256-lr16-fine",
    "stage3-faces-256-lr16-fine",
    "enlarge-faces-256-x2",
    "enlarge-faces-256-x4",
    "smoke-stage1",
    "smoke-enlarge",
)
"""Recipes that made the bundles, and trial runs: `list_recipes` begins with them."""


class Trainer:
    """A run on its device, one step at a time.

    Attributes:
        pictures_in_set: number of training pictures, for the log.
        parameters, averages: the weights that are trained, and their averages.
        steps: taken in this session.
        skipped: steps whose gradient was not finite and that changed nothing.
        seed: of what is drawn in steps.
        convolutional: True to store the networks in the layout that suits convolutions.
    """

    run: Any
    convolutional = True

    def __init__(self, run: Run, distributed: Distributed, count: int, networks: MetricNetworks = NONE) -> None:
        self.run, self.distributed, self.pictures_in_set, self.networks = run, distributed, count, networks
        if run.adversarial is not None:
            run.adversarial.use(networks)
        self.steps = self.skipped = 0
        self.seed = distributed.seed(run.recipe.seed, run.pictures)
        distributed.move(run.networks().values(), convolutional=self.convolutional)
        self.trained = {name: weights for name, weights in run.model.named_parameters() if weights.requires_grad}
        averages = dict(run.average.named_parameters())
        self.parameters = list(self.trained.values())
        self.averages: list[Tensor] = [averages[name] for name in self.trained]
        self.optimizers = self.make_optimizers()

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers of `parameters`."""
        recipe = self.run.recipe
        return optimizers(self.parameters, recipe.learning_rate, recipe.muon, recipe.weight_decay)

    def step(self, progress: float) -> dict[str, Tensor]:
        """Train on one batch at this progress (0...1) of the run; returns values to log, the most important first."""
        raise NotImplementedError

    def evaluate(self) -> dict[str, float]:
        """Figures of the averaged network on pictures held out."""
        raise NotImplementedError

    def draw_samples(self, path: Path) -> None:
        """Write a sheet of the averaged network's pictures."""
        raise NotImplementedError

    def precision(self) -> torch.autocast:
        """Autocast to bfloat16 where the recipe wants it and the device computes in it."""
        return mixed_precision(self.distributed.device, self.run.recipe.bf16)

    def learning_rate(self, progress: float) -> float:
        recipe = self.run.recipe
        return annealed(recipe.learning_rate, progress, self.steps, warm_up=recipe.warm_up, hold=recipe.hold)

    def descend(self, loss: Tensor, progress: float) -> bool:
        """Step on a loss; False, and counted, if its gradients are not finite."""
        rate, clip = self.learning_rate(progress), self.run.recipe.clip_gradient
        done = descend(loss, self.parameters, self.optimizers, rate, self.distributed, clip)
        self.skipped += not done
        return done

    def train_discriminator(self, picture: Tensor, originals: Tensor, progress: float) -> dict[str, Tensor]:
        """A step of the discriminator, if there is one and it is due; returns values to log."""
        adversarial = self.run.adversarial
        if adversarial is None or progress < adversarial.config.warms_up or self.steps % adversarial.config.every:
            return {}
        with self.precision():
            terms: dict[str, Tensor] = adversarial.update_discriminator(picture, originals, self.distributed)
            return terms

    def finish_step(
        self, loss: Tensor, terms: dict[str, Tensor], progress: float, picture: Tensor, originals: Tensor
    ) -> dict[str, Tensor]:
        """Step on a loss, then let the discriminator, if any, learn from the pictures; returns values to log."""
        if not self.descend(loss, progress):
            terms["skipped"] = torch.tensor(float(self.skipped))
        terms |= self.train_discriminator(picture, originals, progress)
        self.count()
        self.update_averages()
        return {"loss": loss.detach(), **terms}

    def count(self) -> None:
        """One more step, and its pictures."""
        self.steps += 1
        self.run.pictures += self.run.recipe.batch * self.distributed.world

    def update_averages(self) -> None:
        """Move the averaged weights towards the trained ones."""
        recipe = self.run.recipe
        steps = self.run.pictures // (recipe.batch * self.distributed.world)  # of all sessions
        # The decay is smaller at first, so that random weights are forgotten.
        update_averages(self.averages, self.parameters, min(recipe.ema, (1 + steps) / (10 + steps)))


@dataclass(frozen=True)
class RunOptions:
    """Files and switches of a run that are no part of its recipe.

    Attributes:
        data: folder of training pictures; None where the recipe generates random ones.
        validation: folder of pictures to evaluate on; by default ``data``.
        exclude: name patterns of training pictures to leave out.
        weights: folder of the metrics' weights; by default the fetched ones.
        init_from: trained weights to begin with: a run; for GRAIN, GLEAN and enlargers also a bundle; for GRAIN, IRN,
            GLEAN and GCFSR a folder of the zoo; for StyleGAN2 a file of one.
        prior: generator: a file or the name of a fetched prior; by default the published one.
        discriminator: file of a trained StyleGAN2 discriminator.
        teacher: file of the StyleGAN2 to distil.
        report: called with the finished part, 0...1, and a line about it while pictures are prepared; `train` sets it.
    """

    data: Path | None = None
    validation: Path | None = None
    exclude: tuple[str, ...] = ()
    weights: Path | None = None
    init_from: str | Path | None = None
    prior: str | Path | None = None
    discriminator: Path | None = None
    teacher: str | Path | None = None
    report: Progress | None = None


@dataclass(frozen=True)
class Family:
    """A family of networks that share a trainer.

    Attributes:
        name: in checkpoints.
        title: in messages.
        open: (recipe, options, folder of the run, processes) -> trainer; continues the checkpoint in the folder if
            there is one, else starts a run.
        pictures: recipe -> pictures of a run whose length the command line leaves open.
        takes: names of the `RunOptions` that all its recipes have a use for.
        evaluate_every: pictures between evaluations.
    """

    name: str
    title: str
    recipe_class: type
    recipes: Mapping[str, Any]
    open: Callable[[Any, RunOptions, Path, Distributed], Trainer]
    pictures: Callable[[Any], int]
    takes: tuple[str, ...] = ("data", "validation", "exclude", "weights", "init_from")
    evaluate_every: int = 20_000

    def last_picture(self, recipe: Any, pictures: int | None, budget_seconds: float) -> int | None:
        """The number of pictures that ends a run, by default the recipe's; None if only time ends it."""
        return self.pictures(recipe) if pictures is None and not budget_seconds else pictures


@functools.cache
def families() -> tuple[Family, ...]:
    """All families."""
    from edgegrain.training.grain.trainer import GRAIN
    from edgegrain.training.super_resolution.trainer import SUPER_RESOLUTION

    return GRAIN, *map(papers.load, papers.TRAINING), SUPER_RESOLUTION


def family_of(recipe: Any) -> Family:
    """The family of a recipe."""
    return next(family for family in families() if isinstance(recipe, family.recipe_class))


@functools.cache
def recipes() -> Mapping[str, Any]:
    """Name -> recipe."""
    return {name: recipe for family in families() for name, recipe in family.recipes.items()}


def find_recipe(name: str) -> Any:
    """The recipe of a name."""
    if name not in recipes():
        raise EdgegrainError(f"there is no recipe {name!r}; edgegrain train --list prints all of them")
    return recipes()[name]


def describe(
    recipe: Any, pictures: int | None = None, evaluate_every: int = 0, budget_seconds: float = 0
) -> dict[str, Any]:
    """The whole configuration of a recipe, plain JSON values; a ``pictures`` of None in it is no limit."""
    family = family_of(recipe)
    return {
        "family": family.name,
        "pictures": family.last_picture(recipe, pictures, budget_seconds),
        "evaluate_every": evaluate_every or family.evaluate_every,
        "config": recipe.as_dict(),
    }


def list_recipes() -> str:
    """A line per recipe: those of the bundles first, then the papers' and variants by family."""
    groups = [["Of the bundles, and trial runs", *_SHIPPED]]
    groups += [[each.title, *(name for name in each.recipes if name not in _SHIPPED)] for each in families()]
    return "\n\n".join("\n  ".join(group) for group in groups)
