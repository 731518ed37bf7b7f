"""``edgegrain compress``: compress pictures to payloads."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codec_contract.errors import ImageError
from codec_contract.extras import needs_extra
from codec_contract.fit import Fit
from codec_contract.payload import PAYLOAD_SUFFIX
from edge_encoder.preprocessing import PICTURE_SUFFIXES
from edgegrain.cli.files import (
    LR_SUFFIX,
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
    AlignOption,
    FitOption,
    ForceOption,
    JsonOption,
    MaxBytesOption,
    MaxMegapixelsOption,
    QualityOption,
    RefineOption,
    RefineSizeOption,
    RemoteOption,
    TokenOption,
    max_photo_pixels_of,
    require_search,
)
from edgegrain.cli.output import Row, finish, progress_bar, run_all, times_less

if TYPE_CHECKING:
    import sdk

COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}


def parse_colour(text: str) -> tuple[int, int, int]:
    """``white``, ``black``, ``grey`` or ``#rrggbb`` as three levels."""
    if text in COLOURS:
        return COLOURS[text]
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise typer.BadParameter(f"{text!r} is not a colour; write #rrggbb or one of {', '.join(COLOURS)}",
                                 param_hint="--background")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def compress(
    pictures: Annotated[list[Path], typer.Argument(
        parser=existing_source, help="Pictures, or folders of pictures (names that begin with a dot are skipped); - "
        "for standard input.")],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="PATH", help="Folder for the payloads, or for a single one a file: a name "
                     "with a suffix and no final /; - for standard output [default: next to the picture, with the "
                     "suffix .grain; of standard input, -]."),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", "-b", help=f"{BUNDLE_HELP} [default: faces, or the service's first]."),
    ] = None,
    align: AlignOption = True,
    all_faces: Annotated[
        bool, typer.Option("--all-faces", help="Encode every face of at least 32 pixels, each to a payload of its own: "
                           "me.1.grain, the largest, me.2.grain, ...")
    ] = False,
    scene: Annotated[
        bool, typer.Option("--scene", help="Encode all faces, also small ones, and a blurred background in one file, "
                           "which 'restore' turns into the whole photograph; the background takes what --max-bytes "
                           "leaves.")
    ] = False,
    fit: FitOption = None,
    background: Annotated[
        str, typer.Option(help="Colour behind transparent pixels: #rrggbb, white, black or grey.")
    ] = "white",
    require_face: Annotated[
        bool, typer.Option("--require-face", help="Refuse a face that is too small, turned away or cut off; see "
                           "'edgegrain faces'.")
    ] = False,
    quality: QualityOption = None,
    max_bytes: MaxBytesOption = None,
    refine: RefineOption = 0,
    refine_size: RefineSizeOption = 0,
    weights: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="For --refine: folder of the metric weights [default: those of "
                     "'edgegrain metrics fetch']."),
    ] = None,
    lr: Annotated[bool, typer.Option("--lr", help="Also write the LR as a small PNG next to each payload.")] = False,
    max_megapixels: MaxMegapixelsOption = None,
    remote: RemoteOption = None,
    token: TokenOption = None,
    force: ForceOption = False,
    json_output: JsonOption = False,
) -> None:
    """Compress photographs to a few hundred bytes.

    The largest face of a photograph is found, cut out and encoded; a portrait that is framed as in FFHQ is encoded
    whole. Bundles of other domains than faces encode whole pictures.

    me.jpg becomes me.grain. If me.png next to it is compressed in the same command, they become me.jpg.grain and
    me.png.grain. Of a folder, names such as me.lr.png, me.restored.png and me.retouched.png, which edgegrain gives to
    its results, are skipped; name such a file to compress it.

    \b
    Examples:
      edgegrain compress me.jpg                      writes me.grain
      edgegrain compress me.jpg --out small.grain
      edgegrain compress holiday/ --out payloads/    every picture in the folder
      edgegrain compress me.jpg --out - | ssh host 'cat > me.grain'
      curl -s https://example.com/me.jpg | edgegrain compress - > me.grain
      edgegrain compress group.jpg --all-faces       writes group.1.grain, group.2.grain, ...
      edgegrain compress group.jpg --scene --max-bytes 1500
      edgegrain compress *.png --fit crop --json
      edgegrain compress me.jpg --max-bytes 500      the best quality that fits
      edgegrain compress me.jpg --refine 40          better at the same bytes, in 15 seconds
      edgegrain compress me.jpg --refine 40 --max-bytes 400
      edgegrain compress me.jpg --remote http://host:8000
    """
    import sdk
    from sdk.rate_control import bundles_for, compress_within
    from sdk.scenes import compress_scene_within

    if all_faces or scene:
        name, foreign = "--all-faces" if all_faces else "--scene", {
            "--no-align": not align, "--fit": fit is not None, "--require-face": require_face, "--refine": refine > 0,
            "--lr": lr, "--scene": all_faces and scene, "--quality": all_faces and quality is not None,
            "--max-bytes": all_faces and max_bytes is not None}
        if wrong := [option for option, given in foreign.items() if given]:
            raise typer.BadParameter(f"{name} does not take it; leave it out", param_hint=", ".join(wrong))
    if require_face and (not align or fit is not None):
        raise typer.BadParameter("the face is checked that is cut out; leave it or --no-align and --fit out",
                                 param_hint="--require-face")
    fitting: Fit | None = None if fit is None else fit.value
    colour = parse_colour(background)
    jobs = plan_jobs(pictures, out, wanted=PICTURE_SUFFIXES, result_suffix=PAYLOAD_SUFFIX)
    piped = any(job.target == STDOUT for job in jobs)
    max_pixels = max_photo_pixels_of(max_megapixels)
    if all_faces and piped:
        raise typer.BadParameter("each face has a file of its own; name a folder instead of -",
                                 param_hint="--all-faces")
    if lr and piped:
        raise typer.BadParameter("the LR is written next to the payload; name a file instead of -", param_hint="--lr")
    if lr:
        refuse_sources(map(_lr_file, jobs), (job.source for job in jobs))
    if remote is not None and max_megapixels is not None and not require_face:  # which reads the picture here
        raise typer.BadParameter("the service has its own limit; leave --max-megapixels or --remote out",
                                 param_hint="--max-megapixels")
    if remote is not None and refine:
        raise typer.BadParameter("the service does not refine; leave --refine or --remote out", param_hint="--refine")
    require_search(refine, refine_size)
    service = None if remote is None else sdk.connect(remote, token=token)
    codecs = [] if service else [
        sdk.Codec(manifest.folder) for manifest in bundles_for(bundle or "faces", quality, max_bytes)]

    @functools.cache
    def refining(folder: Path) -> sdk.Codec:
        with needs_extra("train", "--refine needs"):
            from edgegrain.refinement import RefiningCodec
        return RefiningCodec(folder, steps=refine, size=refine_size or None, max_bytes=max_bytes, weights=weights,
                             report=report)

    def payload_of(source: Path | bytes) -> sdk.Payload:
        if service is None:
            if refine and max_bytes is None:  # one bundle
                return refining(codecs[0].bundle.folder).compress(
                    source, fitting, background=colour, max_pixels=max_pixels, align=align,
                    require_face=require_face)
            payload = compress_within(
                codecs, source, fitting, max_bytes=max_bytes, background=colour, max_pixels=max_pixels, align=align,
                require_face=require_face)
            if not refine:
                return payload
            folder = next(codec.bundle.folder for codec in codecs if codec.can_restore(payload))
            return refining(folder).compress(
                source, fitting, background=colour, max_pixels=max_pixels, align=align)
        if require_face and (wrong := sdk.find_faces(source, background=colour, max_pixels=max_pixels).message):
            raise ImageError(wrong)
        return service.compress(source, fitting, bundle=bundle, background=colour, max_pixels=max_pixels, align=align,
                                quality=None if quality is None else quality.value, max_bytes=max_bytes)

    def scene_of(source: Path | bytes) -> sdk.Scene:
        if service is None:
            return compress_scene_within(codecs, source, max_bytes=max_bytes, background=colour, max_pixels=max_pixels)
        return service.compress_scene(source, bundle=bundle, background=colour, max_pixels=max_pixels,
                                      quality=None if quality is None else quality.value, max_bytes=max_bytes)

    def faces_of(source: Path | bytes) -> list[sdk.Payload]:
        if service is None:
            return codecs[0].compress_faces(source, background=colour, max_pixels=max_pixels)
        return service.compress_faces(source, bundle=bundle, background=colour, max_pixels=max_pixels)

    def work_faces(job: FileJob) -> Row:
        payloads = faces_of(read_source(job.source))
        files = [job.target.with_name(f"{job.target.stem}.{number}{job.target.suffix}")
                 for number in range(1, len(payloads) + 1)]
        refuse_existing(files, force)
        for file, payload in zip(files, payloads, strict=True):
            write_result(file, payload, force=force)
        return {"picture": job.source, "payloads": files, "bytes": [len(payload) for payload in payloads],
                "fits": [payload.fit for payload in payloads]}

    def work_scene(job: FileJob) -> Row:
        refuse_existing([job.target], force)
        source = read_source(job.source)
        made = scene_of(source)
        write_result(job.target, made, force=force)
        return {"picture": job.source, "payload": job.target, "bytes": len(made), "faces": len(made.faces),
                "width": made.original_size[0], "height": made.original_size[1]}

    def work(job: FileJob) -> Row:
        written = [job.target, *([_lr_file(job)] if lr else [])]
        refuse_existing(written, force)  # before the work, and again when it is written
        source = read_source(job.source)
        payload = payload_of(source)
        lr_png = _lr_png(payload) if lr else None  # before the payload is written: its LR may not be known here
        write_result(job.target, payload, force=force)
        row: Row = {
            "picture": job.source, "payload": job.target, "bytes": len(payload),
            "picture_bytes": len(source) if isinstance(source, bytes) else source.stat().st_size,
            "width": payload.original_size[0], "height": payload.original_size[1], "fit": payload.fit,
            "bundle": (next(codec.bundle.id for codec in codecs if codec.can_restore(payload)) if codecs
                       else payload.bundle)}
        if lr_png is not None:
            row["lr"] = _lr_file(job)
            write_result(row["lr"], lr_png, force=force)
        return row

    # Several pictures have a bar of their own; a single one that is refined takes as long as many others.
    one = refine and len(jobs) == 1 and sys.stderr.isatty()
    with progress_bar() if one else contextlib.nullcontext() as bar:
        report = None if bar is None else lambda part: bar(part, "refining")
        if refine and len(codecs) == 1:
            refining(codecs[0].bundle.folder)  # what is missing is an error of the command, not of each picture
        done, failed = run_all(jobs, work_scene if scene else work_faces if all_faces else work, text="compressing",
                               name=lambda job: job.source)
    if scene or all_faces:
        finish(done, failed, _scene_line if scene else _faces_line, json_output=json_output, err=piped)
        return
    total, before = (sum(row[key] for row in done) for key in ("bytes", "picture_bytes"))
    finish(done, failed, _line, json_output=json_output,
           summary=f"{len(done)} pictures: {before:,} bytes became {total:,}", err=piped)


def _line(row: Row) -> str:
    size, file, pixels = row["bytes"], row["picture_bytes"], 3 * row["width"] * row["height"]
    return (f"{row['picture']} -> {row['payload']}: {size:,} bytes, {times_less(file / size)} the file, "
            f"{times_less(pixels / size)} its pixels")


def _faces_line(row: Row) -> str:
    return "\n".join(f"{row['picture']} -> {file}: {size:,} bytes"
                     for file, size in zip(row["payloads"], row["bytes"], strict=True))


def _scene_line(row: Row) -> str:
    faces = f"{row['faces']} face{'s' if row['faces'] > 1 else ''}"
    return f"{row['picture']} -> {row['payload']}: {row['bytes']:,} bytes, {faces} and a background"


def _lr_file(job: FileJob) -> Path:
    return job.target.with_suffix(LR_SUFFIX)


def _lr_png(payload: sdk.Payload) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(payload.lr).save(stream, "PNG", optimize=True)
    return stream.getvalue()
