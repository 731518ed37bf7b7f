"""The report on a tiny bundle whose decoder repeats LR pixels, with a judge that needs no networks."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edgegrain.contract.errors import ImageError
from edgegrain.evaluation import bundle_report
from edgegrain.evaluation.bundle_report import CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR, evaluate, means, summary, tsv
from edgegrain.evaluation.judge import Judge, Scores
from edgegrain.evaluation.metrics import psnr, ssim
from sdk import Codec
from tests.tiny_bundle import HR, LR, write_tiny_bundle


class GradientJudge(Judge):
    """The mean difference of gradients stands for the perceptual distances."""

    def __init__(self, weights: str | Path = "") -> None:
        pass

    def lpips_alex(self, picture: np.ndarray, original: np.ndarray) -> float:
        return float(np.abs(np.diff(picture.astype(float), axis=0) - np.diff(original.astype(float), axis=0)).mean())

    def scores(self, picture: np.ndarray, original: np.ndarray) -> Scores:
        distance = self.lpips_alex(picture, original)
        return Scores(psnr(picture, original), ssim(picture, original), distance, distance, 0.5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(portrait[:, :, ::-1]).save(folder / "b.png")
    Image.fromarray(portrait).save(folder / "a.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def rows(bundle: Path, pictures: Path) -> list[bundle_report.Row]:
    paths = [pictures / "a.png", pictures / "b.png"]
    return [row for group in evaluate(Codec(bundle), paths, GradientJudge()) for row in group]


def test_the_bundle_is_scored_on_what_it_restores(rows: list[bundle_report.Row], bundle: Path, pictures: Path) -> None:
    """The decoder repeats pixels and the encoder is the box mean: the restoration can be written down."""
    from edgegrain.contract.resize import exact_resize

    with Image.open(pictures / "a.png") as image:
        original = exact_resize(np.array(image), (HR, HR))
    side = HR // LR
    mean = np.floor(original.reshape(LR, side, LR, side, 3).mean((1, 3)) + 0.5)
    expected = mean.astype(np.uint8).repeat(side, 0).repeat(side, 1)
    row = rows[0]
    assert (row.picture, row.method, row.setting) == ("a.png", Codec(bundle).bundle.id, "")
    assert row.nbytes == len(Codec(bundle).compress(original))
    assert row.scores.psnr == pytest.approx(psnr(expected, original), abs=0.05)


def test_classical_codecs_get_the_same_bytes(rows: list[bundle_report.Row]) -> None:
    assert [row.method for row in rows[1:3]] == [CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR]
    for ours, by_lpips, by_psnr in (rows[:3], rows[3:]):
        assert by_lpips.nbytes <= ours.nbytes and by_psnr.nbytes <= ours.nbytes
        assert by_lpips.scores.lpips_alex <= by_psnr.scores.lpips_alex
        assert by_lpips.scores.psnr <= by_psnr.scores.psnr
        assert f"{by_psnr.nbytes} bytes" in by_psnr.setting


def test_means_are_over_pictures(rows: list[bundle_report.Row]) -> None:
    mean = means(rows)[CLASSICAL_BY_PSNR]
    own = [row for row in rows if row.method == CLASSICAL_BY_PSNR]
    assert mean["pictures"] == 2
    assert mean["bytes"] == (own[0].nbytes + own[1].nbytes) / 2
    assert mean["ssim"] == pytest.approx((own[0].scores.ssim + own[1].scores.ssim) / 2)


def test_tsv_has_a_row_per_picture_and_method_and_a_mean_row_per_method(rows: list[bundle_report.Row]) -> None:
    lines = [line.split("\t") for line in tsv(rows).splitlines()]
    assert lines[0] == ["picture", "method", "bytes", "psnr", "ssim", "lpips_alex", "lpips_vgg", "identity", "setting"]
    assert {len(line) for line in lines} == {9}
    assert [line[0] for line in lines[1:]] == ["a.png"] * 3 + ["b.png"] * 3 + ["mean"] * 3
    assert float(lines[1][3]) == pytest.approx(rows[0].scores.psnr, abs=1e-4)


def test_an_infinite_mean_is_null_in_json(rows: list[bundle_report.Row], bundle: Path, pictures: Path) -> None:
    perfect = bundle_report.Row("a.png", "perfect", 9, Scores(math.inf, 1, 0, 0, 0))
    result = summary([perfect], Codec(bundle), [pictures / "a.png"])
    text = json.dumps(result, allow_nan=False)
    assert json.loads(text)["means"]["perfect"]["psnr"] is None


def test_the_command_writes_equal_files_twice_and_overwrites_only_when_told(
        bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    monkeypatch.setattr(bundle_report, "Judge", GradientJudge)
    app = typer.Typer()
    app.command()(bundle_report.main)

    def run(*more: str) -> tuple[int, str]:
        arguments = ["--bundle", str(bundle), "--pictures", str(pictures), "--weights", str(pictures),
                     "--out", str(tmp_path / "report.tsv"), "--limit", "1", *more]
        result = CliRunner().invoke(app, arguments)
        return result.exit_code, result.output

    code, output = run()
    assert code == 0, output
    first = [(tmp_path / name).read_bytes() for name in ("report.tsv", "report.json")]
    means_of_one = json.loads(first[1])["means"]
    assert means_of_one[CLASSICAL_BY_LPIPS]["pictures"] == 1 and json.loads(first[1])["pictures"]["count"] == 1
    code, output = run()
    assert code == 1 and "--force" in output
    assert run("--force")[0] == 0
    assert [(tmp_path / name).read_bytes() for name in ("report.tsv", "report.json")] == first


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no pictures"):
        bundle_report.list_pictures(tmp_path)
