"""``edgegrain batch``: compress or restore folders and object stores of files, on Ray Data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from codec_contract.bundle.find import strength_of
from codec_contract.bundle.manifest import verify_bundle
from codec_contract.payload import PAYLOAD_SUFFIX
from edgegrain.batch import FAILURES, BatchPlan, Tally, run_batch
from edgegrain.cli.options import (
    AlignOption,
    BundleOption,
    DeviceChoice,
    DeviceOption,
    FitOption,
    FormatChoice,
    MarkOption,
    MaxBytesOption,
    MaxMegapixelsOption,
    QualityOption,
    SizeOption,
    max_photo_pixels_of,
    max_pixels_of,
    size_of,
)
from edgegrain.cli.output import print_json
from edgegrain.stores import FolderStore, Store, Verb, candidates, find_verb, open_store
from sdk.payload import enlargement
from sdk.rate_control import bundles_for
from server_decoder.decoder_session import require_provider


def batch(
    source: Annotated[str, typer.Argument(metavar="IN", help="Folder or URI of pictures, or of payloads.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="Folder or URI for the results; created if missing.")],
    compress: Annotated[
        bool | None,
        typer.Option("--compress/--restore", help="What to do [default: payloads are restored, pictures compressed]."),
    ] = None,
    bundle: BundleOption = "faces",
    workers: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Number of worker processes [default: one per core].")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, max=1024, help="Files per batch of a worker.")
    ] = 16,
    file_format: Annotated[
        FormatChoice, typer.Option("--format", help="Format of restored pictures.")
    ] = FormatChoice.png,
    size: SizeOption = "original",
    align: AlignOption = True,
    fit: FitOption = None,
    strength: Annotated[
        float | None, typer.Option(help="Strength of restoring, for bundles with that control [default: the bundle's].")
    ] = None,
    quality: QualityOption = None,
    max_bytes: MaxBytesOption = None,
    device: DeviceOption = DeviceChoice.cpu,
    gpus: Annotated[float, typer.Option(min=0.01, help="GPUs reserved per worker with --device cuda.")] = 1,
    max_megapixels: MaxMegapixelsOption = None,
    failures: Annotated[
        Path | None,
        typer.Option(help=f"File for failures, one JSON object per line [default: {FAILURES} in OUT, or in the current "
                     "folder if OUT is a URI]."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A running Ray cluster [default: start Ray on this machine only].")
    ] = None,
    mark: MarkOption = True,
    force: Annotated[bool, typer.Option("--force", help="Process also files that have a result.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Compress or restore millions of files; an interrupted run can be continued.

    Pictures are compressed as by 'edgegrain compress': the largest face of each, and one without a face fails, unless
    --no-align or --fit encodes whole pictures.

    Files with a result in OUT are skipped: after a crash, a kill or Ctrl-C start the same command again. Results are
    written atomically. A file that fails is listed with its error in a file and does not stop the others; the next
    run tries it again. A folder below IN that cannot be listed is reported in the same way.

    Folders are read at any depth and keep their structure: a/b.jpg becomes a/b.jpg.grain, a/b.grain becomes a/b.png.
    Names that begin with a dot are skipped, and so is OUT if it lies in IN.

    \b
    Examples:
      edgegrain batch photos/ payloads/
      edgegrain batch payloads/ pictures/ --format webp --size native
      edgegrain batch s3://bucket/photos s3://bucket/payloads --workers 64 --ray-address auto
      edgegrain batch payloads/ gs://bucket/pictures --device cuda --workers 4 --gpus 0.25

    \b
    Exit status:
      0    all files are done
      1    a file or folder failed, or the run was interrupted by an error
      2    wrong usage
      130  interrupted by Ctrl-C
    """
    store, out = open_store(source), open_store(_absolute(target))
    if isinstance(store, FolderStore) and not store.root.is_dir():
        raise typer.BadParameter(f"{source} is not a folder")
    inner = store.name_of(out)
    verb = _verb(store, source, compress, inner)
    if verb == "restore" and inner == "":
        raise typer.BadParameter("restoring into the folder of the payloads could take originals there for results; "
                                 "choose another folder", param_hint="OUT")
    foreign = {
        "restore": {"--no-align": not align, "--fit": fit is not None, "--quality": quality is not None,
                    "--max-bytes": max_bytes is not None},
        "compress": {"--format": file_format is not FormatChoice.png, "--size": size != "original",
                     "--strength": strength is not None, "--no-mark": not mark}}[verb]
    if wrong := [name for name, given in foreign.items() if given]:
        raise typer.BadParameter(f"{_doing(verb)} does not take it; leave it out", param_hint=", ".join(wrong))
    if gpus != 1 and device is not DeviceChoice.cuda:
        raise typer.BadParameter("is for --device cuda", param_hint="--gpus")
    manifests = [verify_bundle(found.folder) for found in bundles_for(bundle, quality, max_bytes)]
    wanted = size_of(size)
    if verb == "restore":
        strength_of(manifests[0], strength)
        enlargement(None, manifests[0], wanted)
    if device is not DeviceChoice.cpu:
        require_provider(device.value)
    plan = BatchPlan(
        _absolute(source), _absolute(target), verb, [str(each.folder.resolve()) for each in manifests],
        PAYLOAD_SUFFIX if verb == "compress" else f".{file_format.value}", fit=None if fit is None else fit.value,
        align=align, max_bytes=max_bytes, size=wanted, strength=strength, mark=mark, device=device.value,
        batch_size=batch_size, force=force, inner=inner or "",
        max_pixels=(max_photo_pixels_of if verb == "compress" else max_pixels_of)(max_megapixels))
    path = failures or (out.root if isinstance(out, FolderStore) else Path()) / FAILURES
    began = time.monotonic()
    with _counts_shown(_doing(verb)) as report:
        total = run_batch(plan, path, workers=workers, gpus=gpus if device is DeviceChoice.cuda else 0.0,
                          ray_address=ray_address, report=report)
    if json_output:
        print_json({
            "verb": verb, "source": plan.source, "target": plan.target, "bundle": manifests[0].id,
            "done": total.done, "skipped": total.skipped, "failed": total.failed, "bytes_in": total.bytes_in,
            "bytes_out": total.bytes_out, "seconds": round(time.monotonic() - began, 3),
            "failures": str(path) if total.failed else None})
    else:
        typer.echo(f"{total.done:,} done in {time.monotonic() - began:,.1f} s ({total.bytes_in:,} bytes became "
                   f"{total.bytes_out:,}), {total.skipped:,} skipped, {total.failed:,} failed")
    for failure in total.failures:
        typer.echo(f"error: {failure['name']}: {failure['error']}", err=True)
    if total.failed:
        typer.echo(f"{total.failed:,} of {total.done + total.failed:,} failed; all are in {path}", err=True)
        raise typer.Exit(1)


def _verb(store: Store, place: str, compress: bool | None, inner: str | None) -> Verb:
    wanted: Verb | None = None if compress is None else "compress" if compress else "restore"
    unlisted = Tally()
    if next(candidates(store.names(unlisted.fail), wanted, inner), None) is None:
        kind = {None: "picture or payload", "compress": "picture", "restore": "payload"}[wanted]
        reason = "".join(f"; {each['name']} cannot be listed: {each['error']}" for each in unlisted.failures[:1])
        raise typer.BadParameter(f"{place} holds no {kind}{reason}")
    found = wanted or find_verb(store, inner)
    if found is None:
        raise typer.BadParameter(f"{place} holds pictures and payloads; choose --compress or --restore")
    return found


def _doing(verb: Verb) -> str:
    return f"{verb.removesuffix('e')}ing"


def _absolute(place: str) -> str:
    return place if "://" in place else os.path.abspath(place)


@contextmanager
def _counts_shown(text: str) -> Iterator[Callable[[Tally], None]]:
    """Show counts on stderr if it is a terminal; yields the function that sets them."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task(f"{text}: starting")
        yield lambda total: bars.update(
            bar, description=f"{text}: {total.done:,} done, {total.skipped:,} skipped, {total.failed:,} failed")
