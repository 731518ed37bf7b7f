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
    faces = manifest.domain == "faces"
    refuse_options(
        {"--quality": quality and quality not in {rate.quality for rate in manifest.rates}},
        f"bundle {bundle} has no such rate",
    )
    refuse_options({"--photographs": photographs and not faces}, f"bundle {bundle} is not one of faces")
    refinement_key = ""
    if not refine:
        codec = sdk.Codec(bundle, device=device, threads=threads or None, form=form)
    else:
        with needs_extra("train", "--refine needs"):
            from edgegrain.refinement import REVISION, RefiningCodec
        codec = RefiningCodec(
            bundle,
            steps=refine,
            size=refine_size or None,
            max_bytes=max_bytes,
            weights=weights,
            device=device,
            threads=threads or None,
        )
        refinement_key = (
            f"{refine} steps, {f'at {refine_size}, ' * bool(refine_size)}"
            f"{f'to {max_bytes} bytes, ' * bool(max_bytes)}revision {REVISION}"
        )
    side = size or codec.bundle.hr
    refuse_options(
        {"--size": side < LEAST_SIDE},
        f"the metrics need pictures of at least {LEAST_SIDE}×{LEAST_SIDE}, not {side}×{side}",
    )
    rate: str = quality or ""
    if max_bytes and not refine:
        rate += f"{'-' * bool(rate)}to-{max_bytes}"
    config = evaluation.EvaluationConfig(
        baselines != "none", (), side, quality, None if refine else max_bytes, refinement_key
    )
    name = report_name(codec.bundle, side, rate, refinement) + ("" if form == "auto" else f"-{form}")
    folder = out or Path("evaluate_out") / name
    refuse_existing((folder / file for file in (PAGE, f"{name}.tsv", f"{name}.json", *PICTURES)), force)

    metric_weights = find_metric_weights(weights, faces=faces)
    if threads:
        torch.set_num_threads(threads)
    if curves and baselines != "none":
        config = dataclasses.replace(
            config,
            budgets=evaluation.curve_budgets(
                [
                    len(evaluation.compressed(codec, original_of(path, side), config))
                    for path in with_progress(paths, f"compressing {len(paths)} pictures")
                ]
            ),
        )
    metrics = PictureMetrics(metric_weights, device=device, faces=faces)
    evaluator = evaluation.Evaluator(
        codec, metrics, evaluation.weights_id(metric_weights), cache or cache_folder() / "evaluation", config
    )
    rows = [evaluator.picture(path) for path in with_progress(paths, f"measuring {codec.bundle.id}")]
    summary = summarize(rows, codec.bundle, paths, baselines, losses_at(manifest, side), side, refinement)
    if rate:  # no figures of the bundle's card, which are its first rate's
        contract = "several" if config.max_bytes else rates_from(manifest, quality)[0].lr_contract_id.hex()
        summary["bundle"] |= {"lr_contract_id": contract, "rate": rate}
    if photographs is not None and metrics.identity is not None and metrics.mobileface is not None:  # of faces
        pictures, empty = list_pictures(photographs), photographs / evaluation.EMPTY
        scores = evaluation.evaluate_photographs(
            codec,
            with_progress(pictures, f"measuring {len(pictures)} photographs"),
            list_pictures(empty) if empty.is_dir() else [],
            metrics.identity,
            metrics.mobileface,
        )
        summary["photographs"] = rounded(scores)
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

    bundle, pictures = summary["bundle"], summary["pictures"]
    count = f"{pictures['count']} picture{'s' * (pictures['count'] > 1)}"
    console = Console()
    if not console.is_terminal:  # piped: as wide as the tables
        console.width = 160
    side = summary["size"]
    folder = printable(pictures["folder"])
    grid = Table(
        "method",
        box=None,
        header_style="bold",
        pad_edge=False,
        title_justify="left",
        title_style="bold",
        title=escape(f"{bundle['id']} {bundle['version']} at {side}×{side} on {count} of {folder}"),
    )
    for column in table_columns(summary, MEANS):
        grid.add_column(
            column.replace("-", "\n").replace(" ", "\n"), justify="right", no_wrap=not column.startswith("KID")
        )
    for row in table(summary, MEANS):
        if row.rule:
            grid.add_row()
        grid.add_row(row.method, *row.cells, style="bold" if row.ours else None)
    console.print(grid)
    if summary["training_losses"]:
        console.print(NOTE + ".", style="dim")
    if "photographs" in summary:
        console.print(photographs_in_words(summary["photographs"]))
