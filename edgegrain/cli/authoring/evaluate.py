"""``edgegrain evaluate``: measure a bundle, and compare it with classical codecs at equal bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from codec_contract.bundle.find import find_bundle, rates_from
from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import needs_extra
from codec_contract.files import cache_folder, write_atomically
from edgegrain.cli import options
from edgegrain.cli.files import refuse_existing
from edgegrain.cli.options import refuse_options
from edgegrain.cli.output import printable, report, say, with_progress


def evaluate(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False)],
    weights: options.MetricWeightsOption = None,
    bundle: options.BundleOption = "faces",
    out: Annotated[Path | None, typer.Option("--out", "-o", file_okay=False)] = None,
    photographs: Annotated[Path | None, typer.Option(exists=True, file_okay=False)] = None,
    baselines: Literal["none", "fast"] = "fast",
    curves: bool = True,
    size: Annotated[int, typer.Option(min=0)] = 0,
    refine: options.RefineOption = 0,
    refine_size: options.RefineSizeOption = 0,
    quality: options.QualityOption = None,
    max_bytes: Annotated[int | None, typer.Option("--max-bytes", min=1)] = None,
    limit: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=0)] = 0,
    device: options.Device = "cpu",
    form: Literal["auto", "default", "fused", "int8"] = "auto",
    cache: Annotated[Path | None, typer.Option(file_okay=False)] = None,
    force: options.ForceOption = False,
    json_output: options.JsonOption = False,
) -> None:
    """Compare a bundle with classical codecs at equal bytes.

    Prints a table and writes a report: report.html with plots and sheets, all scores as TSV, their means as JSON. The
    classical codecs are JPEG, WebP, AVIF and JPEG XL. After an interruption the same command continues where it
    stopped. docs/evaluation.md explains every score.

    \b
    Examples:
      edgegrain metrics fetch
      edgegrain evaluate --data faces/
      edgegrain evaluate --bundle my-bundles/cats --data cats/ --baselines none
      edgegrain evaluate --data faces/ --photographs holiday/
      edgegrain evaluate --data large-faces/ --size 1024 --no-curves
      edgegrain evaluate --data faces/ --refine 40 --max-bytes 400 --baselines none

    Args:
        data: Folder of pictures that the bundle was not trained on; the centre square of each is used.
        out: Folder for the report [default: evaluate_out/ID-VERSION].
        photographs: Folder of photographs with faces, not cropped; also measure the largest face of each, before and
            after. Its folder no_faces may hold pictures without one.
        baselines: none: only the bundle; fast: every fourth scale, then those around the best.
        curves: Also search the codecs at fixed budgets, for rate curves; takes most of the time.
        size: Side of the originals and of the restored pictures, in pixels, such as 1024; 0: the bundle's.
        max_bytes: Largest payload: each picture gets the bundle's best rate that fits.
        limit: Number of pictures; 0: all.
        threads: CPU threads of the networks; 0: all.
        device: Device of decoder and metrics; encoders always run on the CPU.
        form: Form of the decoder; auto: the one that the device gets.
        cache: Folder of results that are already computed [default: edgegrain's cache folder].
    """
    with needs_extra("eval", "evaluate needs"):
        import torch

        from edgegrain.evaluation import evaluator as evaluation
        from edgegrain.evaluation.report import PAGE, PICTURES, report_files, report_name
        from edgegrain.evaluation.results import REFINEMENT, rounded
        from edgegrain.evaluation.results import summary as summarize
        from edgegrain.metrics.picture_metrics import LEAST_SIDE, PictureMetrics
        from edgegrain.metrics.score_names import losses_at
        from edgegrain.metrics.weights import find_metric_weights
        from edgegrain.pictures.stored_pictures import list_pictures, original_of
    import sdk

    refuse_options({"--refine-size": refine_size and not refine}, options.SEARCH_SIZE)
    refuse_options({"--form": form != "auto" and refine}, "a search decodes in float32; leave it out with --refine")
    found = zip(REFINEMENT, (refine, refine_size, max_bytes), strict=True) if refine else ()
    refinement = {key: value for key, value in found if value}
    paths = list_pictures(data)[: limit or None]
    manifest = load_manifest(find_bundle(bundle))
    faces, rates = manifest.domain == "faces", {None, *(rate.quality for rate in manifest.rates)}
    refuse_options({"--quality": quality not in rates}, f"bundle {bundle} has no such rate")
    refuse_options({"--photographs": photographs and not faces}, f"bundle {bundle} is not one of faces")
    refinement_key, rate, cpus = "", str(quality or ""), threads or None
    if refine:
        with needs_extra("train", "--refine needs"):
            from edgegrain.refinement import REVISION, RefiningCodec
        search: dict[str, Any] = {"size": refine_size or None, "max_bytes": max_bytes, "weights": weights}
        codec: sdk.Codec = RefiningCodec(bundle, steps=refine, device=device, threads=cpus, **search)
        limits = f"at {refine_size}, " * bool(refine_size) + f"to {max_bytes} bytes, " * bool(max_bytes)
        refinement_key, max_bytes = f"{refine} steps, {limits}revision {REVISION}", None
    else:
        codec = sdk.Codec(bundle, device, cpus, form=form)
        rate = "-".join(filter(None, [rate, f"to-{max_bytes}" * bool(max_bytes)]))
    side = size or codec.bundle.hr
    needed = f"the metrics need pictures of at least {LEAST_SIDE}×{LEAST_SIDE}, not {side}×{side}"
    refuse_options({"--size": side < LEAST_SIDE}, needed)
    config = evaluation.EvaluationConfig(baselines != "none", (), side, quality, max_bytes, refinement_key)
    name = report_name(codec.bundle, side, rate, refinement) + ("" if form == "auto" else f"-{form}")
    folder = out or Path("evaluate_out") / name
    refuse_existing((folder / file for file in (PAGE, f"{name}.tsv", f"{name}.json", *PICTURES)), force)

    metric_weights = find_metric_weights(weights, faces=faces)
    if threads:
        torch.set_num_threads(threads)
    if curves and config.baselines:
        shown = with_progress(paths, f"compressing {len(paths)} pictures")
        sizes = [len(evaluation.compressed(codec, original_of(path, side), config)) for path in shown]
        config = dataclasses.replace(config, budgets=evaluation.curve_budgets(sizes))
    metrics = PictureMetrics(metric_weights, device=device, faces=faces)
    cache = cache or cache_folder() / "evaluation"
    evaluator = evaluation.Evaluator(codec, metrics, evaluation.weights_id(metric_weights), cache, config)
    rows = [evaluator.picture(path) for path in with_progress(paths, f"measuring {codec.bundle.id}")]
    summary = summarize(rows, codec.bundle, paths, baselines, losses_at(manifest, side), side, refinement)
    if rate:  # no figures of the bundle's card, which are its own rate's
        (named,) = rates_from(manifest, quality, limited=False)
        contract = "several" if config.max_bytes else named.lr_contract_id.hex()
        summary["bundle"] |= {"lr_contract_id": contract, "rate": rate}
    if photographs is not None and metrics.identity is not None and metrics.mobileface is not None:  # of faces
        pictures, empty = list_pictures(photographs), photographs / evaluation.EMPTY
        without = list_pictures(empty) if empty.is_dir() else []
        shown = with_progress(pictures, f"measuring {len(pictures)} photographs")
        networks = metrics.identity, metrics.mobileface
        summary["photographs"] = rounded(evaluation.evaluate_photographs(codec, shown, without, *networks))
    files = report_files(codec, rows, paths, summary, name)
    for file in sorted(files, key=lambda name: name == PAGE):  # the page is written last
        write_atomically(folder / file, files[file], force=force)
    if json_output:
        report({**summary, "report": folder / PAGE, "files": [folder / file for file in files]}, as_json=True)
    else:
        _print_table(summary)
        say(f"report: {folder / PAGE}")


def _print_table(summary: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from edgegrain.evaluation.report import table, table_columns
    from edgegrain.metrics.score_names import MEANS, NOTE, photographs_in_words

    bundle, pictures, side, console = summary["bundle"], summary["pictures"], summary["size"], Console()
    if not console.is_terminal:  # piped: as wide as the tables
        console.width = 160
    count = f"{pictures['count']} picture{'s' * (pictures['count'] > 1)}"
    title = f"{bundle['id']} {bundle['version']} at {side}×{side} on {count} of {printable(pictures['folder'])}"
    grid = Table("method", box=None, header_style="bold", pad_edge=False, title=escape(title), title_style="bold")
    grid.title_justify = "left"
    for column in table_columns(summary, MEANS):
        name = column.replace("-", "\n").replace(" ", "\n")
        grid.add_column(name, justify="right", no_wrap=not column.startswith("KID"))
    for row in table(summary, MEANS):
        if row.rule:
            grid.add_row()
        grid.add_row(row.method, *row.cells, style="bold" if row.ours else None)
    console.print(grid)
    if summary["training_losses"]:
        console.print(NOTE + ".", style="dim")
    if "photographs" in summary:
        console.print(photographs_in_words(summary["photographs"]))
