"""``edgegrain models``: parameters and operations of all architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from codec_contract.errors import needs_extra
from edgegrain.cli.options import JsonOption
from edgegrain.cli.output import print_json

if TYPE_CHECKING:
    from rich.table import Table

    from edgegrain.papers.models import Model

WIDE = 200
"""Width of a terminal that has room for the whole table."""


def models(json_output: JsonOption = False) -> None:
    """List architectures with parameters and operations.

    Operations are counted for one picture, by part, in MACs: one multiplication with its addition.

    \b
    Examples:
      edgegrain models
      edgegrain models --json
    """
    with needs_extra("eval", "models needs"):
        from edgegrain.papers.models import models as all_models

    found = all_models()
    if json_output:
        print_json([model.as_dict() for model in found])
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:  # piped: as wide as the table
        console = Console(width=WIDE)
    table = _table(found, parts=True)
    if table.__rich_measure__(console, console.options.update(max_width=WIDE)).maximum > console.width:
        table = _table(found, parts=False)
    console.print(table)


def _table(found: Sequence[Model], *, parts: bool) -> Table:
    from rich.table import Table

    caption = "Parts: M parameters / GMAC." if parts else "A wider terminal or --json also shows the parts."
    table = Table(box=None, header_style="bold", pad_edge=False, caption=caption, caption_justify="left")
    names = list(dict.fromkeys(part for model in found for part in model.parts)) if parts else []
    table.add_column("name", no_wrap=True)
    for column in ("M parameters", "GMAC", *names):
        table.add_column(column, justify="right", no_wrap=True)
    for model in found:
        cells = [f"{model.parameters / 1e6:.2f}", f"{model.macs / 1e9:.2f}"]
        cells += [_cell(model.parts[part].parameters, model.parts[part].macs) if part in model.parts else ""
                  for part in names]
        table.add_row(model.name, *cells)
    return table


def _cell(parameters: int, macs: int) -> str:
    return f"{parameters / 1e6:.2f} / {macs / 1e9:.2f}"
