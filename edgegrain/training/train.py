"""Train a stage of GRAIN.

    python -m edgegrain.training.train --list-configs
    python -m edgegrain.training.train --config smoke-stage2 --out runs/trial
    python -m edgegrain.training.train --config stage1-faces-256-lr16 --data FACES --weights METRICS --out runs/faces \
        --budget-seconds 3600

Several GPUs: ``torchrun --nproc-per-node 4 -m edgegrain.training.train ...``, every process with a batch of its own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import BundleError, EdgegrainError
from edgegrain.metrics.metric_weights import find_weights
from edgegrain.training.console import errors_on_one_line, progress_bar
from edgegrain.training.grain.checkpoint import checkpoint_path
from edgegrain.training.grain.loop import train
from edgegrain.training.grain.recipes import CONFIGS, SMOKE_PICTURES
from edgegrain.training.grain.stages import StageConfig
from edgegrain.training.prior_files import load_discriminator, load_prior
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
from export.decoder.sources import TRAINED

PICTURES = 27_000


def chosen(name: str, *, control: bool = False, encoder: str = "", identity: bool = True,
           rate: float = 0.0, batch: int = 0, jitter: bool = False, lpips_shift: float | None = None) -> StageConfig:
    """The configuration of a name, with what the command line changes in it.

    Raises:
        EdgegrainError: there is no such configuration, or the change makes no sense for it.
    """
    config = recipe_of(CONFIGS, name)
    if control:
        config = replace(config, correction=False)
    if not identity:
        config = replace(config, loss=replace(config.loss, identity=0.0))
    if encoder not in ("", "keep", "train"):
        raise EdgegrainError(f"--encoder is keep or train, got {encoder!r}")
    if encoder:
        others = tuple(part for part in config.trains if part != "encoder")
        if not others:
            raise EdgegrainError(f"{name} trains nothing but the encoder")
        config = replace(config, trains=("encoder", *others) if encoder == "train" else others)
    if rate:
        if "encoder" not in config.trains or not config.correction:
            raise EdgegrainError(f"--rate is for runs that train an encoder; {name} trains {', '.join(config.trains)}")
        config = replace(config, loss=replace(config.loss, rate=rate))
    if jitter:
        config = replace(config, jitter=True)
    if lpips_shift is not None:
        config = replace(config, lpips_shift=lpips_shift)
    return widened(config, batch) if batch else config


def widened(config: StageConfig, batch: int) -> StageConfig:
    """The recipe with another batch per process: rates grow with the square root of the batch, as Adam's steps do
    (Malladi et al., NeurIPS 2022), and the averaged weights look back over as many pictures as before.

    Raises:
        EdgegrainError: the batch leaves no room for real pictures beside the synthetic ones.
    """
    times = batch / config.batch
    try:
        return replace(config, batch=batch, learning_rate=config.learning_rate * times**0.5, ema=config.ema**times)
    except ValueError as error:
        raise EdgegrainError(f"--batch {batch}: {error}") from error


def resolve_start(name: str) -> Path | None:
    """A run's folder or checkpoint, a folder of the zoo, or the folder of a bundle given by name or path; None for no
    name.

    Raises:
        BundleError: there is none.
    """
    if not name:
        return None
    if checkpoint_path(Path(name)).is_file() or (Path(name) / TRAINED).is_file():
        return Path(name)
    try:
        return find_bundle(name)
    except BundleError as error:
        raise BundleError(f"{name} is no run, and no bundle either: {error}") from error


def list_configs() -> str:
    """A line per configuration: its name, stage and what it trains."""
    width = max(map(len, CONFIGS))
    return "\n".join(f"{name:{width}}  stage {config.stage:5}  {config.encoder.hr}x{config.encoder.hr} from "
                     f"{config.encoder.lr}x{config.encoder.lr}, trains {', '.join(config.trains)}"
                     for name, config in CONFIGS.items())


def main(
    config: ConfigOption = "stage1-faces-256-lr16",
    out: Annotated[Path | None, typer.Option(
        help="Folder of the run: checkpoint, log.jsonl, samples.png. By default runs/CONFIG, numbered "
             "if that is taken.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of training pictures; smoke recipes do without.")] = None,
    weights: Annotated[Path | None, typer.Option(
        help="Folder of the LPIPS and identity weights [default: those that 'edgegrain metrics fetch' obtains]; smoke "
             "recipes do without.")] = None,
    start: Annotated[str, typer.Option(
        "--init-from", help="Run, bundle or folder of the zoo to begin with; stages after the first need one.")] = "",
    decoder_from: Annotated[str, typer.Option(
        help="Run, bundle or folder of the zoo whose invertible decoder, with its encoder, takes the place of that of "
             "--init-from: what went on without codes and fusion goes back under them.")] = "",
    fusion_base: Annotated[str, typer.Option(
        help="invertible or style: the picture that the fusion adds to; by default as --init-from has it, else as the "
             "recipe says.")] = "",
    prior: Annotated[str, typer.Option(
        help="Generator from stage 2 on: a fetched prior's name, or a file; by default the published one.")] = "",
    discriminator: Annotated[Path | None, typer.Option(
        help="Safetensors file of a trained StyleGAN2 discriminator, for recipes that have one.")] = None,
    pictures: Annotated[int, typer.Option(
        min=0, help=f"Pictures to see before the run ends; 0: {PICTURES:,} ({SMOKE_PICTURES} for smoke recipes).")] = 0,
    budget_seconds: BudgetOption = 0,
    exclude: Annotated[list[str] | None, typer.Option(help="Name patterns to leave out, e.g. 'usgov_*'.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Folder whose first 16 pictures are evaluated on.")] = None,
    evaluate_every: Annotated[int, typer.Option(
        min=1, help="Pictures between evaluations, each with a checkpoint.")] = 4000,
    control: Annotated[bool, typer.Option(
        "--control", help="LR = box mean, no learned correction ([GRAIN] Table 2, w/o invertible encoder).")] = False,
    encoder: Annotated[str, typer.Option(
        help="keep or train: whether the encoder's weights move; by default as the recipe says.")] = "",
    identity: Annotated[bool, typer.Option(help="The identity loss; it means something on faces only.")] = True,
    rate: Annotated[float, typer.Option(
        min=0, help="Weight of the bits per LR sample that the payload's coder is expected to need; 0: by the recipe."
    )] = 0.0,
    jitter: Annotated[bool, typer.Option(
        "--jitter", help="Shift and recolour pictures a little every time they come: against overfitting where they "
                         "are few.")] = False,
    lpips_shift: Annotated[float | None, typer.Option(
        min=0, max=1, help="Part of the steps in which LPIPS sees the pictures from a random offset on, so that no "
                           "texture of its own grid pays; by default as the recipe says.")] = None,
    batch: Annotated[int, typer.Option(
        min=0, help="Pictures per step and process, learning rates grow with its square root; 0: the recipe's, which "
                    "is made for a CPU.")] = 0,
    compiled: Annotated[bool, typer.Option(
        "--compile", help="Decode through torch.compile: minutes before the first step, then faster ones.")] = False,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    dry_run: DryRunOption = False,
    list_all: ListOption = False,
) -> None:
    """Train a stage of GRAIN (section 3.5): 1, 2, 3, final; each begins with the one before (--init-from).

    The run ends at --pictures or --budget-seconds, whichever comes first, and anneals towards that end. Ctrl-C ends it
    after the current step, with a checkpoint; --resume continues it. A published encoder is frozen: continuing a bundle
    keeps it unless --encoder train, which makes another LR contract.

    \b
    Try it, without data:   --config smoke-stage1 --out runs/trial
    Stage 1:                --config stage1-faces-256-lr16 --data FACES --weights METRICS --out runs/one
    Stage 2:                --config stage2-faces-256-lr16 ... --init-from runs/one --out runs/two
    Stage 3, then final:    likewise with --init-from runs/two, --init-from runs/three
    """
    if list_all:
        typer.echo(list_configs())
        return
    if threads:
        torch.set_num_threads(threads)
    with errors_on_one_line():
        stage = chosen(config, control=control, encoder=encoder, identity=identity, rate=rate, batch=batch,
                       jitter=jitter, lpips_shift=lpips_shift)
        if dry_run:
            typer.echo(json.dumps(stage.as_dict(), indent=2))
            return
        out = run_folder(config, out, resume=resume)
        origin = resolve_start(start)
        if decoder_from and origin is None:
            raise EdgegrainError("--decoder-from replaces a part of what --init-from begins with; pass that, too")
        generator = load_prior(stage, prior or None)
        judge = load_discriminator(stage, discriminator)
        if data is not None and (stage.loss.lpips or stage.loss.identity):
            weights = find_weights(weights, faces=bool(stage.loss.identity))
        with progress_bar() as report:
            result = train(
                stage, out=out, pictures=pictures or (SMOKE_PICTURES if stage.made_up else PICTURES), data=data,
                weights=weights, prior=generator, discriminator=judge, start=origin,
                decoder_from=resolve_start(decoder_from), fusion_base=fusion_base,
                budget_seconds=budget_seconds, exclude=tuple(exclude or ()), validation=validation, resume=resume,
                evaluate_every=evaluate_every, device=device, compiled=compiled, report=report)
    if result:  # of several processes, the first one looks
        typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
