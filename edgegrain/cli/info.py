"""``edgegrain info``: check and describe payloads, and show the marks of pictures."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Annotated

import typer

from codec_contract.bundle.controls import Control
from codec_contract.oriented_square import UNITS, OrientedSquare
from edgegrain.cli.output import JsonOption, Row, finish, run_all
from edgegrain.cli.picture_info import is_picture, picture_lines, picture_row


def info(
    payloads: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Payloads (.grain), pictures.")],
    json_output: JsonOption = False,
) -> None:
    """Check and describe payloads, and show whether pictures are marked as generated.

    All fields and the coded body are checked; no neural network runs.

    \b
    Examples:
      edgegrain info me.grain
      edgegrain info *.grain --json
      edgegrain info restored.png
    """
    import sdk

    def work(path: Path) -> Row:
        if is_picture(path):
            return picture_row(path)
        return {"file": path, **dataclasses.asdict(sdk.inspect(path))}

    done, failed = run_all(payloads, work, text="checking", name=lambda path: path)
    finish(done, failed, _lines, json_output=json_output)


def _part(square: OrientedSquare) -> str:
    degrees = math.degrees(math.atan2(square.across_y, square.across_x))
    return (f"a square of {square.side} pixels around ({square.x / UNITS:.0f}, {square.y / UNITS:.0f}), turned by "
            f"{degrees:.0f} degrees; restore --background")


def _lines(row: Row) -> str:
    if "mark" in row:
        return picture_lines(row)
    pixels = 3 * row["original_size"][0] * row["original_size"][1]
    bundle = row["bundle"] or "not installed"
    checked = "intact" if row["body_checked"] else "header and CRC intact; checking the body needs its bundle"
    fields = {
        "size": f"{row['size']:,} bytes, {pixels / row['size']:,.0f} times less than the original's pixels",
        "bundle": f"{bundle} (LR contract {row['contract_id']})",
        "original": f"{row['original_size'][0]} x {row['original_size'][1]} pixels, fit {row['fit']}",
        **({} if row["square"] is None else {"part": _part(OrientedSquare(**row["square"]))}),
        "LR": f"{row['lr_size'][0]} x {row['lr_size'][1]}",
        "format": f"version {row['version']}, {row['coding']} coding",
        "checked": checked,
        **{name: f"{Control(**control)}; restore --{name}" for name, control in row["controls"].items()},
    }
    return "\n".join([f"{row['file']}", *(f"  {name:<9} {value}" for name, value in fields.items())])
