"""``edgegrain info``: check and describe payloads, and show the marks of pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import sdk
from codec_contract.bundle.find import Control
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import PAYLOAD_SUFFIX
from edge_encoder.preprocessing import PICTURE_SUFFIXES
from edgegrain.cli.files import SourcesArgument, list_files, read_source
from edgegrain.cli.options import JsonOption
from edgegrain.cli.output import Row, run_all
from sdk.inputs import read_payload_or_scene
from sdk.scenes import small_background


def info(payloads: SourcesArgument, json_output: JsonOption = False) -> None:
    """Check and describe payloads, and show whether pictures are marked as generated.

    All fields and the coded body are checked; no neural network runs. Each payload of a folder gets a line.

    \b
    Examples:
      edgegrain info me.grain
      edgegrain info *.grain --json
      edgegrain info restored.png
      edgegrain info payloads/

    Args:
        payloads: Payloads (.grain, or any file with the bytes or the text), folders of payloads (names that begin with
            a dot are skipped), or pictures; - for a payload on standard input.
    """

    def work(path: Path) -> Row:
        if path.suffix.lower() in PICTURE_SUFFIXES:
            mark = sdk.read_mark(path)
            shown = None if mark is None else {**dataclasses.asdict(mark), "by_edgegrain": mark.by_edgegrain}
            return {"file": path, "mark": shown}
        payload = read_payload_or_scene(read_source(path))
        if isinstance(payload, sdk.Scene):
            return _scene_row(path, payload)
        return {"file": path, **dataclasses.asdict(sdk.inspect(payload))}

    def summary(done: list[Row]) -> str:
        return "" if lines is _fields else f"{len(done):,} payloads, {sum(row['bytes'] for row in done):,} bytes"

    plan = list_files(payloads, frozenset([PAYLOAD_SUFFIX]))
    pictures = any(path.suffix.lower() in PICTURE_SUFFIXES for path in plan.items)
    lines = _fields if pictures or plan.items == payloads else _line
    run_all(plan, work, lines, text="checking", as_json=json_output, summary=summary)


def _scene_row(path: Path, scene: sdk.Scene) -> Row:
    small_background(scene)
    first = sdk.inspect(scene.faces[0])
    row: Row = {"file": path, "bytes": len(scene), "faces": len(scene.faces), "original_size": scene.original_size}
    row |= {"background_bytes": len(scene.parsed.background), "bundle": first.bundle, "contract_id": first.contract_id}
    return {**row, "fit": "scene", "body_checked": all(sdk.inspect(face).body_checked for face in scene.faces)}


def _line(row: Row) -> Iterator[str]:
    """One of many payloads."""
    bundle = row["bundle"] or f"bundle not installed ({row['contract_id']})"
    width, height = row["original_size"]
    checked = "intact" if row["body_checked"] else "header intact"
    yield f"{row['file']}: {row['bytes']:,} bytes, {width} x {height}, {row['fit']}, {bundle}, {checked}"


def _fields(row: Row) -> Iterator[str]:
    """A line for each property of a payload, scene or picture."""
    yield str(row["file"])
    properties = _mark(row["mark"]) if "mark" in row else _scene(row) if row["fit"] == "scene" else _payload(row)
    yield from (f"  {name:<9} {value}" for name, value in properties.items())


def _payload(row: Row) -> dict[str, str]:
    (width, height), size, sides, controls = row["original_size"], row["bytes"], row["sides"], row["controls"]
    bundle = ", ".join(filter(None, (row["bundle"] or "not installed", row["quality"])))
    found = {
        "size": f"{size:,} bytes, {3 * width * height / size:,.0f} times less than the original's pixels",
        "bundle": f"{bundle} (LR contract {row['contract_id']})",
        "original": f"{width} x {height} pixels, fit {row['fit']}",
    }
    if row["square"] is not None:
        found["part"] = f"a square of {OrientedSquare(**row['square']).side} pixels; restore --background"
    if sides:  # those of the bundle's networks, and smaller ones
        listed = f" ({', '.join(map(str, sides))}); restore --size {sides[-1]}"
        further = "; larger ones are interpolated" if len(sides) == 1 else listed
        found["restored"] = f"up to {sides[-1]} pixels{further}"
    return {
        **found,
        "LR": "{} x {}".format(*row["lr_size"]),
        "format": f"version {row['version']}, {row['coding']} coding",
        "checked": "intact" if row["body_checked"] else "header and CRC intact; checking the body needs its bundle",
        **{name: f"{Control(**control)}; restore --{name}" for name, control in controls.items()},
    }


def _scene(row: Row) -> dict[str, str]:
    (width, height), faces = row["original_size"], row["faces"]
    return {
        "size": f"{row['bytes']:,} bytes, {row['background_bytes']:,} of them the background",
        "bundle": f"{row['bundle'] or 'not installed'} (LR contract {row['contract_id']})",
        "original": f"{width} x {height} pixels, a scene of {faces} face{'s' * (faces > 1)}",
        "checked": "intact" if row["body_checked"] else "headers and CRC intact",
    }


def _mark(mark: Row | None) -> dict[str, str]:
    """The mark that a picture is generated, by whatever program."""
    found = {} if mark and mark["by_edgegrain"] else {"mark": "none of edgegrain"}
    if mark is not None:
        found |= {"source": mark["source_type"], "tool": mark["tool"] or "not named"}
        if bundle := " ".join(filter(None, [mark["bundle"], mark["bundle_version"]])):
            found["bundle"] = bundle
    return found
