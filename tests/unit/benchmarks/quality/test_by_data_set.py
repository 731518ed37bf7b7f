"""The table of scores by data set."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.quality.by_data_set import SECTION, main, read_scores, table
from codec_contract.errors import EdgegrainError

HEADER = "picture\tmethod\tbytes\tpsnr\tlpips_alex\tlpips_vgg\tdists\n"
ROWS = (("a_1.jpg", 300, 0.25), ("a_2.jpg", 321, 0.35), ("b_1.jpg", 400, 0.4), ("b_2.jpg", 400, 0.4))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "faces.tsv"
    path.write_text(HEADER + "".join(
        f"{picture}\tfaces\t{nbytes}\t24\t{lpips}\t0.4321\t0.17\n{picture}\tfaces, bicubic\t{nbytes}\t1\t1\t1\t1\n"
        for picture, nbytes, lpips in ROWS) + "mean\tfaces\t9\t9\t9\t9\t9\n")
    return path


def test_a_set_has_the_mean_of_its_pictures_and_an_interval(file: Path) -> None:
    lines = table({"none": read_scores(file), "again": read_scores(file)}, {"A": "a_*", "B": "b_*"})
    assert lines[0] == "| data | search | bytes | PSNR (dB) | LPIPS-Alex | LPIPS-VGG | DISTS |"
    assert lines[2] == "| A, 2 | none | 310 | 24.00 | .300 (.250 to .350) | .432 | .170 |"
    assert lines[3] == "| | again | 310 | 24.00 | .300 (.250 to .350) | .432 | .170 |"
    assert lines[4] == "| B, 2 | none | 400 | 24.00 | .400 (.400 to .400) | .432 | .170 |"


def test_what_cannot_be_compared_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgegrainError, match="1 pictures match 'a_1"):
        table({"none": read_scores(file)}, {"A": "a_1*"})
    fewer = tmp_path / "fewer.tsv"
    fewer.write_text(file.read_text().replace("b_2", "c_2"))
    with pytest.raises(EdgegrainError, match="different pictures"):
        table({"none": read_scores(file), "more": read_scores(fewer)}, {"A": "a_*"})
    fewer.write_text("picture\tmethod\na\tb\n")
    for path in (fewer, tmp_path / "missing.tsv"):
        with pytest.raises(EdgegrainError, match="no TSV file of `edgegrain evaluate`"):
            read_scores(path)


def test_the_command_writes_the_page(file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n<!-- {SECTION} -->\nold\n<!-- /{SECTION} -->\nafter\n")
    application = typer.Typer()
    application.command()(main)
    arguments = [f"none={file}", "--set", "A=a_*", "--write", str(page)]
    result = CliRunner().invoke(application, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "| A, 2 | none | 310 |" in page.read_text()
    assert "old" not in page.read_text()
    result = CliRunner().invoke(application, ["none", *arguments[1:]])
    assert result.exit_code == 1
    assert "expected NAME=TSV, got 'none'" in result.stderr
