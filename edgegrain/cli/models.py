"""``edgegrain models``: the architectures, how large they are and what they cost."""

from __future__ import annotations

from edgegrain.cli.output import JsonOption, print_json
from edgegrain.contract.errors import EdgegrainError


def models(json_output: JsonOption = False) -> None:
    """List the architectures with parameters and operations.

    A MAC is one multiplication with its addition; they are counted for one picture, by part.

    \b
    Examples:
      edgegrain models
      edgegrain models --json
    """
    try:
        from edgegrain.evaluation.model_table import models as all_models
    except ModuleNotFoundError as error:
        raise EdgegrainError(
            f"counting needs {error.name}, which is not installed; install: pip install 'edgegrain[eval]'") from error
    found = all_models()
    if json_output:
        print_json([model.as_dict() for model in found])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", box=None, header_style="bold", pad_edge=False, caption="Parts: M parameters / GMAC.",
                  caption_justify="left")
    parts = list(dict.fromkeys(part for model in found for part in model.parts))
    for column in ("M parameters", "GMAC", *parts):
        table.add_column(column, justify="right")
    for model in found:
        cells = [f"{model.parameters / 1e6:.2f}", f"{model.macs / 1e9:.2f}"]
        cells += [_cell(model.parts[part].parameters, model.parts[part].macs) if part in model.parts else ""
                  for part in parts]
        table.add_row(model.name, *cells)
    console = Console()
    # Piped, the table is as wide as it needs to be.
    console.print(table, width=None if console.is_terminal else 200)


def _cell(parameters: int, macs: int) -> str:
    return f"{parameters / 1e6:.2f} / {macs / 1e9:.2f}"
