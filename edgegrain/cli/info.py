"""``edgegrain info``: check and describe payloads, and show the marks of pictures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from codec_contract.bundle.find import Control
from codec_contract.fit import Size
from codec_contract.oriented_square import UNITS, OrientedSquare
from codec_contract.payload import PAYLOAD_SUFFIX
from codec_contract.scene import is_scene
from edge_encoder.preprocessing import PICTURE_SUFFIXES
from edgegrain.cli.files import existing_source, list_files, read_source
from edgegrain.cli.options import JsonOption
from edgegrain.cli.output import Row, finish, run_all

if TYPE_CHECKING:
    import sdk


def info(
    payloads: Annotated[
        list[Path], typer.Argument(parser=existing_source, help=(
            "Payloads (.grain), folders of payloads (names that begin with a dot are skipped), or pictures; - for a "
            "payload on standard input."))
    ],
    time: Annotated[
        bool, typer.Option("--time", help="Also restore each payload at every size of its bundle, and print how long "
                           "this machine takes, after a first run that is not counted.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Check and describe payloads, and show whether pictures are marked as generated.

    All fields and the coded body are checked; without --time no neural network runs. The payloads of folders are
    listed in a table, whose last column holds the times of --time.

    \b
    Examples:
      edgegrain info me.grain
      edgegrain info *.grain --json
      edgegrain info me.grain --time
      edgegrain info restored.png
      edgegrain info payloads/
      edgegrain info payloads/ --time
    """
    import sdk

    def work(path: Path) -> Row:
        if _is_picture(path):
            return _picture_row(path)
        payload = read_source(path)
        data = payload if isinstance(payload, bytes) else payload.read_bytes()
        if is_scene(data):
            return _scene_row(path, sdk.Scene(data))
        row: Row = {"file": path, **dataclasses.asdict(sdk.inspect(payload))}
        return row | {"seconds": _seconds(payload, row["sides"])} if time and row["bundle"] else row

    files = list_files(payloads, frozenset([PAYLOAD_SUFFIX]))
    done, failed = run_all(files, work, text="checking", name=lambda path: path)
    as_table = files != payloads and not any(map(_is_picture, files))
    finish(done, failed, _columns(done) if as_table else _lines, json_output=json_output,
           summary=_summary(done) if as_table and done else "")


def _scene_row(path: Path, scene: sdk.Scene) -> Row:
    import sdk
    from sdk.scenes import small_background

    small_background(scene)
    first = sdk.inspect(scene.faces[0])
    return {"file": path, "bytes": len(scene), "faces": len(scene.faces), "original_size": scene.original_size,
            "background_bytes": len(scene.parsed.background), "bundle": first.bundle, "contract_id": first.contract_id,
            "fit": "scene", "body_checked": all(sdk.inspect(face).body_checked for face in scene.faces)}


def _seconds(payload: Path | bytes, sides: Sequence[int]) -> dict[str, float]:
    """Size in pixels -> time to restore a payload at it; only "original" for bundles of tiles."""
    import sdk

    sizes: tuple[Size, ...] = tuple(sides) or ("original",)
    found = {}
    for size in sizes:
        sdk.restore(payload, size=size)
        begin = perf_counter()
        sdk.restore(payload, size=size)
        found[str(size)] = round(perf_counter() - begin, 4)
    return found


def _columns(rows: list[Row]) -> Callable[[Row], str]:
    """A line of a table for each of the rows."""
    widths = [max(map(len, column)) for column in zip(*map(_cells, rows), strict=True)]
    aligned = (str.ljust, str.rjust, str.rjust, str.ljust, str.ljust, str.ljust, str.ljust)

    def line(row: Row) -> str:
        cells = zip(aligned, _cells(row), widths, strict=True)
        return "  ".join(align(cell, width) for align, cell, width in cells).rstrip()

    return line


def _cells(row: Row) -> tuple[str, ...]:
    width, height = row["original_size"]
    bundle = row["bundle"] or f"not installed ({row['contract_id']})"
    checked = "intact" if row["body_checked"] else "header intact"
    return (str(row["file"]), f"{row['bytes']:,} bytes", f"{width} x {height}", row["fit"], bundle, checked,
            _times(row))


def _times(row: Row) -> str:
    """The time to restore a payload at every size; empty if it was not measured."""
    return ", ".join(f"{size}: {1000 * seconds:,.0f} ms" for size, seconds in row.get("seconds", {}).items())


def _summary(rows: list[Row]) -> str:
    sizes = sorted(row["bytes"] for row in rows)
    return f"{len(rows):,} payloads, {sum(sizes):,} bytes: {sizes[0]:,} to {sizes[-1]:,}, median {median(sizes):,.0f}"


def _part(square: OrientedSquare) -> str:
    degrees = math.degrees(math.atan2(square.across_y, square.across_x))
    return (f"a square of {square.side} pixels around ({square.x / UNITS:.0f}, {square.y / UNITS:.0f}), turned by "
            f"{degrees:.0f} degrees; restore --background")


def _sides(sides: Sequence[int]) -> str:
    """The sizes in pixels at which a bundle restores: those of its networks, and smaller ones."""
    if len(sides) == 1:
        return f"up to {sides[0]} pixels; larger ones are interpolated"
    return f"up to {sides[-1]} pixels ({', '.join(map(str, sides))}); restore --size {sides[-1]}"


def _lines(row: Row) -> str:
    if "mark" in row:
        return _picture_lines(row)
    if row["fit"] == "scene":
        width, height = row["original_size"]
        return "\n".join([
            f"{row['file']}", f"  size      {row['bytes']:,} bytes, {row['background_bytes']:,} of them the background",
            f"  bundle    {row['bundle'] or 'not installed'} (LR contract {row['contract_id']})",
            f"  original  {width} x {height} pixels, a scene of {row['faces']} face{'s' * (row['faces'] > 1)}",
            f"  checked   {'intact' if row['body_checked'] else 'headers and CRC intact'}"])
    pixels = 3 * row["original_size"][0] * row["original_size"][1]
    bundle = row["bundle"] or "not installed"
    checked = "intact" if row["body_checked"] else "header and CRC intact; checking the body needs its bundle"
    fields = {
        "size": f"{row['bytes']:,} bytes, {pixels / row['bytes']:,.0f} times less than the original's pixels",
        "bundle": f"{bundle} (LR contract {row['contract_id']})",
        "original": f"{row['original_size'][0]} x {row['original_size'][1]} pixels, fit {row['fit']}",
        **({} if row["square"] is None else {"part": _part(OrientedSquare(**row["square"]))}),
        **({"restored": _sides(row["sides"])} if row["sides"] else {}),
        **({"time": _times(row)} if "seconds" in row else {}),
        "LR": f"{row['lr_size'][0]} x {row['lr_size'][1]}",
        "format": f"version {row['version']}, {row['coding']} coding",
        "checked": checked,
        **{name: f"{Control(**control)}; restore --{name}" for name, control in row["controls"].items()},
    }
    return "\n".join([f"{row['file']}", *(f"  {name:<9} {value}" for name, value in fields.items())])


def _is_picture(path: Path) -> bool:
    """True if the suffix is that of a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def _picture_row(path: Path) -> Row:
    """The mark of a picture as plain data, None without one."""
    import sdk

    mark = sdk.read_mark(path)
    return {"file": path, "mark": None if mark is None else {
        **dataclasses.asdict(mark), "by_edgegrain": mark.by_edgegrain}}


def _picture_lines(row: Row) -> str:
    """The lines to print for a `_picture_row`."""
    mark = row["mark"] or {"by_edgegrain": False}
    bundle = " ".join(filter(None, [mark.get("bundle"), mark.get("bundle_version")]))
    fields = {
        **({} if mark["by_edgegrain"] else {"mark": "none of edgegrain"}),
        **({} if row["mark"] is None else {"source": mark["source_type"], "tool": mark["tool"] or "not named"}),
        **({"bundle": bundle} if bundle else {}),
    }
    # Another program's text may contain control characters, which a terminal would obey.
    return "\n".join([f"{row['file']}", *(
        f"  {name:<9} {''.join(filter(str.isprintable, value))}" for name, value in fields.items())])
