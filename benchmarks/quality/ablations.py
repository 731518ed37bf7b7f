"""Train variants of the default bundle's decoder for equal time, and score them on unseen pictures.

    python benchmarks/quality/ablations.py losses --data FACES --unseen UNSEEN --runs runs/ablations
    python benchmarks/quality/ablations.py sizes --start OLD_BUNDLE --data FACES --unseen UNSEEN --runs runs/ablations

Every variant has one thread for ``--seconds``, in which the learning rate anneals. A finished run is not trained again,
so calls with ``--only`` can train variants at the same time, one on each core, and a last call scores all of them.
Prints a Markdown table.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import EdgegrainError
from edgegrain.cli.output import errors_to_exit_codes, progress_bar
from edgegrain.metrics.picture_metrics import PictureMetrics
from edgegrain.metrics.score_names import GRAIN_SCORES, column_titles
from edgegrain.metrics.weights import find_metric_weights
from edgegrain.papers.models import grain_model
from edgegrain.pictures.stored_pictures import list_pictures, original_of
from edgegrain.publishing.improvement import measure
from edgegrain.publishing.run_source import final_decoder, open_run, source_of
from edgegrain.training.adversarial import PROJECTED, AdversarialConfig
from edgegrain.training.allocator import keep_freed_memory
from edgegrain.training.family import RunOptions
from edgegrain.training.grain.checkpoint import GrainRun
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.stages import GrainRecipe
from edgegrain.training.loop import train
from edgegrain.training.projected_discriminator import ProjectedConfig
from edgegrain.training.run_folder import finished
from export.decoder.sources import find_decoder
from server_decoder.grain.grain import GrainConfig
from server_decoder.grain.rrdb_decoder import FACES_256_LR16, FACES_256_LR16_FINE, DecoderConfig, RRDBDecoder, Scale

COLUMNS = {"psnr": ".2f", "lpips_alex": ".4f", "lpips_vgg": ".4f", "dists": ".4f", "kid": ".4f", "kid_eyes": ".4f",
           "kid_mouth": ".4f", "identity_mobileface": ".3f", "grid_8": ".1f"}
"""Scores of the table, and their formats."""
REPEATS = 15
"""Pictures over which the time of a decoder is the median."""


@dataclass(frozen=True)
class Variant:
    """A recipe that is compared with others.

    Attributes:
        title: in the table.
        recipe: trained; its encoder is frozen.
    """

    title: str
    recipe: GrainRecipe


_BASE = replace(GRAIN_RECIPES["stage1-faces-256-lr16-fine"], adversarial=replace(PROJECTED, ratio=0.12))
# A discriminator with random weights gives no useful gradient, so it is trained alone at first.
_R1 = AdversarialConfig("non-saturating", ratio=0.12, begins=0.15)
_SMALL = replace(FACES_256_LR16, upsampling="bilinear")
_MIDDLE = replace(FACES_256_LR16_FINE, scales=(
    *FACES_256_LR16_FINE.scales[:3], Scale(128, 48, residual=1), Scale(256, 16, residual=1)))

GROUPS: dict[str, dict[str, Variant]] = {
    "losses": {
        "none": Variant("no discriminator", replace(_BASE, adversarial=None)),
        "projected": Variant("heads on AlexNet", _BASE),
        "projected-identity": Variant("heads on AlexNet and on the face descriptor", replace(
            _BASE, adversarial=replace(PROJECTED, ratio=0.12, discriminator=ProjectedConfig(identity=True)))),
        "r1": Variant("discriminator on pixels, with R1", replace(_BASE, adversarial=_R1)),
    },
    "sizes": {
        "small": Variant("widths of 0.5.0", replace(_BASE, decoder=_SMALL)),
        "middle": Variant("wider up to 64×64", replace(_BASE, decoder=_MIDDLE)),
        "fine": Variant("wider everywhere, that of 1.0.0", _BASE),
    },
}
"""Group -> name of a run -> variant."""


def train_variant(variant: Variant, run: Path, options: RunOptions, seconds: float) -> None:
    """Train a variant unless its run is finished.

    Args:
        variant: the recipe.
        run: folder of the run.
        options: data, weights, and the bundle that it begins with.
        seconds: of training.

    Raises:
        EdgegrainError: the run was interrupted, so that it had less time than the others.
    """
    if finished(run):
        return
    if not run.exists():
        with progress_bar() as report:
            train(variant.recipe, run, options, budget_seconds=seconds,
                  report=lambda part, text: report(part, f"{run.name}: {text}"))
    if not finished(run):
        raise EdgegrainError(f"{run} was interrupted, so it had less time than the others; delete it and try again")


def table(scores: Mapping[str, Mapping[str, float]], costs: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """Markdown: a row per title; ``costs`` are further cells, their titles under ``""``."""
    more = costs or {}
    extra = more.get("", ())
    head = ["", *extra, *column_titles(COLUMNS, GRAIN_SCORES)]
    rows = [[title, *more.get(title, ["–"] * len(extra)), *(
        format(means[name], style).removeprefix("0") if name in means else "–" for name, style in COLUMNS.items())]
        for title, means in scores.items()]
    return [f"|{' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1), *(f"| {' | '.join(row)} |" for row in rows)]


@torch.no_grad()
def milliseconds(decoders: Mapping[str, RRDBDecoder]) -> dict[str, float]:
    """Median time of a picture on one thread, in torch; the decoders take turns."""
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {title: [] for title in decoders}
    for _ in range(REPEATS):
        for title, decoder in decoders.items():
            lr = torch.zeros(1, 3, decoder.config.lr, decoder.config.lr)
            begun = time.perf_counter()
            decoder(lr)
            times[title].append(1e3 * (time.perf_counter() - begun))
    return {title: statistics.median(each) for title, each in times.items()}


def billion_macs(config: DecoderConfig) -> float:
    """Multiply-accumulate operations of a picture, in thousands of millions."""
    return grain_model("", GrainConfig(config)).parts["decoder"].macs / 1e9


def costs(runs: Mapping[str, GrainRun]) -> dict[str, list[str]]:
    """Title -> cells with the pictures that a run saw and the cost of its decoder; ``""`` -> the cells' titles."""
    decoders = {title: decoder for title, run in runs.items() if isinstance(decoder := final_decoder(run), RRDBDecoder)}
    times = milliseconds(decoders)
    return {"": ["pictures", "GMAC", "restore (ms)"]} | {
        title: [f"{runs[title].pictures:,}", f"{billion_macs(decoder.config):.1f}", f"{times[title]:.0f}"]
        for title, decoder in decoders.items()}


@errors_to_exit_codes()
def main(
    group: Annotated[str, typer.Argument(help=f"Variants: {' or '.join(GROUPS)}.")],
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of photographs to train on.")],
    unseen: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of pictures to score on.")],
    runs: Annotated[Path, typer.Option(file_okay=False, help="Folder of the runs.")],
    start: Annotated[str, typer.Option(help="Bundle that the variants begin with: its name or folder.")] = "faces",
    only: Annotated[str, typer.Option(help="Name of a variant to train without judging any, so that each core can "
                                      "train another [default: train and score all].")] = "",
    seconds: Annotated[float, typer.Option(min=1, help="Training of each variant.")] = 1800,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the training.")] = 1,
    weights: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Folder of the metrics' weights "
                                                 "[default: those of 'edgegrain metrics fetch'].")] = None,
) -> None:
    """Train variants of the default bundle's decoder for equal time, and score them."""
    if group not in GROUPS:
        raise EdgegrainError(f"no group {group!r}; expected {' or '.join(GROUPS)}")
    variants = GROUPS[group]
    if only and only not in variants:
        raise EdgegrainError(f"no variant {only!r} among the {group}; expected one of {', '.join(variants)}")
    bundle = find_bundle(start)
    options = RunOptions(data=data, validation=unseen, weights=weights, init_from=bundle)
    torch.set_num_threads(threads)
    keep_freed_memory()
    for name in [only] if only else variants:
        train_variant(variants[name], runs / name, options, seconds)
    if only:
        return
    metrics = PictureMetrics(find_metric_weights(weights, faces=True), faces=True)
    opened = {variant.title: open_run(runs / name) for name, variant in variants.items()}
    published = find_decoder(bundle)
    originals = [original_of(path, published.network.hr) for path in list_pictures(unseen)]
    sources = {f"{published.name}, where they begin": published} | {
        title: source_of(run, title) for title, run in opened.items()}
    scores = {title: measure(source, originals, metrics).scores for title, source in sources.items()}
    typer.echo("\n".join(table(scores, costs(opened))))


if __name__ == "__main__":
    typer.run(main)
