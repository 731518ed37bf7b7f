"""Train IRN or IRN+ on photographs.

    python -m edgegrain.training.irn.command --list-configs
    python -m edgegrain.training.irn.command --config smoke-irn --out runs/trial
    python -m edgegrain.training.irn.command --config photos-x4 --data PHOTOGRAPHS --out runs/photos --budget-seconds 3600
    python -m edgegrain.training.irn.command --config irn-plus-x4 --data PHOTOGRAPHS --init-from runs/irn --weights METRICS \
        --out runs/plus
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from codec_contract.errors import EdgegrainError
from edgegrain.training.console import errors_on_one_line, progress_bar
from edgegrain.training.irn.loop import train_irn
from edgegrain.training.irn.recipes import IRN_CONFIGS
from edgegrain.training.run_folder import run_folder
from edgegrain.training.run_options import (
    BudgetOption,
    ConfigOption,
    DeviceOption,
    DryRunOption,
    ListOption,
    ResumeOption,
    ThreadsOption,
    recipe_of,
)


def list_configs() -> str:
    """A line per recipe."""
    width = max(map(len, IRN_CONFIGS))
    return "\n".join(f"{name:{width}}  {'IRN+' if config.judge else 'IRN'} {config.network.factor}x, "
                     f"{'+'.join(map(str, config.network.blocks))} InvBlocks, {config.iterations:,} iterations of "
                     f"{config.batch} crops of {config.crop}x{config.crop}" for name, config in IRN_CONFIGS.items())


def main(
    config: ConfigOption = "irn-x4",
    out: Annotated[Path | None, typer.Option(
        help="Folder of the run: checkpoint, irn.safetensors, log.jsonl, samples.png. By "
             "default runs/CONFIG, numbered if that is taken.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of photographs; smoke recipes do without.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Folder of photographs to measure on.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of the LPIPS weights; IRN+ needs them.")] = None,
    start: Annotated[Path | None, typer.Option(
        "--init-from", help="A run or an irn.safetensors to begin with; IRN+ begins with a pre-trained IRN.")] = None,
    crops: Annotated[int, typer.Option(min=0, help="Crops to see in all; 0: by the recipe.")] = 0,
    budget_seconds: BudgetOption = 0,
    save_every: Annotated[int, typer.Option(min=1, help="Crops between checkpoints, each with a sheet.")] = 20_000,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    dry_run: DryRunOption = False,
    list_all: ListOption = False,
) -> None:
    """Train an invertible rescaling network: IRN, then IRN+ from its weights.

    The run ends at --crops or --budget-seconds, whichever comes first; the learning rate falls by parts of the run, so
    a short one is annealed too. Ctrl-C ends it after the current step, with a checkpoint; --resume continues it.

    \b
    Try it, without pictures:  --config smoke-irn --out runs/trial
    As published:              --config irn-x4 --data DIV2K --out runs/irn
    Then IRN+:                 --config irn-plus-x4 --data DIV2K --init-from runs/irn --weights METRICS --out runs/plus
    """
    if list_all:
        typer.echo(list_configs())
        return
    if threads:
        torch.set_num_threads(threads)
    with errors_on_one_line():
        recipe = recipe_of(IRN_CONFIGS, config)
        if dry_run:
            typer.echo(json.dumps(recipe.as_dict(), indent=2))
            return
        out = run_folder(config, out, resume=resume)
        if recipe.judge and start is None and not resume and not recipe.made_up:
            raise EdgegrainError("IRN+ fine-tunes a trained IRN; pass --init-from with a run or its irn.safetensors")
        with progress_bar() as report:
            result = train_irn(recipe, out=out, pictures=crops, data=data, validation=validation, weights=weights,
                               start=start, budget_seconds=budget_seconds, resume=resume, save_every=save_every,
                               device=device, report=report)
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
