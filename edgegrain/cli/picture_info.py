"""The mark of a picture, for ``edgegrain info PICTURE``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edge_encoder.preprocessing import PICTURE_SUFFIXES
from edgegrain.cli.output import Row


def is_picture(path: Path) -> bool:
    """True if the suffix is that of a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def picture_row(path: Path) -> Row:
    """The mark of a picture as plain data, None without one."""
    import sdk

    mark = sdk.read_mark(path)
    return {"file": path, "mark": None if mark is None else {
        **dataclasses.asdict(mark), "by_edgegrain": mark.by_edgegrain}}


def picture_lines(row: Row) -> str:
    """The lines to print for a `picture_row`."""
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
