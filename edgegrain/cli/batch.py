"""``edgegrain batch``: compress or restore folders and object stores of files, on Ray."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from codec_contract.bundle.find import strength_of
from codec_contract.bundle.manifest import verify_bundle
from codec_contract.fit import MAX_PHOTO_PIXELS, MAX_PIXELS
from codec_contract.payload import PAYLOAD_SUFFIX
from edgegrain.batch import FAILURES, BatchPlan, Tally, run_batch
from edgegrain.cli import options
from edgegrain.cli.options import refuse_options
from edgegrain.cli.output import report, say
from edgegrain.stores import Store, Verb, candidates
from sdk.api import bundles_for
from sdk.installed_bundles import installed_manifests
from sdk.payload import check_side
from server_decoder.providers import require_provider

SAMPLE = 100
"""Names that are read to distinguish payloads from pictures."""


def batch(
    source: Annotated[str, typer.Argument(metavar="IN")],
    target: Annotated[str, typer.Argument(metavar="OUT")],
    compress: Annotated[bool | None, typer.Option("--compress/--restore")] = None,
    bundle: options.BundleOption = "faces",
    workers: Annotated[int | None, typer.Option(min=1, max=10_000)] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1024)] = 16,
    file_format: Annotated[options.PictureFormat, typer.Option("--format")] = "png",
    size: options.SizeOption = "original",
    align: options.AlignOption = True,
    fit: options.FitOption = None,
    strength: float | None = None,
    quality: options.QualityOption = None,
    max_bytes: options.MaxBytesOption = None,
    device: options.DeviceOption = "cpu",
    gpus: Annotated[float, typer.Option(min=0.01)] = 1,
    max_megapixels: options.MaxMegapixelsOption = None,
    ray_address: str | None = None,
    mark: options.MarkOption = True,
    force: options.ForceOption = False,
    json_output: options.JsonOption = False,
) -> None:
    """Compress or restore millions of files; an interrupted run can be continued.

    Pictures are compressed as by 'edgegrain compress': the largest face of each, and one without a face fails, unless
    --no-align or --fit encodes whole pictures.

    Files with a result in OUT are skipped: after a crash, a kill or Ctrl-C start the same command again. Results are
    written atomically. A file that fails is listed with its error in failures.jsonl, in OUT or, if that is a URI, in
    the current folder, and does not stop the others; the next run tries it again. A folder below IN that cannot be
    listed is reported in the same way.

    Folders are read at any depth and keep their structure: a/b.jpg becomes a/b.jpg.grain, a/b.grain becomes a/b.png.
    Names that begin with a dot are skipped, and so is OUT if it lies in IN.

    \b
    Examples:
      edgegrain batch photos/ payloads/
      edgegrain batch payloads/ pictures/ --format webp --size native
      edgegrain batch s3://bucket/photos s3://bucket/payloads --workers 64 --ray-address auto
      edgegrain batch payloads/ gs://bucket/pictures --device cuda --workers 4 --gpus 0.25

    Args:
        source: Folder or URI of pictures, or of payloads.
        target: Folder or URI for the results; created if missing.
        compress: What to do [default: payloads are restored, pictures compressed].
        workers: Number of worker processes [default: one per core].
        batch_size: Files per batch of a worker.
        file_format: Format of restored pictures.
        strength: Strength of restoring, for bundles with that control [default: the bundle's].
        gpus: GPUs reserved per worker with --device cuda.
        ray_address: A running Ray cluster [default: start Ray on this machine only].
        force: Process also files that have a result.
        json_output: Print the summary as JSON.
    """
    from rich.console import Console

    store, out = Store(source), Store(target)
    if store.folder is not None and not store.folder.is_dir():
        raise typer.BadParameter(f"{source} is not a folder")
    inner = store.name_of(out)
    wanted_verb: Verb | None = None if compress is None else "compress" if compress else "restore"
    names = list(islice(candidates(store.names(lambda *_: None), wanted_verb, inner), SAMPLE))
    if not names:
        kind = {None: "picture or payload", "compress": "picture", "restore": "payload"}[wanted_verb]
        raise typer.BadParameter(f"{source} holds no {kind}")
    payloads = all(name.lower().endswith(PAYLOAD_SUFFIX) for name in names)  # pictures are compressed
    verb = wanted_verb or ("restore" if payloads else "compress")
    same = "restoring into the folder of the payloads could take originals there for results; choose another folder"
    refuse_options({"OUT": verb == "restore" and inner == ""}, same)
    doing = f"{verb.removesuffix('e')}ing"
    restoring = {"--format": file_format != "png", "--size": size != "original", "--strength": strength is not None}
    compressing = {"--no-align": not align, "--fit": fit, "--quality": quality, "--max-bytes": max_bytes}
    foreign = compressing if verb == "restore" else {**restoring, "--no-mark": not mark}
    refuse_options(foreign, f"{doing} does not take it; leave it out")
    found = bundles_for(bundle, quality, max_bytes)
    if verb == "restore":  # each payload by the bundle it names, as a limit makes payloads of several
        found += [each for each in installed_manifests() if each.domain == found[0].domain and each.id != found[0].id]
    manifests = [verify_bundle(each.folder) for each in found]
    wanted = options.size_of(size)
    if verb == "restore":
        strength_of(manifests[0], strength)
        check_side(manifests[0], wanted)
    if device != "cpu":
        require_provider(device)
    suffix, most = (PAYLOAD_SUFFIX, MAX_PHOTO_PIXELS) if verb == "compress" else (f".{file_format}", MAX_PIXELS)
    max_pixels = options.max_pixels_of(max_megapixels, most)
    given: Any = {"fit": fit, "align": align, "quality": quality, "max_bytes": max_bytes, "max_pixels": max_pixels}
    given |= {"size": wanted, "strength": strength, "mark": mark, "device": device}
    given |= {"batch_size": batch_size, "force": force, "inner": inner or ""}
    folders = [str(each.folder.resolve()) for each in manifests]
    plan = BatchPlan(store.place, out.place, verb, folders, suffix, **given)
    path = (out.folder or Path()) / FAILURES
    began = time.monotonic()
    with Console(stderr=True).status(f"{doing}: starting") as status:  # on a terminal only

        def show(total: Tally) -> None:
            status.update(f"{doing}: {total.done:,} done, {total.skipped:,} skipped, {total.failed:,} failed")

        total = run_batch(plan, path, workers, gpus if device == "cuda" else 0.0, ray_address, show)
    seconds = time.monotonic() - began
    row: dict[str, Any] = {"verb": verb, "source": plan.source, "target": plan.target}
    row |= {"bundle": ", ".join(manifest.id for manifest in manifests), **vars(total)}
    row |= {"seconds": round(seconds, 3), "failures": path if total.failed else None}
    report(
        row,
        f"{total.done:,} done in {seconds:,.1f} s ({total.bytes_in:,} bytes became {total.bytes_out:,}), "
        f"{total.skipped:,} skipped, {total.failed:,} failed",
        as_json=json_output,
    )
    say(*(f"error: {failure['name']}: {failure['error']}" for failure in total.failures), err=True)
    if total.failed:
        say(f"{total.failed:,} of {total.done + total.failed:,} failed; all are in {path}", err=True)
        raise typer.Exit(1)
