"""``edgegrain restore``: restore the pictures of payloads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

import sdk
from codec_contract.errors import ImageError
from codec_contract.payload import PAYLOAD_SUFFIX
from edgegrain.cli import files, options
from edgegrain.cli.files import STDOUT, FileJob
from edgegrain.cli.options import refuse_options
from edgegrain.cli.output import Row, run_all
from edgegrain.pictures import FORMATS, MAX_SIDES, picture_file


def restore(
    payloads: files.SourcesArgument,
    out: options.OutOption = None,
    bundle: Annotated[str | None, typer.Option("--bundle", "-b")] = None,
    size: options.SizeOption = "original",
    device: options.DeviceOption = "cpu",
    file_format: Annotated[options.PictureFormat, typer.Option("--format")] = "png",
    max_megapixels: options.MaxMegapixelsOption = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    strength: float | None = None,
    background: Annotated[Path | None, typer.Option(exists=True, dir_okay=False)] = None,
    remote: options.RemoteOption = None,
    token: options.TokenOption = None,
    mark: options.MarkOption = True,
    force: options.ForceOption = False,
    json_output: options.JsonOption = False,
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

    Args:
        payloads: Payloads (.grain, or any file with the bytes or the text), LRs (.png), or folders of payloads (names
            that begin with a dot are skipped); - for standard input.
        out: Folder for the pictures, or for a single one a file: a name with a suffix and no final /; - for standard
            output [default: next to the payload, as NAME.restored.png; of standard input, -].
        bundle: Id, alias, folder or hf:// name of the bundle [default: the one that the payload names].
        file_format: Format of the pictures; for a file given by --out its suffix decides.
        seed: For bundles with that control: seed of the faint detail that the LR does not determine [default: the
            likeliest detail].
        strength: For bundles with that control: the factor, 4 to 64, by which the picture is assumed to have been
            reduced; larger values hallucinate more detail [default: the bundle's].
        background: For an aligned or cropped picture: the whole picture, of its size or aspect, into which the restored
            part is pasted; --size is then the part's, and original the same as
            native.
    """
    plan = files.plan_jobs(payloads, out, wanted=frozenset([PAYLOAD_SUFFIX]), result_suffix=f".restored.{file_format}")
    max_pixels, wanted = options.max_pixels_of(max_megapixels), options.size_of(size)
    refuse_options({"--seed": remote and seed is not None}, "the service takes no seed; leave --seed or --remote out")
    own_device = "the service has its own device; leave --device or --remote out"
    refuse_options({"--device": remote and device != "cpu"}, own_device)
    refuse_options({"--background": background and len(plan.items) > 1}, f"it takes one payload, got {len(plan.items)}")
    if background is not None:
        files.refuse_sources((job.target for job in plan.items), [background])
    chosen: Any = {"bundle": bundle, "max_pixels": max_pixels, "strength": strength, "mark": mark}
    restored: Callable[..., Image.Image]
    if remote is None:
        restored = partial(sdk.restore, device=device, seed=seed, **chosen)
    else:
        restored = partial(sdk.connect(remote, token=token).restore, **chosen)

    def picture_of(source: Path | bytes) -> Image.Image:
        if background is None:
            return restored(source, size=wanted)
        # Pasting resamples to the background.
        part = restored(source, size="native" if wanted == "original" else wanted)
        return sdk.paste(part, source, background, max_pixels=max_pixels, mark=mark)

    def work(job: FileJob) -> Row:
        return {**restore_file(job, picture_of, force, file_format), "device": remote or device}

    def line(row: Row) -> list[str]:
        return [f"{row['payload']} -> {row['picture']}: {row['width']} x {row['height']} pixels"]

    run_all(plan, work, line, text="restoring", as_json=json_output, summary=lambda done: f"{len(done)} pictures")


def restore_file(
    job: FileJob, picture_of: Callable[[Path | bytes], Image.Image], force: bool, file_format: str = "png"
) -> Row:
    """Restore one file with ``picture_of`` and write it, in ``file_format`` to `STDOUT`; returns the row to print."""
    suffix = f".{file_format}" if job.target == STDOUT else job.target.suffix.lower()
    if suffix not in FORMATS:
        raise ImageError(f"pictures are written as {', '.join(FORMATS)}, not as {suffix or 'a file without suffix'}")
    files.refuse_existing([job.target], force)
    picture = picture_of(files.read_source(job.source))
    (width, height), kind = picture.size, FORMATS[suffix]
    if max(picture.size) > MAX_SIDES[kind.lower()]:
        most = f"{MAX_SIDES[kind.lower()]}; write a PNG, or ask for --size native"
        raise ImageError(f"the picture has {width} x {height} pixels, the sides of a {kind} file have at most {most}")
    files.write_result(job.target, picture_file(picture, kind), force=force)
    return {"payload": job.source, "picture": job.target, "width": width, "height": height}
