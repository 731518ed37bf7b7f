"""Distil a StyleGAN2 into a MobileStyleGAN, a generator with a fraction of the parameters and operations.

    python -m edgegrain.training.stylegan.distillation.command --list-configs
    python -m edgegrain.training.stylegan.distillation.command --config smoke --out runs/trial
    python -m edgegrain.training.stylegan.distillation.command --teacher runs/cats/stylegan2.safetensors --weights METRICS --out runs/mobile
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from codec_contract.errors import EdgegrainError, ModelError
from edgegrain.metrics.metric_weights import find_weights
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
from edgegrain.training.stylegan.distillation.loop import distil
from edgegrain.training.stylegan.distillation.recipes import DISTIL_CONFIGS, DistilConfig
from server_decoder.prior_store import find_prior
from server_decoder.stylegan2.checkpoints import load_discriminator, load_stylegan2
from server_decoder.stylegan2.discriminator import Discriminator
from server_decoder.stylegan2.synthesis import StyleGAN2, StyleGAN2Config

PICTURES = 2_000_000
SMOKE_PICTURES = 640


def stand_in_teacher(config: DistilConfig) -> StyleGAN2:
    """For trial runs: a generator with random weights, the same at every call, whose pictures stay near [-1, 1]."""
    student = config.student
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        teacher = StyleGAN2(StyleGAN2Config(student.size, student.channel_base, student.channel_max,
                                            student.code_width, student.mapping_layers))
    with torch.no_grad():
        for head in teacher.to_rgb:  # each adds a deviation of about 1 to the sum
            head.get_parameter("conv.weight").mul_(0.25)
    teacher.measure_mean_code()
    return teacher


def load_teacher(config: DistilConfig, name_or_path: str) -> tuple[StyleGAN2, Discriminator | None]:
    """A StyleGAN2 cut to the student's size, and its discriminator if the file has one of that size.

    Raises:
        ModelError: there is no such file, or it is no StyleGAN2 that large.
    """
    path = find_prior(name_or_path)
    teacher = load_stylegan2(path, cut_to=config.student.size)
    try:
        return teacher, load_discriminator(path, teacher.config)
    except ModelError:  # it has none, or one for larger pictures
        return teacher, None


def list_configs() -> str:
    """A line per recipe."""
    width = max(map(len, DISTIL_CONFIGS))
    return "\n".join(f"{name:{width}}  {config.student.size}x{config.student.size}, {config.student.head} head, batch "
                     f"{config.batch}" for name, config in DISTIL_CONFIGS.items())


def main(
    config: ConfigOption = "mobile-256",
    teacher: Annotated[str, typer.Option(
        help="StyleGAN2: a file that edgegrain.training.stylegan.command or edgegrain prior convert wrote; smoke does without.")
    ] = "",
    out: Annotated[Path | None, typer.Option(
        help="Folder of the run: checkpoint, mobile_stylegan.safetensors, log.jsonl, samples.png. By "
             "default runs/distil-CONFIG, numbered if that is taken.")] = None,
    weights: Annotated[Path | None, typer.Option(
        help="Folder of the LPIPS weights [default: those that 'edgegrain metrics fetch' obtains]; smoke does without.")
    ] = None,
    pictures: Annotated[int, typer.Option(
        min=0, help=f"Pictures to see in all; 0: {PICTURES:,} ({SMOKE_PICTURES} for smoke).")] = 0,
    budget_seconds: BudgetOption = 0,
    save_every: SaveOption = 20_000,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    dry_run: DryRunOption = False,
    list_all: ListOption = False,
) -> None:
    """Distil a StyleGAN2 into a MobileStyleGAN.

    The student keeps the teacher's mapping network and codes, so both make the same picture of the same latent, as far
    as the student can. The run ends at --pictures or --budget-seconds, whichever comes first, and anneals towards that
    end. Ctrl-C ends it after the current step, with a checkpoint; --resume continues it.

    \b
    Try it, without a teacher:  --config smoke --out runs/trial
    For GRAIN at 256 x 256:     --teacher runs/cats/stylegan2.safetensors --weights METRICS --out runs/cats-mobile
    """
    if list_all:
        typer.echo(list_configs())
        return
    if threads:
        torch.set_num_threads(threads)
    with errors_on_one_line():
        recipe = recipe_of(DISTIL_CONFIGS, config)
        if dry_run:
            typer.echo(json.dumps(recipe.as_dict(), indent=2))
            return
        out = run_folder(f"distil-{config}", out, resume=resume)
        if not teacher and not recipe.made_up:
            raise EdgegrainError("pass --teacher with the file of a StyleGAN2")
        network, judge = load_teacher(recipe, teacher) if teacher else (stand_in_teacher(recipe), None)
        if recipe.lpips:
            weights = find_weights(weights, faces=False)
        with progress_bar() as report:
            result = distil(
                recipe, network, out=out, pictures=pictures or (SMOKE_PICTURES if recipe.made_up else PICTURES),
                discriminator=judge, teacher_name=teacher, weights=weights, budget_seconds=budget_seconds,
                resume=resume, save_every=save_every, device=device, report=report)
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
