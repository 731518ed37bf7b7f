"""The table of the qualities and their curve."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from benchmarks.quality.qualities import PUBLISHED, SECTION, main, read_evaluations, table
from codec_contract.errors import EdgegrainError
from edgegrain.evaluation.results import CLASSICAL_BY_LPIPS

CLASSICAL_SCORES = {"bytes": 340.0, "psnr": 24.0, "lpips_alex": 0.5, "dists": 0.33}


def summary(nbytes: float, lpips: float, pictures: str = "0") -> dict[str, Any]:
    means = {"bytes": nbytes, "psnr": 23.456, "lpips_alex": lpips, "dists": 0.18, "identity": None}
    return {
        "bundle": {"id": "faces", "version": "1.0.0"},
        "training_losses": ["lpips_alex"],
        "pictures": {"folder": "faces_256", "count": 60, "sha256": pictures},
        "means": {"faces": means, CLASSICAL_BY_LPIPS: CLASSICAL_SCORES},
    }


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    large = summary(338.9, 0.346, pictures="1") | {"size": 1024}
    del large["means"][CLASSICAL_BY_LPIPS]
    medium, least, small = summary(896.7, 0.12), summary(118.2, 0.3), summary(353.9, 0.157)
    named = []
    for quality, content in (("small", large), ("medium", medium), ("120", least), ("small", small)):
        path = tmp_path / f"{len(named)}.json"
        path.write_text(json.dumps(content))
        named.append(f"{quality}={path}")
    return named


def test_the_table_rises_in_rate_and_marks_losses(files: list[str]) -> None:
    lines = table(read_evaluations(files))
    assert lines[0].startswith("| quality | size | bundle | bytes | PSNR (dB) | LPIPS-Alex† | LPIPS-VGG |")
    assert lines[2].startswith("| ≤ 120 bytes | 256×256 | `faces` 1.0.0 | 118 |")
    assert lines[4] == "| `small` | 256×256 | `faces` 1.0.0 | 354 | 23.46 | .157 | – | .180 | – | – |"
    assert lines[5] == "| | | best classical codec | 340 | 24.00 | .500 | – | .330 | – | – |"
    assert lines[8] == "| `small` | 1024×1024 | `faces` 1.0.0 | 339 | 23.46 | .346 | – | .180 | – | – |"
    assert lines[6].startswith("| `medium` | 256×256 | `faces` 1.0.0 | 897 |")


def test_what_is_no_evaluation_of_the_same_pictures_is_refused(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(EdgegrainError, match="one of tiny, small, medium, large, got 'huge=a.json'"):
        read_evaluations(["huge=a.json"])
    with pytest.raises(EdgegrainError, match="no JSON file of `edgegrain evaluate`"):
        read_evaluations([f"tiny={tmp_path / 'missing.json'}"])
    (tmp_path / "other.json").write_text(json.dumps(summary(180.0, 0.2, pictures="1")))
    with pytest.raises(EdgegrainError, match="at 256x256 are of different pictures"):
        read_evaluations([*files, f"tiny={tmp_path / 'other.json'}"])


def test_the_command_writes_page_and_picture(files: list[str], tmp_path: Path) -> None:
    page, image = tmp_path / "page.md", tmp_path / "curve.png"
    page.write_text(f"before\n<!-- {SECTION} -->\nold\n<!-- /{SECTION} -->\nafter\n")
    application = typer.Typer()
    application.command()(main)
    result = CliRunner().invoke(application, [*files, "--image", str(image), "--write", str(page)])
    assert result.exit_code == 0, result.stderr
    assert "old" not in page.read_text() and "| `small` |" in page.read_text() and page.read_text().endswith("after\n")
    with Image.open(io.BytesIO(image.read_bytes())) as picture:
        assert picture.width > picture.height > 400


def test_published_curves_fall() -> None:
    for points in PUBLISHED.values():
        bpp, lpips, dists = zip(*points, strict=True)
        assert list(bpp) == sorted(bpp) and all(list(score) == sorted(score, reverse=True) for score in (lpips, dists))
