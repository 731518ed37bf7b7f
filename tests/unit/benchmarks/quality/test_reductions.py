"""The comparison of the exact bicubic reduction with Pillow's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer
from PIL import Image
from typer.testing import CliRunner

from benchmarks.quality.reductions import compare_with_pillow, main
from edge_encoder.lowering import box_network


def test_the_comparison_with_pillow(tmp_path: Path, portrait_path: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    (tmp_path / "me.jpg").write_bytes(portrait_path.read_bytes())
    result = CliRunner().invoke(app, ["--data", str(tmp_path), "--hr", "64"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split(":")[0] for line in lines] == ["factor 4", "factor 8", "factor 16"]  # LRs of 4 pixels at least
    assert all(line.endswith("by at most 1") for line in lines)
    pictures = [np.asarray(Image.open(portrait_path).resize((64, 64)))]
    largest, share = compare_with_pillow(box_network(64, 8), pictures)
    assert largest > 3 and share > 0.5  # another reduction is seen to be one
