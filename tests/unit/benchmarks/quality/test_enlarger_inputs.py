"""The comparison of what enlargers are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from benchmarks.quality.enlarger_inputs import Enlarged, bilinear, main
from codec_contract.errors import EdgegrainError
from edgegrain.metrics.periodic_peaks import peak_amplitudes
from tests.tiny_bundle import HR, write_tiny_bundle

SIDE = 4 * HR


@pytest.fixture
def original() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (HR, HR, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((4, 4, 1), np.uint8))


def test_the_original_is_reduced_by_its_box_mean_and_enlarged_by_the_bundles_enlarger(
    tmp_path: Path, original: np.ndarray,
) -> None:
    found = Enlarged(str(write_tiny_bundle(tmp_path, "tiny", doublings=2))).pictures(original)
    assert list(found) == ["tiny: enlarger", "tiny: bicubic", "original: enlarger of tiny", "original: bicubic"]
    # The enlarger of the tiny bundle repeats pixels, so cells of one colour come back whole.
    np.testing.assert_array_equal(found["original: enlarger of tiny"], original)
    assert all(picture.shape == (SIDE, SIDE, 3) for picture in found.values())
    assert (found["original: bicubic"] != original).any() and (found["tiny: enlarger"] != original).any()


def test_a_bundle_without_enlarger(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, "tiny")
    with pytest.raises(EdgegrainError, match=rf"edgegrain export enlarger faces --into {folder}"):
        Enlarged(str(folder))


def test_bilinear_rescaling_keeps_one_colour_only(original: np.ndarray) -> None:
    grey = np.full((64, 64, 3), 77, np.uint8)
    np.testing.assert_array_equal(bilinear(grey), grey)
    assert (bilinear(original) != original).any()


def test_the_table_begins_with_the_best(tmp_path: Path, original: np.ndarray, shared_weights: Path) -> None:
    bundle = write_tiny_bundle(tmp_path, "tiny", doublings=2)
    (tmp_path / "data").mkdir()
    Image.fromarray(original).save(tmp_path / "data" / "me.png")
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, ["--bundles", str(bundle), "--data", str(tmp_path / "data"), "--weights",
                                      str(shared_weights)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    rows = lines[lines.index("|---|---:|---:|---:|---:|") + 1:]
    # The cells' edges are peaks of the original itself, and the enlarger of the tiny bundle adds none to them.
    amplitudes = peak_amplitudes(original)
    best = f"inf | .000 | 0.0, 0.0 | {amplitudes[2]:.3f}, {amplitudes[4]:.3f} |"
    assert {f"| original | {best}", f"| original: enlarger of tiny | {best}"} == set(rows[:2])
    distances = [float(line.split("|")[3]) for line in rows if line.startswith(("| tiny", "| original"))]
    assert len(distances) == 6 and distances == sorted(distances)
