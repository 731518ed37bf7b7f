"""The training loop of all families, made for preemptible machines.

A run stops at ``pictures`` or after ``budget_seconds``, whichever comes first, and anneals towards that end. It writes
a checkpoint at every evaluation, at the end and on Ctrl-C or SIGTERM. A resumed run continues from the checkpoint's
weights and progress; optimizer moments are not stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from codec_contract.errors import EdgegrainError, ExistsError
from edgegrain.pictures.writing import Progress
from edgegrain.training.checkpoint import progress_of, save_checkpoint
from edgegrain.training.distributed import Distributed, start_distributed
from edgegrain.training.family import RunOptions, Trainer
from edgegrain.training.jsonl_log import JsonlLog
from edgegrain.training.recipes import family_of
from edgegrain.training.run_folder import CHECKPOINT, LOG, SAMPLES, locked_run_folder
from edgegrain.training.time_budget import TimeBudget

LOG_EVERY = 20  # steps
REPORT_EVERY = 5  # steps


def train(recipe: Any, folder: Path, options: RunOptions | None = None, *, pictures: int | None = None,
          budget_seconds: float = 0, resume: bool = False, evaluate_every: int = 0, device: str = "auto",
          report: Progress | None = None, claimed: bool = False) -> dict[str, float]:
    """Train a recipe; returns the last evaluation with ``pictures`` and ``skipped``, {} in all but the first process.

    Args:
        recipe: to train.
        folder: of the run: checkpoint, ``log.jsonl``, ``samples.png``, the family's weight file.
        options: files and switches.
        pictures: to see in all; None for the recipe's number, or without limit if there are ``budget_seconds``.
        budget_seconds: end the session after this time; 0 for no limit.
        resume: continue the run in ``folder``. Shapes stay the stored run's; everything else may change. The schedule
            of ``pictures`` counts those of all sessions. That of ``budget_seconds`` goes on where an interrupted
            session left it, and begins again after one that ended by itself.
        evaluate_every: pictures between evaluations, each with a checkpoint; 0 for the family's number.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        report: called every few seconds with the finished part of the run and a line about it; before, with that of the
            pictures' preparation.
        claimed: the caller has locked ``folder`` (`claim_run_folder`); otherwise it is locked here.

    Raises:
        ExistsError: ``folder`` holds a run and ``resume`` is false.
        InUseError: another process trains in ``folder``.
        EdgegrainError: pictures, weights, device or checkpoint are missing or do not fit.
    """
    refuse_existing(folder, resume)
    with start_distributed(device) as distributed, locked_run_folder(distributed, folder, claimed=claimed):
        return train_on(distributed, recipe, folder, options or RunOptions(), pictures=pictures,
                        budget_seconds=budget_seconds, evaluate_every=evaluate_every, report=report)


def train_on(distributed: Distributed, recipe: Any, folder: Path, options: RunOptions, *, pictures: int | None,
             budget_seconds: float, evaluate_every: int, report: Progress | None) -> dict[str, float]:
    """`train` on processes that are started already; a run in ``folder`` is continued."""
    family = family_of(recipe)
    refuse_unused(options, family.takes(recipe))
    trainer = family.open(recipe, replace(options, report=report), folder, distributed)
    folder.mkdir(parents=True, exist_ok=True)
    run, begins_at = trainer.run, progress_of(folder)  # which reads the log of earlier sessions
    # Shapes and random weights have the recipe's seed; what is drawn in steps differs between processes and sessions.
    torch.manual_seed(distributed.seed(run.recipe.seed, run.pictures))
    log = JsonlLog(folder / LOG if distributed.first else None)
    log.write({"config": run.recipe.as_dict(), "pictures_in_set": trainer.pictures_in_set, "seen": run.pictures})
    budget = TimeBudget(distributed, run.pictures, family.last_picture(recipe, pictures, budget_seconds),
                        budget_seconds, begins_at=begins_at)

    def evaluate_and_save(end: bool | None) -> dict[str, float]:
        figures: dict[str, float] = {}
        if distributed.first:
            run.save_weights(folder)  # before evaluating, which takes time, in which the process may be killed
            save_checkpoint(folder, run, 1.0 if end else budget.reached)
            figures = trainer.evaluate()
            log.write({"pictures": run.pictures, "validation": figures} | ({} if end is None else {"end": end}))
            trainer.draw_samples(folder / SAMPLES)
        distributed.wait()
        return figures

    figures = run_loop(trainer, budget, log, evaluate_and_save=evaluate_and_save,
                       evaluate_every=evaluate_every or family.evaluate_every, report=report)
    return figures | {"pictures": run.pictures, "skipped": trainer.skipped} if distributed.first else {}


def run_loop(trainer: Trainer, budget: TimeBudget, log: JsonlLog, *,
             evaluate_and_save: Callable[[bool | None], dict[str, float]], evaluate_every: int,
             report: Progress | None) -> dict[str, float]:
    """Step until the budget is spent; returns the result of the last ``evaluate_and_save``.

    Args:
        trainer: takes the steps.
        budget: decides about the end.
        log: gets a row every `LOG_EVERY` steps.
        evaluate_and_save: called with None on the way, then with False if a signal ended the session, else True.
        evaluate_every: pictures between two of its calls.
        report: as in `train`.
    """
    run = trainer.run
    next_evaluation = run.pictures + evaluate_every
    with budget.ends_on_signal():
        while (progress := budget.progress(run.pictures)) is not None:
            terms = trainer.step(progress)
            if trainer.steps % LOG_EVERY == 0:
                log.write({"pictures": run.pictures, "per_second": budget.rate(run.pictures),
                           **{name: float(value) for name, value in terms.items()}})
            if report and trainer.distributed.first and trainer.steps % REPORT_EVERY == 0:
                name, value = next(iter(terms.items()))
                report(progress, f"{run.pictures:,} pictures, {name} {float(value):.3f}")
            if run.pictures >= next_evaluation:
                next_evaluation += evaluate_every
                evaluate_and_save(None)
        return evaluate_and_save(not budget.interrupted)


def refuse_existing(folder: Path, resume: bool) -> None:
    """Raise `ExistsError` if ``folder`` holds a run that is not to be resumed."""
    if (folder / CHECKPOINT).exists() and not resume:
        raise ExistsError(folder / CHECKPOINT, "pass --resume to continue it, or choose another folder")


def refuse_unused(options: RunOptions, takes: set[str]) -> None:
    """Raise EdgegrainError if an option is given that a recipe has no use for."""
    if unused := sorted(options.given() - takes):
        names = ", ".join("--compile" if name == "compiled" else f"--{name.replace('_', '-')}" for name in unused)
        raise EdgegrainError(f"this recipe has no use for {names}")
