"""Train all four stages of a bundle, one after the other, within a budget of time.

    python -m edgegrain.training.grain.all_stages faces-256-lr32 --out runs/faces32 --budget-seconds 7200 -- \
        --data FACES --validation UNSEEN

Every stage is a run of `edgegrain.training.train` in a process of its own, in ``OUT/stage1`` ... ``OUT/final``; what
follows ``--`` goes to each. Interrupted, the same command continues with the stage that was under way.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from codec_contract.errors import EdgegrainError
from edgegrain.training.console import errors_on_one_line
from edgegrain.training.grain.checkpoint import checkpoint_path
from edgegrain.training.grain.recipes import CONFIGS
from edgegrain.training.prior_files import load_prior
from edgegrain.training.run_folder import LOG
from server_decoder.grain.grain import GrainConfig

SHARES = {"stage1": 50, "stage2": 15, "stage3": 10, "final": 25}
"""Stage -> its part of the time in percent, unless said otherwise."""
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it


def finished(run: Path) -> bool:
    """Whether a run came to its end: its log's last line says so."""
    log = run / LOG
    if not checkpoint_path(run).is_file() or not log.is_file():
        return False
    lines = log.read_text().splitlines()
    return bool(lines) and bool(json.loads(lines[-1]).get("end"))


def stages_of(recipe: str) -> dict[str, str]:
    """Stage -> name of its configuration, for a recipe such as ``"faces-256-lr16"`` or ``"1024-lr16-paper"``.

    Raises:
        EdgegrainError: there is no such recipe.
    """
    if recipe not in recipes():
        raise EdgegrainError(f"no recipe {recipe!r} of four stages; there are {', '.join(recipes())}")
    return recipes()[recipe]


def recipes() -> dict[str, dict[str, str]]:
    """Name -> stage -> configuration, of all recipes that have the four stages."""
    found: dict[str, dict[str, str]] = {}
    for name in CONFIGS:
        for stage in SHARES:
            if stage in name.split("-"):
                recipe = "-".join(part for part in name.split("-") if part != stage)
                found.setdefault(recipe, {})[stage] = name
    return {recipe: stages for recipe, stages in found.items() if list(stages) == list(SHARES)}


def shared_out(seconds: float, shares: Sequence[float], done: Sequence[bool]) -> list[float]:
    """Seconds of every stage: what is left goes to those that are not done, by their shares."""
    left = sum(share for share, ended in zip(shares, done, strict=True) if not ended)
    return [0.0 if ended else seconds * share / left for share, ended in zip(shares, done, strict=True)]


def run_stage(command: Sequence[str]) -> int:
    """Run a stage to its end and return its exit status. Ctrl-C and SIGTERM reach it, and it writes its checkpoint."""
    process = subprocess.Popen(command)
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal interrupts the whole group, the stage included
        process.wait()
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def main(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="Such as faces-256-lr16: a configuration's name without 'stage1-'.")],
    out: Annotated[Path, typer.Option(help="Folder of the four runs.")],
    budget_seconds: Annotated[float, typer.Option(
        min=0, help="For all stages together; what one leaves, the next ones share. 0: every stage to its number of "
        "pictures.")] = 0,
    shares: Annotated[str, typer.Option(
        help="Percent of the time for stage 1, 2, 3 and the final one.")] = ",".join(map(str, SHARES.values())),
    start: Annotated[str, typer.Option(
        "--init-from", help="Run or bundle that stage 1 begins with.")] = "",
    prior: Annotated[str, typer.Option(
        help="Generator, for the stages that have one: a fetched prior's name, or a file; by default the published "
        "one.")] = "",
    processes: Annotated[int, typer.Option(
        min=1, help="Processes of every stage, by torchrun: one per GPU.")] = 1,
) -> None:
    """Train stage 1, 2, 3 and the final stage; options after -- go to each of them (see train --help).

    \b
    Try it, without data:  python -m edgegrain.training.grain.all_stages smoke --out runs/smoke
    Half an hour of a GPU: ... faces-256-lr32 --out runs/faces32 --budget-seconds 1700 -- --data FACES --batch 64
    """
    with errors_on_one_line():
        names = stages_of(recipe)
        parts = _parse(shares)
        load_prior(CONFIGS[names["stage2"]], prior or None)  # if it is not there, that is said before stage 1's hours
        began, previous = time.monotonic(), start
        runs = {stage: out / stage for stage in names}
        for index, (stage, name) in enumerate(names.items()):
            run = runs[stage]
            if not finished(run):
                left = budget_seconds - (time.monotonic() - began)
                if budget_seconds and left <= 0:
                    raise EdgegrainError(f"the budget of {budget_seconds:g} s ended before {stage}; the same command "
                                         "continues there")
                seconds = shared_out(left, parts, [finished(other) for other in runs.values()])[index]
                options = ["--prior", prior] if prior and isinstance(CONFIGS[name].decoder, GrainConfig) else []
                _train(name, run, previous, seconds if budget_seconds else 0, processes, [*options, *context.args])
            previous = str(run)
            typer.echo(f"{stage}: {run}")


def _train(name: str, run: Path, start: str, seconds: float, processes: int, options: Sequence[str]) -> None:
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"] if processes > 1 else []
    resumed = checkpoint_path(run).is_file()
    command = [sys.executable, *launcher, "-m", "edgegrain.training.train", "--config", name, "--out", str(run),
               *(["--resume"] if resumed else ["--init-from", start] if start else []),
               *([f"--budget-seconds={seconds:.0f}"] if seconds else []), *options]
    status = run_stage(command)
    if status == 0 and not finished(run):  # a signal ended it; its checkpoint is there
        status = INTERRUPTED
    if status:
        typer.echo(f"{name} ended with exit status {status}; the same command continues there", err=True)
        raise typer.Exit(status)


def _parse(shares: str) -> list[float]:
    try:
        parts = [float(share) for share in shares.split(",")]
    except ValueError:
        parts = []
    if len(parts) != len(SHARES) or min(parts) <= 0:
        raise EdgegrainError(f"--shares takes four positive numbers, such as 50,15,10,25, got {shares!r}")
    return parts


app = typer.Typer()
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(main)

if __name__ == "__main__":
    app()
