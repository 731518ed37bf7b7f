"""The training loop of all families, made for preemptible machines.

A run stops at ``pictures`` or after ``budget_seconds``, whichever comes first, and anneals towards that end. It writes
a checkpoint at every evaluation, at the end and on Ctrl-C or SIGTERM. A resumed run continues from the checkpoint's
weights and progress; optimizer moments are not stored.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from codec_contract.errors import EdgegrainError, ExistsError
from edgegrain.pictures.writing import Progress, only_writer
from edgegrain.training.checkpoint import CHECKPOINT, open_header, save_checkpoint
from edgegrain.training.distributed import Distributed, start_distributed
from edgegrain.training.family import RunOptions, Trainer, family_of
from server_decoder.stylegan2.networks import StyleGAN2Config

LOG_EVERY, REPORT_EVERY = 20, 5  # steps


def train(
    recipe: Any,
    folder: Path,
    options: RunOptions | None = None,
    *,
    pictures: int | None = None,
    budget_seconds: float = 0,
    resume: bool = False,
    evaluate_every: int = 0,
    device: str = "auto",
    report: Progress | None = None,
) -> dict[str, float]:
    """Train a recipe; returns the last evaluation with ``pictures`` and ``skipped``, {} in all but the first process.

    Args:
        folder: of the run, which one process at a time writes to: checkpoint, ``log.jsonl``, ``samples.png``, the
            family's weight file.
        options: files and switches.
        pictures: to see in all; None for the recipe's number, or without limit if there are ``budget_seconds``.
        budget_seconds: end the session after this time; 0 for no limit.
        resume: continue the run in ``folder``, if there is one. Shapes stay the stored run's; everything else may
            change. The schedule of ``pictures`` counts those of all sessions. That of ``budget_seconds`` goes on where
            an interrupted session left it, and begins again after one that ended by itself.
        evaluate_every: pictures between evaluations, each with a checkpoint; 0 for the family's number.
        report: gets the finished part of the run and a line about it; before, those of the pictures' preparation.
    """
    options, family = options or RunOptions(), family_of(recipe)
    if not resume and (folder / CHECKPOINT).exists():
        raise ExistsError(folder / CHECKPOINT, "pass --resume to continue it, or choose another folder with --run")
    known = {*family.takes, *(["prior"] if recipe.prior is not None else [])}
    if isinstance(getattr(getattr(recipe, "adversarial", None), "discriminator", None), StyleGAN2Config):
        known.add("discriminator")
    if unused := sorted(name for name, value in vars(options).items() if value and name not in known):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise EdgegrainError(f"this recipe has no use for {names}")
    if "data" in known and options.data is None and not recipe.random_pictures:
        raise EdgegrainError("no training pictures; pass --data with their folder")
    with start_distributed(device) as distributed, contextlib.ExitStack() as lock:
        if distributed.first:  # torchrun ends the others if it fails
            lock.enter_context(only_writer(folder))
        begins_at = 0.0 if finished(folder) else progress_of(folder)
        trainer = family.open(recipe, replace(options, report=report), folder, distributed)
        run = trainer.run
        # Shapes and random weights have the recipe's seed; what is drawn in steps differs between processes and
        # sessions.
        torch.manual_seed(distributed.seed(run.recipe.seed, run.pictures))
        log = folder / "log.jsonl" if distributed.first else None
        seen, config = run.pictures, run.recipe.as_dict()
        write_row(log, {"config": config, "pictures_in_set": trainer.pictures_in_set, "seen": seen})
        last = family.last_picture(recipe, pictures, budget_seconds)
        budget = TimeBudget(distributed, seen, last, budget_seconds, begins_at)

        def save(end: bool) -> dict[str, float]:
            figures: dict[str, float] = {}
            if distributed.first:
                run.save_weights(folder)  # before evaluating, which takes time, in which the process may be killed
                save_checkpoint(folder, run, 1.0 if end else budget.reached)
                figures = trainer.evaluate()
                write_row(log, {"pictures": run.pictures, "validation": figures})
                trainer.draw_samples(folder / "samples.png")
            distributed.wait()
            return figures

        figures = run_loop(trainer, budget, log, save, evaluate_every or family.evaluate_every, report)
        return figures | {"pictures": run.pictures, "skipped": trainer.skipped} if distributed.first else {}


def run_loop(
    trainer: Trainer,
    budget: TimeBudget,
    log: Path | None,
    save: Callable[[bool], dict[str, float]],
    save_every: int,
    report: Progress | None,
) -> dict[str, float]:
    """Step until the budget is spent; the last ``save`` gets True if the run ended by itself, and has the result."""
    run = trainer.run
    next_save = run.pictures + save_every
    with budget.ends_on_signal():
        while (progress := budget.progress(run.pictures)) is not None:
            terms = trainer.step(progress)
            if trainer.steps % LOG_EVERY == 0:
                values = {name: float(value) for name, value in terms.items()}
                write_row(log, {"pictures": run.pictures, "per_second": budget.rate(run.pictures), **values})
            if report and trainer.distributed.first and trainer.steps % REPORT_EVERY == 0:
                name, value = next(iter(terms.items()))
                report(progress, f"{run.pictures:,} pictures, {name} {float(value):.3f}")
            if run.pictures >= next_save:
                next_save += save_every
                save(False)
        return save(not budget.interrupted)


class TimeBudget:
    """Time and pictures that this process may spend on a run; if Ctrl-C or SIGTERM ``interrupted`` it in any process,
    and the last progress that it ``reached``, 0...1."""

    def __init__(
        self, distributed: Distributed, seen: int, pictures: int | None, seconds: float, begins_at: float = 0.0
    ) -> None:
        """Start the clock of a session that ends after ``seconds`` (0: no limit) or with ``pictures`` (None: no limit);
        ``begins_at``: progress that an interrupted session reached."""
        self._distributed, self._first, self._pictures, self._seconds = distributed, seen, pictures, seconds
        self._started = time.monotonic()
        self._begins_at = self.reached = begins_at
        self.interrupted = False

    def progress(self, seen: int) -> float | None:
        """The finished part of the run, 0...1, or None when it is time to end; the same for all processes."""
        part = 0.0 if self._pictures is None else seen / self._pictures if self._pictures else 1.0
        if self._seconds:
            spent = (time.monotonic() - self._started) / self._seconds
            part = max(part, self._begins_at + (1 - self._begins_at) * spent)
        part, interrupted = self._distributed.agree(part, self.interrupted)
        if interrupted:  # else a signal may have come in the meantime, which counts at the next step
            self.interrupted = True
        self.reached = min(part, 1.0)
        return None if interrupted or part >= 1 else part

    def rate(self, seen: int) -> float:
        """Pictures per second in this session."""
        return (seen - self._first) / max(time.monotonic() - self._started, 1e-9)

    @contextlib.contextmanager
    def ends_on_signal(self) -> Iterator[None]:
        """End after the current step on the first Ctrl-C or SIGTERM; a second one has its usual effect."""

        def request(number: int, frame: object) -> None:
            self.interrupted = True
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

        with contextlib.ExitStack() as before:
            for number in (signal.SIGINT, signal.SIGTERM):
                before.callback(signal.signal, number, signal.signal(number, request))
            yield


def write_row(log: Path | None, row: Mapping[str, Any]) -> None:
    """Append a row to a file, one JSON object per line, floats rounded to five decimals; a path of None discards it."""
    if log is not None:
        plain = {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}
        with log.open("a") as file:
            file.write(json.dumps(plain) + "\n")


def finished(run: Path) -> bool:
    """True if a run ended by itself, neither interrupted nor crashed."""
    return progress_of(run) == 1


def progress_of(run: Path) -> float:
    """The part of its schedule that a run had behind it when its checkpoint was written; 0 without a run."""
    if not (run / CHECKPOINT).is_file():
        return 0.0
    with open_header(run) as header:
        return float(header["progress"])
