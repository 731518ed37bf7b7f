"""Train a StyleGAN2 for a new domain, or fine-tune one.

    python -m edgegrain.training.stylegan.command --list-configs
    python -m edgegrain.training.stylegan.command --config smoke --out runs/trial
    python -m edgegrain.training.stylegan.command --config domain-256 --data CATS --out runs/cats --budget-seconds 3600

Several GPUs: ``torchrun --nproc-per-node 4 -m edgegrain.training.stylegan.command ...``, every process with a batch of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from edgegrain.training.console import errors_on_one_line, progress_bar
from edgegrain.training.run_folder import run_folder
from edgegrain.training.run_options import (
    BudgetOption,
    ConfigOption,
    DeviceOption,
    DryRunOption,
    ListOption,
    ResumeOption,
    SaveOption,
    ThreadsOption,
    recipe_of,
)
from edgegrain.training.stylegan.loop import train_prior
from edgegrain.training.stylegan.recipes import PRIOR_CONFIGS, SIZES, PriorTrainingConfig, resized

PICTURES = 5_000_000
SMOKE_PICTURES = 640


def chosen(name: str, size: int = 0) -> PriorTrainingConfig:
    """The recipe of a name, at a size of its own if that is given.

    Raises:
        EdgegrainError: there is no such recipe, or no such size.
    """
    recipe = recipe_of(PRIOR_CONFIGS, name)
    return resized(recipe, size) if size else recipe


def list_configs() -> str:
    """A line per recipe."""
    width = max(map(len, PRIOR_CONFIGS))
    return "\n".join(
        f"{name:{width}}  {config.network.size}x{config.network.size}, batch {config.batch}, R1 {config.r1:.3g}, "
        f"{'adaptive augmentation' if config.adaptation is not None else 'no augmentation'}"
        for name, config in PRIOR_CONFIGS.items())


def main(
    config: ConfigOption = "domain-256",
    out: Annotated[Path | None, typer.Option(
        help="Folder of the run: checkpoint, stylegan2.safetensors, log.jsonl, samples.png. By "
             "default runs/prior-CONFIG, numbered if that is taken.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of training pictures; smoke does without.")] = None,
    size: Annotated[int, typer.Option(
        help=f"Side of the pictures: {', '.join(map(str, SIZES))}; 0: the recipe's.")] = 0,
    start: Annotated[Path | None, typer.Option(
        "--init-from", exists=True, dir_okay=False,
        help="StyleGAN2 to fine-tune, a safetensors file; it gives the channels.")] = None,
    pictures: Annotated[int, typer.Option(
        min=0, help=f"Real pictures to see in all; 0: {PICTURES:,} ({SMOKE_PICTURES} for smoke).")] = 0,
    budget_seconds: BudgetOption = 0,
    exclude: Annotated[list[str] | None, typer.Option(help="Name patterns to leave out, e.g. 'draft_*'.")] = None,
    save_every: SaveOption = 20_000,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    dry_run: DryRunOption = False,
    list_all: ListOption = False,
) -> None:
    """Train a StyleGAN2 for a new domain, or fine-tune one (--init-from).

    The run ends at --pictures or --budget-seconds, whichever comes first. Ctrl-C ends it after the current step, with a
    checkpoint; --resume continues it. samples.png shows the same latents every time, at truncation 0.7.

    \b
    Try it, without data:  --config smoke --out runs/trial
    From random weights:   --config domain-256 --data CATS --out runs/cats
    From another domain:   --config domain-256 --data CATS --out runs/cats --init-from FACES.safetensors
    """
    if list_all:
        typer.echo(list_configs())
        return
    if threads:
        torch.set_num_threads(threads)
    with errors_on_one_line():
        recipe = chosen(config, size)
        if dry_run:
            typer.echo(json.dumps(recipe.as_dict(), indent=2))
            return
        out = run_folder(f"prior-{config}", out, resume=resume)
        with progress_bar() as report:
            result = train_prior(
                recipe, out=out, pictures=pictures or (SMOKE_PICTURES if recipe.made_up else PICTURES), data=data,
                start=start, budget_seconds=budget_seconds, exclude=tuple(exclude or ()), resume=resume,
                save_every=save_every, device=device, report=report)
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
