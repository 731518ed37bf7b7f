"""``edgegrain faces``: find the faces of pictures, and what is wrong with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_encoder.preprocessing import PICTURE_SUFFIXES
from edgegrain.cli.files import existing_source, list_files, read_source
from edgegrain.cli.options import JsonOption, MaxMegapixelsOption, max_photo_pixels_of
from edgegrain.cli.output import Row, finish, run_all


def faces(
    pictures: Annotated[list[Path], typer.Argument(
        parser=existing_source, help="Pictures, or folders of pictures (names that begin with a dot are skipped); - "
        "for standard input.")],
    all_faces: Annotated[
        bool, typer.Option("--all-faces", help="Search all parts of the picture, as 'compress --all-faces' does.")
    ] = False,
    max_megapixels: MaxMegapixelsOption = None,
    json_output: JsonOption = False,
) -> None:
    """Find the faces of pictures, and what is wrong with the largest for 'compress'.

    Folders are read as by 'compress': results of edgegrain, such as me.restored.png, are skipped.

    The exit status is 1 if 'compress --require-face' would refuse a picture.

    \b
    Examples:
      edgegrain faces me.jpg
      edgegrain faces holiday/ --json
      edgegrain faces group.jpg --all-faces
    """
    import sdk

    max_pixels = max_photo_pixels_of(max_megapixels)

    def work(path: Path) -> Row:
        check = sdk.find_faces(read_source(path), max_pixels=max_pixels, every=all_faces)
        return {"picture": path, **dataclasses.asdict(check)}

    done, failed = run_all(list_files(pictures, PICTURE_SUFFIXES), work, text="finding faces", name=lambda path: path)
    finish(done, failed, _lines, json_output=json_output)
    if any(row["problems"] for row in done):
        raise typer.Exit(1)


def _lines(row: Row) -> str:
    return "\n".join([f"{row['picture']}: {row['message'] or 'the largest face can be encoded'}",
                      *map(_face_line, row["faces"])])


def _face_line(face: dict[str, Any]) -> str:
    left, top, right, _ = face["box"]
    return (f"  {right - left:.0f} pixels ({face['share']:.0%}) at ({left:.0f}, {top:.0f}), roll {face['roll']:z.0f}, "
            f"yaw {face['yaw']:z.0f} degrees, score {face['score']:.2f}"
            + (f": {', '.join(face['problems'])}" if face["problems"] else ""))
