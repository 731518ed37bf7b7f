"""Train GLEAN or GCFSR, the two networks for face super-resolution that need no encoder of their own.

    python -m edgegrain.training.face_sr.command --list-configs
    python -m edgegrain.training.face_sr.command --config smoke-gcfsr --out runs/trial
    python -m edgegrain.training.face_sr.command --config glean-faces-256-lr16 --data FACES --weights METRICS --out runs/glean \
        --budget-seconds 3600

Several GPUs: ``torchrun --nproc-per-node 4 -m edgegrain.training.face_sr.command ...``, every process with a batch of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from codec_contract.errors import EdgegrainError
from edgegrain.metrics.metric_weights import find_weights
from edgegrain.training.console import errors_on_one_line, progress_bar
from edgegrain.training.face_sr.loop import train_face_sr
from edgegrain.training.face_sr.recipes import FACE_SR_CONFIGS, FaceSRTraining
from edgegrain.training.prior_files import load_discriminator
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
from export.decoder.sources import described_prior
from server_decoder.face_sr.glean import GLEANConfig
from server_decoder.generative_prior import GenerativePrior
from server_decoder.prior_store import DEFAULT_PRIOR
from server_decoder.stylegan2.synthesis import StyleGAN2Config


def load_bank(config: FaceSRTraining, prior: str) -> GenerativePrior | None:
    """GLEAN's bank; None for GCFSR, and for trial runs that are given none.

    Args:
        config: the recipe.
        prior: a file, or the name of a fetched prior; "" for the published one where that is of the recipe's kind.

    Raises:
        EdgegrainError: the recipe has no bank, or there is no such prior, or it is of another kind or size.
    """
    if not isinstance(config.network, GLEANConfig):
        if prior:
            raise EdgegrainError("GCFSR has no generator of its own to bring; leave --prior out")
        return None
    if not prior and config.made_up:
        return None
    if not prior and isinstance(config.network.prior.network, StyleGAN2Config):
        raise EdgegrainError("this recipe needs a StyleGAN2; pass --prior with its file (edgegrain prior convert)")
    return described_prior(config.network.prior, prior or DEFAULT_PRIOR)


def list_configs() -> str:
    """A line per recipe."""
    width = max(map(len, FACE_SR_CONFIGS))
    return "\n".join(f"{name:{width}}  {config.kind.upper():5}  {config.size}x{config.size} from {_reduced(config)}, "
                     f"{config.iterations:,} iterations of {config.batch}" for name, config in FACE_SR_CONFIGS.items())


def _reduced(config: FaceSRTraining) -> str:
    if isinstance(config.network, GLEANConfig):
        return f"{config.network.lr}x{config.network.lr}"
    if config.factors is None:
        return "unknown degradations"
    first, last = config.factors.choices[0], config.factors.choices[-1]
    return f"factors {first:g} to {last:g}"


def main(
    config: ConfigOption = "glean-faces-256-lr16",
    out: Annotated[Path | None, typer.Option(
        help="Folder of the run: checkpoint, glean.safetensors or gcfsr.safetensors, log.jsonl, samples.png. By "
             "default runs/CONFIG, numbered if that is taken.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of training pictures; smoke recipes do without.")] = None,
    weights: Annotated[Path | None, typer.Option(
        help="Folder of the LPIPS weights [default: those that 'edgegrain metrics fetch' obtains]; smoke recipes do "
             "without.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Folder whose first 16 pictures are evaluated on.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Name patterns to leave out, e.g. 'usgov_*'.")] = None,
    start: Annotated[Path | None, typer.Option(
        "--init-from", help="A run, or its glean.safetensors or gcfsr.safetensors, to begin with.")] = None,
    prior: Annotated[str, typer.Option(
        help="GLEAN's generator: a fetched prior's name, or a file; by default the published one.")] = "",
    discriminator: Annotated[Path | None, typer.Option(
        help="Safetensors file of a trained StyleGAN2 discriminator, for recipes that have one.")] = None,
    pictures: Annotated[int, typer.Option(
        min=0, help="Pictures to see before the run ends; 0: by the recipe.")] = 0,
    budget_seconds: BudgetOption = 0,
    evaluate_every: Annotated[int, typer.Option(
        min=1, help="Pictures between evaluations, each with a checkpoint.")] = 4000,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    dry_run: DryRunOption = False,
    list_all: ListOption = False,
) -> None:
    """Train GLEAN around a frozen generator, or GCFSR from scratch.

    The run ends at --pictures or --budget-seconds, whichever comes first, and anneals towards that end. Ctrl-C ends it
    after the current step, with a checkpoint; --resume continues it.

    \b
    Try it, without data:  --config smoke-glean --out runs/trial
    GLEAN, on a CPU:       --config glean-faces-256-lr16 --data FACES --out runs/glean --budget-seconds 3600
    GCFSR, on a CPU:       --config gcfsr-faces-256 --data FACES --out runs/gcfsr --budget-seconds 3600
    """
    if list_all:
        typer.echo(list_configs())
        return
    if threads:
        torch.set_num_threads(threads)
    with errors_on_one_line():
        recipe = recipe_of(FACE_SR_CONFIGS, config)
        if dry_run:
            typer.echo(json.dumps(recipe.as_dict(), indent=2))
            return
        out = run_folder(config, out, resume=resume)
        bank = load_bank(recipe, prior)
        judge = load_discriminator(recipe, discriminator)
        if data is not None and (recipe.loss.lpips or recipe.perceptual):
            weights = find_weights(weights, faces=False)
        with progress_bar() as report:
            result = train_face_sr(
                recipe, out=out, pictures=pictures, data=data, weights=weights, validation=validation, prior=bank,
                discriminator=judge, start=start, budget_seconds=budget_seconds, exclude=tuple(exclude or ()),
                resume=resume, evaluate_every=evaluate_every, device=device, report=report)
    if result:  # of several processes, the first one looks
        typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
