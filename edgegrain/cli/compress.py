"""``edgegrain compress`` and ``edgegrain faces``: compress pictures to payloads, check their faces."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

import sdk
from codec_contract.bundle.manifest import Rate
from codec_contract.errors import needs_extra
from codec_contract.fit import MAX_PHOTO_PIXELS
from codec_contract.payload import PAYLOAD_SUFFIX
from edge_encoder.preprocessing import PICTURE_SUFFIXES
from edgegrain.cli import files, options
from edgegrain.cli.files import FileJob, refuse_existing, write_result
from edgegrain.cli.options import refuse_options
from edgegrain.cli.output import Row, progress_bar, run_all, times_less
from sdk.api import bundles_for, compress_faces_within, compress_within
from sdk.scenes import compress_scene_within


def compress(
    pictures: files.SourcesArgument,
    out: options.OutOption = None,
    bundle: Annotated[str | None, typer.Option("--bundle", "-b")] = None,
    align: options.AlignOption = True,
    all_faces: Annotated[bool, typer.Option("--all-faces")] = False,
    scene: Annotated[bool, typer.Option("--scene")] = False,
    fit: options.FitOption = None,
    require_face: Annotated[bool, typer.Option("--require-face")] = False,
    quality: options.QualityOption = None,
    max_bytes: options.MaxBytesOption = None,
    refine: options.RefineOption = 0,
    refine_size: options.RefineSizeOption = 0,
    lr: Annotated[bool, typer.Option("--lr")] = False,
    max_megapixels: options.MaxMegapixelsOption = None,
    remote: options.RemoteOption = None,
    token: options.TokenOption = None,
    force: options.ForceOption = False,
    json_output: options.JsonOption = False,
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
      edgegrain compress me.jpg --max-bytes 500      the best quality that fits
      edgegrain compress me.jpg --refine 40          better at the same bytes, in 15 seconds
      edgegrain compress me.jpg --remote http://host:8000

    Args:
        pictures: Pictures, or folders of pictures (names that begin with a dot are skipped); - for standard input.
        out: Folder for the payloads, or for a single one a file: a name with a suffix and no final /; - for standard
            output [default: next to the picture, with the suffix .grain; of standard input, -].
        bundle: Id, alias, folder or hf:// name of the bundle [default: faces, or the service's first].
        all_faces: Encode every face of at least 32 pixels, the largest to me.1.grain, ...; --max-bytes is of each.
        scene: Encode all faces, also small ones, and a blurred background in one file of the whole photograph; the
            background takes what --max-bytes leaves.
        require_face: Refuse a face that is too small, turned away or cut off; see 'edgegrain faces'.
        lr: Also write the LR as a small PNG next to each payload.
    """
    if all_faces or scene:
        given: Any = {"--no-align": not align, "--fit": fit, "--require-face": require_face}
        given |= {"--refine": refine, "--lr": lr}
        if all_faces:
            given["--scene"] = scene
        refuse_options(given, f"{'--all-faces' if all_faces else '--scene'} does not take it; leave it out")
    cut_out = "the face is checked that is cut out; leave it or --no-align and --fit out"
    refuse_options({"--require-face": require_face and (not align or fit is not None)}, cut_out)
    plan = files.plan_jobs(pictures, out, wanted=PICTURE_SUFFIXES, result_suffix=PAYLOAD_SUFFIX)
    own_files = "each face has a file of its own; name a folder instead of -"
    refuse_options({"--all-faces": all_faces and plan.piped}, own_files)
    refuse_options({"--lr": lr and plan.piped}, "the LR is written next to the payload; name a file instead of -")
    if lr:
        files.refuse_sources(map(_lr_file, plan.items), (job.source for job in plan.items))
    own_limit = "the service has its own limit; leave --max-megapixels or --remote out"
    refuse_options({"--max-megapixels": remote and max_megapixels}, own_limit)
    refuse_options({"--refine": remote and refine}, "the service does not refine; leave --refine or --remote out")
    refuse_options({"--refine-size": refine_size and not refine}, options.SEARCH_SIZE)
    max_pixels = options.max_pixels_of(max_megapixels, MAX_PHOTO_PIXELS)
    codecs: list[sdk.Codec] = []
    face_of: Any
    if remote is None:
        codecs += (sdk.Codec(manifest.folder) for manifest in bundles_for(bundle or "faces", quality, max_bytes))
        face_of = partial(compress_within, codecs, quality, max_bytes)
        scene_of = partial(compress_scene_within, codecs, quality, max_bytes)
        faces_of = partial(compress_faces_within, codecs, quality, max_bytes)
    else:
        service = sdk.connect(remote, token=token)
        face_of = partial(service.compress, bundle=bundle, quality=quality, max_bytes=max_bytes)
        scene_of = partial(service.compress_scene, bundle=bundle, quality=quality, max_bytes=max_bytes)
        faces_of = partial(service.compress_faces, bundle=bundle, quality=quality, max_bytes=max_bytes)

    @cache
    def refining(folder: Path, rate: Rate | None) -> Any:
        with needs_extra("train", "--refine needs"):
            from edgegrain.refinement import RefiningCodec
        return RefiningCodec(folder, rate=rate, steps=refine, size=refine_size or None, max_bytes=max_bytes)

    def codec_of(payload: sdk.Payload) -> sdk.Codec:
        return next(codec for codec in codecs if codec.can_restore(payload))

    def payload_of(source: Path | bytes) -> sdk.Payload:
        payload = face_of(source, fit, align=align, require_face=require_face, max_pixels=max_pixels)
        if not refine:
            return payload
        codec = codec_of(payload)
        refiner = refining(codec.bundle.folder, codec._manifest.rate_of(payload.header))
        # Several pictures have a bar of their own; a single one takes as long as many others.
        one = len(plan.items) == 1 and sys.stderr.isatty()
        with progress_bar("refining") if one else contextlib.nullcontext() as refiner.report:
            return refiner.compress(source, fit, align=align, max_pixels=max_pixels)

    def work(job: FileJob) -> Row:
        source, target = files.read_source(job.source), job.target
        if all_faces:
            payloads = faces_of(source, max_pixels=max_pixels)
            names = [f"{target.stem}.{number}{target.suffix}" for number in range(1, len(payloads) + 1)]
            targets = list(map(target.with_name, names))
            refuse_existing(targets, force)
            for file, payload in zip(targets, payloads, strict=True):
                write_result(file, payload, force=force)
            sizes, fits = list(map(len, payloads)), [payload.fit for payload in payloads]
            return {"picture": job.source, "payloads": targets, "bytes": sizes, "fits": fits}
        refuse_existing([target, _lr_file(job)] if lr else [target], force)  # and again when they are written
        made = scene_of(source, max_pixels=max_pixels) if scene else payload_of(source)
        lr_png = io.BytesIO()
        if lr and isinstance(made, sdk.Payload):  # before the payload is written: its LR may not be known here
            Image.fromarray(made.lr).save(lr_png, "PNG", optimize=True)
        write_result(target, made, force=force)
        width, height = made.original_size
        row: Row = {"picture": job.source, "payload": target, "bytes": len(made), "width": width, "height": height}
        if isinstance(made, sdk.Scene):
            return {**row, "faces": len(made.faces), "background_bytes": len(made.parsed.background)}
        row["picture_bytes"] = len(source) if isinstance(source, bytes) else source.stat().st_size
        row |= {"fit": made.fit, "bundle": codec_of(made).bundle.id if codecs else made.bundle}
        if lr:
            row["lr"] = _lr_file(job)
            write_result(row["lr"], lr_png.getvalue(), force=force)
        return row

    def summary(done: list[Row]) -> str:
        if scene or all_faces:
            return ""
        read, made = (sum(row[key] for row in done) for key in ("picture_bytes", "bytes"))
        return f"{len(done)} pictures: {read:,} bytes became {made:,}"

    if refine and len(codecs) == 1:  # what is missing is an error of the command, not of each picture
        refining(codecs[0].bundle.folder, codecs[0]._manifest.own_rate)
    run_all(plan, work, _lines, text="compressing", as_json=json_output, summary=summary)


def _lines(row: Row) -> list[str]:
    begin = f"{row['picture']} ->"
    if "payloads" in row:
        return [f"{begin} {file}: {size:,} bytes" for file, size in zip(row["payloads"], row["bytes"], strict=True)]
    size = row["bytes"]
    line = f"{begin} {row['payload']}: {size:,} bytes, "
    if "faces" in row:
        return [f"{line}{row['faces']} face{'s' * (row['faces'] > 1)}, {row['background_bytes']} bytes of background"]
    pixels = 3 * row["width"] * row["height"]
    return [f"{line}{times_less(row['picture_bytes'] / size)} the file, {times_less(pixels / size)} its pixels"]


def _lr_file(job: FileJob) -> Path:
    return job.target.with_suffix(files.LR_SUFFIX)


def faces(
    pictures: files.SourcesArgument,
    all_faces: Annotated[bool, typer.Option("--all-faces")] = False,
    max_megapixels: options.MaxMegapixelsOption = None,
    json_output: options.JsonOption = False,
) -> None:
    """Find the faces of pictures, and what is wrong with the largest for 'compress'.

    Folders are read as by 'compress': results of edgegrain, such as me.restored.png, are skipped.

    The exit status is 1 if 'compress --require-face' would refuse a picture.

    \b
    Examples:
      edgegrain faces me.jpg
      edgegrain faces holiday/ --json
      edgegrain faces group.jpg --all-faces

    Args:
        pictures: Pictures, or folders of pictures (names that begin with a dot are skipped); - for standard input.
        all_faces: Search all parts of the picture, as 'compress --all-faces' does.
    """
    max_pixels = options.max_pixels_of(max_megapixels, MAX_PHOTO_PIXELS)

    def work(path: Path) -> Row:
        check = sdk.find_faces(files.read_source(path), max_pixels=max_pixels, every=all_faces)
        return {"picture": path, **dataclasses.asdict(check)}

    def lines(row: Row) -> list[str]:
        first = f"{row['picture']}: {row['message'] or 'the largest face can be encoded'}"
        return [first, *map(_face_line, row["faces"])]

    plan = files.list_files(pictures, PICTURE_SUFFIXES)
    done = run_all(plan, work, lines, text="finding faces", as_json=json_output)
    if any(row["problems"] for row in done):
        raise typer.Exit(1)


def _face_line(face: dict[str, Any]) -> str:
    left, top, right, _ = face["box"]
    place = f"{right - left:.0f} pixels ({face['share']:.0%}) at ({left:.0f}, {top:.0f})"
    pose = f"roll {face['roll']:z.0f}, yaw {face['yaw']:z.0f} degrees, score {face['score']:.2f}"
    return f"  {place}, {pose}" + (f": {', '.join(face['problems'])}" if face["problems"] else "")
