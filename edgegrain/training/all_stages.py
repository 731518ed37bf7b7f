"""Training of all four stages of GRAIN, one after the other, within one time budget.

Every stage is a run in a folder of its own, ``FOLDER/stage1`` ... ``FOLDER/final``. Resuming continues with the stage
that was interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from codec_contract.errors import EdgegrainError
from edgegrain.pictures.writing import Progress
from edgegrain.training.distributed import start_distributed
from edgegrain.training.family import RunOptions
from edgegrain.training.grain.chains import Chain
from edgegrain.training.loop import refuse_existing, refuse_unused, train_on
from edgegrain.training.prior_files import recipe_prior
from edgegrain.training.recipes import family_of
from edgegrain.training.run_folder import finished, locked_run_folder


def train_stages(chain: Chain, folder: Path, options: RunOptions | None = None, *, pictures: int | None = None,
                 budget_seconds: float = 0, resume: bool = False, evaluate_every: int = 0, device: str = "auto",
                 report: Progress | None = None, claimed: bool = False) -> dict[str, float]:
    """Train the stages; returns the last evaluation of the last stage that ran. Arguments as in `train`.

    ``options.init_from`` is for stage 1, files for some stages only go to those. ``budget_seconds`` is for all stages,
    packing and evaluations of earlier ones included; time that one leaves is shared by the next ones. An interrupted
    stage ends the training.

    Raises:
        ExistsError: ``folder`` holds runs and ``resume`` is false.
        EdgegrainError: as in `train`, or the budget ends before a stage begins.
    """
    options = options or RunOptions()
    runs = {stage: folder / stage for stage in chain.stages}
    for run in runs.values():
        refuse_existing(run, resume)
    taken = {stage: family_of(recipe).takes(recipe) for stage, recipe in chain.stages.items()}
    refuse_unused(options, set().union(*taken.values()) - {"decoder_from"})
    last = list(chain.stages.values())[-1]
    # Read before stage 1 trains for hours.
    prior = recipe_prior(last, options.prior)
    options = replace(options, prior=prior)
    began, previous, figures = time.monotonic(), options.init_from, {}
    with start_distributed(device) as distributed, locked_run_folder(distributed, folder, claimed=claimed):
        for index, (stage, recipe) in enumerate(chain.stages.items()):
            distributed.wait()
            if prior is not None:
                prior.cpu()  # the stage before moved it
            if not finished(runs[stage]):
                left = budget_seconds - distributed.agree(time.monotonic() - began, False)[0]
                if budget_seconds and left <= 0:
                    raise EdgegrainError(f"the budget of {budget_seconds:g} s ended before {stage}; continue with "
                                         "--resume")
                seconds = share_out(left, chain.shares, [finished(run) for run in runs.values()])[index]
                given = {name: value for name, value in vars(options).items() if name in taken[stage]}
                figures = train_on(distributed, recipe, runs[stage], RunOptions(**{**given, "init_from": previous}),
                                   pictures=pictures, budget_seconds=seconds if budget_seconds else 0,
                                   evaluate_every=evaluate_every, report=_named(report, stage))
                if not finished(runs[stage]):
                    break
            previous = runs[stage]
    return figures


def share_out(seconds: float, shares: Sequence[float], done: Sequence[bool]) -> list[float]:
    """Seconds of every stage: those that are left, divided among the stages that are not done by their shares."""
    left = sum(share for share, ended in zip(shares, done, strict=True) if not ended)
    return [0.0 if ended else seconds * share / left for share, ended in zip(shares, done, strict=True)]


def _named(report: Progress | None, stage: str) -> Progress | None:
    if report is None:
        return None
    return lambda part, line: report(part, f"{stage}: {line}")
