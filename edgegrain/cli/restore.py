"""``edgegrain restore``: restore the pictures of payloads."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codec_contract.errors import ImageError
from codec_contract.fit import Size
from codec_contract.payload import PAYLOAD_SUFFIX
from edgegrain.cli.files import (
    RESTORED_SUFFIXES,
    STDOUT,
    FileJob,
    existing_source,
    plan_jobs,
    read_source,
    refuse_existing,
    refuse_sources,
    write_result,
)
from edgegrain.cli.options import (
    BUNDLE_HELP,
    DeviceChoice,
    DeviceOption,
    ForceOption,
    FormatChoice,
    JsonOption,
    MarkOption,
    MaxMegapixelsOption,
    RemoteOption,
    SizeOption,
    TokenOption,
    max_pixels_of,
    refuse_options,
    size_of,
)
from edgegrain.cli.output import Row, finish, run_all
from edgegrain.pictures.file_formats import MAX_SIDES, SAVE_OPTIONS

if TYPE_CHECKING:
    from PIL import Image


def restore(
    payloads: Annotated[
        list[Path], typer.Argument(parser=existing_source, help=(
            "Payloads (.grain), LRs (.png), or folders of payloads (names that begin with a dot are skipped); - for "
            "standard input."))
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="PATH", help="Folder for the pictures, or for a single one a file: a name "
                     "with a suffix and no final /; - for standard output [default: next to the payload, as "
                     "NAME.restored.png; of standard input, -]."),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", "-b", help=f"{BUNDLE_HELP} [default: the one that the payload names]."),
    ] = None,
    size: SizeOption = "original",
    device: DeviceOption = DeviceChoice.cpu,
    file_format: Annotated[
        FormatChoice,
        typer.Option("--format", help="Format of the pictures; for a file given by --out its suffix decides."),
    ] = FormatChoice.png,
    max_megapixels: MaxMegapixelsOption = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="For bundles with that control: seed of the faint detail that the LR does "
                                 "not determine [default: the likeliest detail].")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="For bundles with that control: the factor, 4 to 64, by which the picture is "
                                   "assumed to have been reduced; larger values hallucinate more detail [default: the "
                                   "bundle's].")
    ] = None,
    background: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="For an aligned or cropped picture: the whole picture, of "
                     "its size or aspect, into which the restored part is pasted; --size is then the part's, and "
                     "original the same as native."),
    ] = None,
    remote: RemoteOption = None,
    token: TokenOption = None,
    mark: MarkOption = True,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Restore the pictures of payloads.

    \b
    Examples:
      edgegrain restore me.grain                     writes me.restored.png
      edgegrain restore me.grain --out back.jpg
      edgegrain restore payloads/ --out pictures/ --device cuda
      edgegrain restore me.grain --size 1024         for a bundle with an enlarger
      edgegrain restore me.grain --format webp --out - > me.webp
      ssh host cat me.grain | edgegrain restore - > me.png
      edgegrain restore me.lr.png --bundle faces     an LR stored as a PNG
      edgegrain restore me.grain --strength 24       for a bundle with that control
      edgegrain restore face.grain --background group.jpg
      edgegrain restore me.grain --remote http://host:8000
    """
    import sdk

    jobs = plan_jobs(
        payloads, out, wanted=frozenset([PAYLOAD_SUFFIX]), result_suffix=RESTORED_SUFFIXES[file_format])
    max_pixels = max_pixels_of(max_megapixels)
    wanted = size_of(size)
    refuse_options({"--seed": remote and seed is not None}, "the service takes no seed; leave --seed or --remote out")
    refuse_options({"--device": remote and device is not DeviceChoice.cpu},
                   "the service has its own device; leave --device or --remote out")
    refuse_options({"--background": background and len(jobs) > 1}, f"it takes one payload, got {len(jobs)}")
    if background is not None:
        refuse_sources([jobs[0].target], [background])
    service = None if remote is None else sdk.connect(remote, token=token)

    def restored(source: Path | bytes, size: Size) -> Image.Image:
        if service is not None:
            return service.restore(
                source, bundle=bundle, size=size, max_pixels=max_pixels, strength=strength, mark=mark)
        return sdk.restore(source, bundle, size=size, device=device.value, max_pixels=max_pixels, seed=seed,
                           strength=strength, mark=mark)

    def picture_of(source: Path | bytes) -> Image.Image:
        if background is None:
            return restored(source, wanted)
        part = restored(source, "native" if wanted == "original" else wanted)  # pasting resamples to the background
        return sdk.paste(part, source, background, max_pixels=max_pixels, mark=mark)

    def work(job: FileJob) -> Row:
        row = restore_file(job, picture_of, force, file_format)
        return {**row, "device": device.value if remote is None else remote}

    done, failed = run_all(jobs, work, text="restoring", name=lambda job: job.source)
    finish(done, failed, lambda row: f"{row['payload']} -> {row['picture']}: {row['width']} x {row['height']} pixels",
           json_output=json_output, summary=f"{len(done)} pictures", err=any(job.target == STDOUT for job in jobs))


def restore_file(
    job: FileJob, picture_of: Callable[[Path | bytes], Image.Image], force: bool,
    file_format: FormatChoice = FormatChoice.png
) -> Row:
    """Restore one file with ``picture_of`` and write it, in ``file_format`` to `STDOUT`; returns the row to print."""
    suffix = f".{file_format.value}" if job.target == STDOUT else job.target.suffix.lower()
    if suffix not in SAVE_OPTIONS:
        found = suffix or "a file without suffix"
        raise ImageError(f"pictures are written as {', '.join(SAVE_OPTIONS)}, not as {found}")
    refuse_existing([job.target], force)
    picture = picture_of(read_source(job.source))
    kind, options = SAVE_OPTIONS[suffix]
    if max(picture.size) > MAX_SIDES[kind.lower()]:
        raise ImageError(f"the picture has {picture.width} x {picture.height} pixels, the sides of a {kind} file have "
                         f"at most {MAX_SIDES[kind.lower()]}; write a PNG, or ask for --size native")
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    write_result(job.target, stream.getvalue(), force=force)
    return {"payload": job.source, "picture": job.target, "width": picture.width, "height": picture.height}
