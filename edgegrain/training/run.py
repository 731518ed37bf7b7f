"""The training loop of all families, made for preemptible machines.

A run stops at ``pictures`` or after ``budget_seconds``, whichever comes first, and anneals towards that end. It writes
a checkpoint at every evaluation, at the end and on Ctrl-C or SIGTERM. A resumed run continues from the checkpoint's
weights and progress; optimizer moments are not stored.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from codec_contract.errors import EdgegrainError, ExistsError
from edgegrain.pictures.writing import InUseError, Progress, only_writer
from edgegrain.training.checkpoint import CHECKPOINT, open_header, save_checkpoint
from edgegrain.training.distributed import Distributed, start_distributed
from edgegrain.training.family import RunOptions, Trainer, family_of
from edgegrain.training.grain.start import recipe_prior
from edgegrain.training.recipe import Chain

RUNS = Path("runs")
LOG = "log.jsonl"
SAMPLES = "samples.png"
LOG_EVERY = 20  # steps
REPORT_EVERY = 5  # steps


def train(recipe: Any, folder: Path, options: RunOptions | None = None, *, pictures: int | None = None,
          budget_seconds: float = 0, resume: bool = False, evaluate_every: int = 0, device: str = "auto",
          report: Progress | None = None, claimed: bool = False) -> dict[str, float]:
    """Train a recipe or chain; returns the last evaluation with ``pictures`` and ``skipped``, {} in all but the first
    process.

    Args:
        folder: of the run: checkpoint, ``log.jsonl``, ``samples.png``, the family's weight file. A stage of a chain is
            a run of its own, in a folder in it: ``FOLDER/stage1`` ... ``FOLDER/final``.
        options: files and switches. Of a chain, ``init_from`` is for stage 1; files for some stages only go to those.
        pictures: to see in all; None for the recipe's number, or without limit if there are ``budget_seconds``.
        budget_seconds: end the session after this time; 0 for no limit. A chain's is for all stages, packing and
            evaluations of earlier ones included; time that one leaves is shared by the next ones.
        resume: continue the run in ``folder``, a chain with the stage that was interrupted. Shapes stay the stored
            run's; everything else may change. The schedule of ``pictures`` counts those of all sessions. That of
            ``budget_seconds`` goes on where an interrupted session left it, and begins again after one that ended by
            itself.
        evaluate_every: pictures between evaluations, each with a checkpoint; 0 for the family's number.
        report: gets the finished part of the run and a line about it; before, those of the pictures' preparation.
        claimed: the caller has locked ``folder`` (`claim_run_folder`); otherwise it is locked here.
    """
    options, stages = options or RunOptions(), recipe.stages if isinstance(recipe, Chain) else {"": recipe}
    if not resume and (found := [run for stage in stages if (run := folder / stage / CHECKPOINT).exists()]):
        raise ExistsError(found[0], "pass --resume to continue it, or choose another folder")
    settings: dict[str, Any] = {"pictures": pictures, "budget_seconds": budget_seconds,
                                "evaluate_every": evaluate_every, "report": report}
    with start_distributed(device) as distributed, contextlib.ExitStack() as lock:
        if not claimed:
            distributed.from_first(lambda: lock.enter_context(only_writer(folder)))
        start = _train_stages if isinstance(recipe, Chain) else train_on
        return start(distributed, recipe, folder, options, **settings)


def _train_stages(distributed: Distributed, chain: Chain, folder: Path, options: RunOptions, *, budget_seconds: float,
                  report: Progress | None, **settings: Any) -> dict[str, float]:
    """The last evaluation of the last stage that ran; an interrupted stage ends the training."""
    taken = {stage: family_of(recipe).takes(recipe) for stage, recipe in chain.stages.items()}
    _refuse_unused(options, set().union(*taken.values()))
    # Read before stage 1 trains for hours.
    prior = recipe_prior(chain.stages[list(chain.stages)[-1]], options.prior)
    options = replace(options, prior=prior)
    began, previous, figures = time.monotonic(), options.init_from, {}
    for stage, recipe in chain.stages.items():
        distributed.wait()
        if prior is not None:
            prior.cpu()  # the stage before moved it
        run = folder / stage
        if not finished(run):
            left = budget_seconds - distributed.agree(time.monotonic() - began, False)[0]
            if budget_seconds and left <= 0:
                raise EdgegrainError(f"the budget of {budget_seconds:g} s ended before {stage}; continue with --resume")
            shares = {each: share for each, share in zip(chain.stages, chain.shares, strict=True)
                      if not finished(folder / each)}
            given = {name: value for name, value in vars(options).items() if name in taken[stage]}
            figures = train_on(
                distributed, recipe, run, RunOptions(**{**given, "init_from": previous}),
                budget_seconds=left * shares[stage] / sum(shares.values()) if budget_seconds else 0,
                report=report and functools.partial(_of_stage, report, stage), **settings)
            if not finished(run):
                break
        previous = run
    return figures


def _of_stage(report: Progress, stage: str, part: float, line: str) -> None:
    report(part, f"{stage}: {line}")


def train_on(distributed: Distributed, recipe: Any, folder: Path, options: RunOptions, *, pictures: int | None,
             budget_seconds: float, evaluate_every: int, report: Progress | None) -> dict[str, float]:
    """`train` on processes that are started already; a run in ``folder`` is continued."""
    family = family_of(recipe)
    _refuse_unused(options, family.takes(recipe))
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
    """Step until the budget is spent; returns the result of the last ``evaluate_and_save``, which gets None on the way,
    then False if a signal ended the session, else True."""
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


def _refuse_unused(options: RunOptions, takes: set[str]) -> None:
    """Raise EdgegrainError if an option is given that a recipe has no use for."""
    if unused := sorted(options.given() - takes):
        names = ", ".join("--compile" if name == "compiled" else f"--{name.replace('_', '-')}" for name in unused)
        raise EdgegrainError(f"this recipe has no use for {names}")


class TimeBudget:
    """Time and pictures that this process may spend on a run.

    Attributes:
        interrupted: True once Ctrl-C or SIGTERM asked for the end, in any of the processes.
        reached: the last progress, 0...1.
    """

    def __init__(self, distributed: Distributed, seen: int, pictures: int | None, seconds: float, *,
                 begins_at: float = 0.0) -> None:
        """Start the clock of a session that ends after ``seconds`` (0: no limit), of a run that has ``seen`` pictures
        and ends with ``pictures`` (None: no limit); ``begins_at``: progress that an interrupted session reached."""
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

        before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class JsonlLog:
    """Appends rows to a file, one JSON object per line; a path of None discards them.

    A last line that was cut off, by a full disk for instance, stays a line of its own.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None and path.is_file() and (rows := path.read_bytes()) and not rows.endswith(b"\n"):
            with path.open("a") as file:
                file.write("\n")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; floats are rounded to five decimals."""
        if self._path is not None:
            plain = {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}
            with self._path.open("a") as file:
                file.write(json.dumps(plain) + "\n")


@contextlib.contextmanager
def claim_run_folder(distributed: Distributed, recipe: str, folder: Path | None = None, *, resume: bool = False
                     ) -> Iterator[Path]:
    """The folder given, or ``runs/RECIPE``, ``runs/RECIPE-2`` and so on: the first without a run that is not in use; to
    resume, the last with one. The first process chooses it and locks it for the block, for all processes."""
    first, further = RUNS / recipe, (RUNS / f"{recipe}-{number}" for number in itertools.count(2))
    if resume and folder is None:
        folder = [first, *itertools.takewhile(_is_run, further)][-1]
    with contextlib.ExitStack() as lock:

        def claim() -> Path:
            candidates = itertools.chain([first], further)
            while folder is None:
                each = next(candidates)
                if not _is_run(each):
                    with contextlib.suppress(InUseError):
                        lock.enter_context(only_writer(each))
                        return each
            lock.enter_context(only_writer(folder))
            return folder

        yield distributed.from_first(claim)


def finished(run: Path) -> bool:
    """True if a run ended by itself, neither interrupted nor crashed: the last line of its log says so."""
    rows = _log_rows(run)
    return (run / CHECKPOINT).is_file() and bool(rows) and bool(rows[-1].get("end"))


def progress_of(folder: Path) -> float:
    """The part of its schedule that an interrupted run had behind it; 1 if only the last evaluation is missing in the
    log; 0 without a run, if it had ended, or if it came to its end and has no log (a copy of the checkpoint alone)."""
    if not (folder / CHECKPOINT).is_file():
        return 0.0
    with open_header(folder) as header:
        progress, pictures = float(header["progress"]), int(header["pictures"])
    if progress < 1:
        return progress
    rows = _log_rows(folder)  # of later sessions too
    ended = any(row.get("end") and row.get("pictures") == pictures for row in rows)
    return 1.0 if (folder / LOG).is_file() and not ended else 0.0


def _log_rows(run: Path) -> list[dict[str, Any]]:
    """Rows of a run's log; an empty one for a line that was cut off, by a full disk for instance."""
    rows: list[dict[str, Any]] = []
    for line in (run / LOG).read_text().splitlines() if (run / LOG).is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            rows.append({})
    return rows


def _is_run(folder: Path) -> bool:
    """True for a run, and for a folder of several stages."""
    return (folder / LOG).is_file() or any(folder.glob(f"*/{LOG}"))
