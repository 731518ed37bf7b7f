"""``edgegrain train``: train a recipe of any family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from codec_contract.errors import EdgegrainError, needs_extra
from edgegrain.cli.options import MetricWeightsOption
from edgegrain.cli.output import INTERRUPTED, is_first_process, progress_bar, report, say


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE")] = "",
    data: Annotated[Path | None, typer.Option(exists=True, file_okay=False)] = None,
    validation: Annotated[Path | None, typer.Option(exists=True, file_okay=False)] = None,
    exclude: list[str] | None = None,
    weights: MetricWeightsOption = None,
    run: Annotated[Path | None, typer.Option(file_okay=False)] = None,
    resume: Annotated[bool, typer.Option("--resume")] = False,
    init_from: str | None = None,
    prior: str | None = None,
    discriminator: Annotated[Path | None, typer.Option(exists=True, dir_okay=False)] = None,
    teacher: str | None = None,
    pictures: Annotated[int, typer.Option(min=0)] = 0,
    budget_seconds: Annotated[float, typer.Option(min=0)] = 0,
    evaluate_every: Annotated[int, typer.Option(min=0)] = 0,
    batch: Annotated[int, typer.Option(min=0)] = 0,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE")] = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    list_all: Annotated[bool, typer.Option("--list")] = False,
) -> None:
    """Train a recipe: GRAIN, IRN, IRN+, GLEAN, GCFSR, StyleGAN2, MobileStyleGAN or an enlarger.

    A run ends at --pictures or after --budget-seconds, whichever comes first. Ctrl-C or SIGTERM ends it after the
    current step with a checkpoint; --resume continues from its weights and progress (optimizer moments are not
    stored). The result is printed as JSON.

    \b
    Examples:
      edgegrain train --list
      edgegrain train smoke-stage1                                 seconds on a CPU, without data
      edgegrain train stage1-faces-256-lr16 --data faces/ --run runs/one --budget-seconds 7200
      edgegrain train stage1-faces-256-lr16 --data faces/ --run runs/one --budget-seconds 7200 --resume
      edgegrain train stage2-faces-256-lr16 --data faces/ --init-from runs/one --run runs/two
      edgegrain train photos-x4 --data photographs/ --budget-seconds 3600
      edgegrain train prior-cats-256 --data cats/ --run runs/cats
      edgegrain train mobile-256 --teacher runs/cats/stylegan2.safetensors
      edgegrain train final-faces-256-lr16 --set trains=encoder,decoder,codes,fusion --set loss.rate=0.05 --dry-run

    \b
    Several GPUs, each with a batch of its own (the -- keeps torchrun from reading --run):
      torchrun --nproc-per-node 4 -- .venv/bin/edgegrain train stage1-faces-256-lr16 --data faces/ --run runs/one

    \b
    Next: edgegrain publish run RUN --out BUNDLE, or edgegrain export bundle.

    Args:
        recipe: Name of a recipe; --list prints all.
        data: Folder of training pictures. Smoke recipes work without.
        validation: Pictures to evaluate on, the first 16 by name, or 8 for enlargers and IRN [default: those of
            --data].
        exclude: Name pattern of training pictures to leave out; repeatable.
        run: Folder of the run [default: runs/RECIPE].
        resume: Continue the run in --run; begin one if there is none.
        init_from: Trained weights to begin with: a run or, depending on the family, a bundle, a folder of the zoo or a
            prior; see docs/training.md.
        prior: Generator of GRAIN and GLEAN: name of a fetched prior, or a file [default: the published one].
        discriminator: Trained StyleGAN2 discriminator to begin with.
        teacher: StyleGAN2 to distil into a MobileStyleGAN, a file.
        pictures: Pictures to see before the run ends; 0: as the recipe or --budget-seconds says.
        budget_seconds: End after this many seconds, towards which the learning rate is annealed; packing pictures and
            the last evaluation are not counted. 0: no limit.
        evaluate_every: Pictures between evaluations, each with a checkpoint; 0: as the recipe says.
        batch: Pictures per step and process; 0: as the recipe says.
        seed: Random seed [default: as the recipe says].
        changes: Change a field of the recipe, as --dry-run prints it: loss.rate=0.05, trains=encoder,decoder,
            adversarial=none; repeatable.
        device: auto is CUDA if it is available.
        dry_run: Print the whole configuration as JSON and stop.
        list_all: List all recipes and stop.
    """
    with needs_extra("train", "training needs"):
        from edgegrain.training.checkpoint import CHECKPOINT
        from edgegrain.training.distributed import choose_device, keep_freed_memory
        from edgegrain.training.family import RunOptions, describe, find_recipe, list_recipes
        from edgegrain.training.recipe import changed
        from edgegrain.training.run import finished
        from edgegrain.training.run import train as train_recipe

    if list_all:
        say(*list_recipes().splitlines())
        return
    if not recipe:
        raise typer.BadParameter("name a recipe; --list prints all", param_hint="RECIPE")
    try:
        chosen = changed(find_recipe(recipe), changes or (), batch=batch, seed=seed)
    except EdgegrainError as error:
        raise typer.BadParameter(str(error)) from error
    wanted = pictures or None
    if dry_run:
        report({"recipe": recipe, **describe(chosen, wanted, evaluate_every, budget_seconds)}, as_json=True)
        return
    if choose_device(device).type == "cpu":
        keep_freed_memory()
    options = RunOptions(data, validation, tuple(exclude or ()), weights, init_from, prior, discriminator, teacher)
    folder = run or Path("runs") / recipe
    if resume and is_first_process() and not (folder / CHECKPOINT).exists():
        say(f"no run to continue in {folder}; a new one begins", err=True)
    ends: dict[str, Any] = {"pictures": wanted, "budget_seconds": budget_seconds, "evaluate_every": evaluate_every}
    with progress_bar() as show:
        result = train_recipe(chosen, folder, options, resume=resume, device=device, report=show, **ends)
    if result:  # the first process only
        say(json.dumps(result))
    if not finished(folder):
        say(f"interrupted; --run {folder} --resume continues", err=True)
        raise typer.Exit(INTERRUPTED)
