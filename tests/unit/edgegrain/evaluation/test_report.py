"""The report: tables follow from the means, the page and its pictures are whole and reproducible."""

import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from edgegrain.evaluation import report as evaluation
from edgegrain.evaluation.classical_codecs import CODECS
from edgegrain.evaluation.evaluator import EvaluationConfig
from edgegrain.evaluation.report import DISTORTION, PAGE, PICTURES, SHEET_SIDE, measured_details, report_files, table
from edgegrain.evaluation.results import CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR, PictureResult, summary
from edgegrain.pictures.sheets import GAP, MARGIN
from sdk import Codec
from tests.gradient_metrics import PHOTOGRAPHS
from tests.tiny_bundle import HR, write_tiny_bundle
from tests.unit.edgegrain.evaluation.test_evaluator import evaluator

NAME = "tiny-64-lr16-1.0.0"
Evaluated = tuple[Codec, list[PictureResult], list[Path]]


def mean(**scores: float | None) -> dict[str, float | None]:
    usual = {"pictures": 60, "bytes": 560.0, "psnr": 25.0, "ssim": 0.7, "lpips_alex": 0.15, "lpips_vgg": 0.3}
    usual |= {"identity": 0.4, "dists": 0.2, "identity_mobileface": 0.4, "kid": 0.02, "kid_low": 0.01, "kid_high": 0.03}
    return {**usual, **scores}


SUMMARY = {
    "bundle": {"id": "ours", "version": "1.0.0"},
    "pictures": {"count": 60},
    "means": {
        "ours": mean(kid=-0.0004, kid_low=-0.0116),
        CLASSICAL_BY_LPIPS: mean(lpips_alex=0.50, lpips_vgg=0.46, psnr=25.5, identity=0.5, kid=0.10),
        CLASSICAL_BY_PSNR: mean(lpips_alex=0.55, lpips_vgg=0.44, psnr=26.0, identity=0.32, kid=0.11),
        "WebP, full size": mean(pictures=7, kid=None),
    },
    "training_losses": ["identity", "lpips_alex"],
    "curves": {},
}


def test_the_table_names_missing_pictures_and_scores() -> None:
    rows = table(SUMMARY)
    assert [row.method for row in rows] == ["ours", CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR, "WebP, full size (7 of 60)"]
    assert [row.ours for row in rows] == [True, False, False, False]
    assert [row.rule for row in rows] == [False, True, False, True]
    assert rows[0].cells[:-1] == ("560", "25.00", "0.700", "0.150", "0.400", "0.300", "0.200", "0.400")
    assert rows[0].cells[-1] == "0.000 [−0.012, 0.030]"
    assert set(rows[0].intervals) == {""}
    with_interval = {**SUMMARY, "means": {"ours": mean(dists_low=0.194, dists_high=0.206)}}
    assert table(with_interval)[0].intervals == ("", "", "", "", "", "", "± 0.006", "", "")
    assert rows[3].cells[-1] == "–"
    assert {len(row.cells) for row in rows} == {len(evaluation.table_columns(SUMMARY))}


def test_details_are_a_table_of_what_was_measured() -> None:
    lpips = {"lpips_eyes": 0.3, "lpips_eyes_low": 0.29, "lpips_eyes_high": 0.31}
    kid = {"kid_eyes": 0.05, "kid_eyes_low": 0.04, "kid_eyes_high": 0.06}
    ours = mean(**lpips, **kid, chroma_eyes=4.0, grid_8=13.83)
    summary = {**SUMMARY, "means": {"ours": ours}, "training_losses": ["kid_eyes"]}
    scores = measured_details(summary)
    titles = ["bytes ↓", "LPIPS-VGG, eyes ↓", "KID, eyes† ↓", "colour error, eyes ↓", "grid of 8 (dB) ↓"]
    assert evaluation.table_columns(summary, scores) == titles
    (row,) = table(summary, scores)
    assert row.cells == ("560", "0.300", "0.050 [0.040, 0.060]", "4.00", "13.8")
    assert row.intervals == ("", "± 0.010", "", "", "")
    assert measured_details(SUMMARY) == ()


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray) -> Evaluated:
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for index in range(7):
        paths.append(folder / f"{index}.png")
        Image.fromarray(np.roll(portrait, 20 * index, axis=1)[::4, ::4]).save(paths[-1])
    codec = Codec(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))
    measured = evaluator(codec, tmp_path_factory.mktemp("cache"), EvaluationConfig(True, (600,)), faces=True)
    with pytest.MonkeyPatch.context() as patch:
        without_slow_codecs(patch)
        return codec, [measured.picture(path) for path in paths], paths


def without_slow_codecs(patch: pytest.MonkeyPatch) -> None:
    for slow in ("avif", "jpeg-xl"):
        patch.delitem(CODECS, slow)


def report(
    evaluated: Evaluated,
    baselines: str = "fast",
    losses: tuple[str, ...] = (),
    name: str = NAME,
    side: int = 0,
    **further: object,
) -> tuple[dict[str, bytes], str]:
    """The files of a report, and its page."""
    codec, results, paths = evaluated
    found = summary(results, codec.bundle, paths, baselines, losses, side) | further
    files = report_files(codec, results, paths, found, name)
    return files, files[PAGE].decode()


class Links(HTMLParser):
    """Files that a page shows or links to, and whether its elements are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.files: set[str] = set()
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.files |= {value for name, value in attrs if name in ("src", "href") and value}
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_every_file(evaluated: Evaluated) -> None:
    files, page = report(evaluated, losses=("lpips_alex",))
    assert "<th>LPIPS-Alex† ↓</th>" in page and "<th>DISTS ↓</th>" in page
    assert "† a training loss of this bundle" in page
    assert re.search(r'<td>0\.\d{3}<br><small class="faint">± 0\.\d{3}</small></td>', page)
    links = Links(page)
    assert links.open == []
    assert links.files == set(files) - {PAGE} == {f"{NAME}.tsv", f"{NAME}.json", *PICTURES}
    assert "Photographs:" not in page
    for name in ("rate_distortion.png", "rate_perception.png", "sheet.png"):
        with Image.open(io.BytesIO(files[name])) as image:
            assert image.format == "PNG" and min(image.size) > 400


def test_a_sheet_shows_the_original_ours_and_the_classical_pictures(evaluated: Evaluated) -> None:
    codec, results, paths = evaluated
    files, _ = report((codec, results[:1], paths[:1]))
    assert "sheet_worst.png" not in files
    with Image.open(io.BytesIO(files["sheet.png"])) as image:
        sheet = np.asarray(image)
    with Image.open(paths[0]) as image:
        tile = np.asarray(image).repeat(SHEET_SIDE // HR, 0).repeat(SHEET_SIDE // HR, 1)
    ours = np.asarray(codec.restore(codec.compress(np.asarray(Image.open(paths[0]))))).repeat(4, 0).repeat(4, 1)
    first = sheet[:, MARGIN : MARGIN + SHEET_SIDE]
    top = next(y for y in range(len(sheet)) if np.array_equal(first[y : y + SHEET_SIDE], tile))
    left = MARGIN + SHEET_SIDE + GAP
    assert np.array_equal(sheet[top : top + SHEET_SIDE, left : left + SHEET_SIDE], ours)
    for column in (2, 3):
        left = MARGIN + column * (SHEET_SIDE + GAP)
        classical = sheet[top : top + SHEET_SIDE, left : left + SHEET_SIDE].astype(int)
        assert 2 < np.abs(classical - tile).mean() < 40
        assert (sheet[top + SHEET_SIDE : top + SHEET_SIDE + 40, left : left + SHEET_SIDE] < 128).any()


def test_a_larger_size_is_in_names_title_and_sheets(evaluated: Evaluated, tmp_path: Path) -> None:
    codec, _, paths = evaluated
    measured = evaluator(codec, tmp_path, EvaluationConfig(False, side=2 * HR), faces=True)
    results = [measured.picture(path) for path in paths[:2]]
    name = evaluation.report_name(codec.bundle, 2 * HR, "medium", {"refinement": 40})
    assert evaluation.report_name(codec.bundle, HR) == NAME and name == f"{NAME}-128-medium-refined-40"
    watched = SimpleNamespace(bundle=codec.bundle, restore=Mock(wraps=codec.restore))
    files, page = report((watched, results, paths[:2]), "none", name=name, side=2 * HR)  # type: ignore[arg-type]
    assert {f"{name}.json", f"{name}.tsv"} < set(files)
    assert "<title>tiny-64-lr16 1.0.0 at 128×128</title>" in page
    assert {call.args[0].original_size for call in watched.restore.call_args_list} == {(2 * HR, 2 * HR)}


def test_without_baselines_the_page_has_no_curves_and_with_photographs_a_line(evaluated: Evaluated) -> None:
    codec, results, paths = evaluated
    alone = replace(results[0], equal=(), curve=())
    files, page = report((codec, [alone], paths[:1]), "none", photographs={**PHOTOGRAPHS, "missed": 0})
    assert "rate_distortion.png" not in files and "†" not in page
    assert "classical" not in page.lower() and "<th>payload</th>" in page
    assert "<p>Photographs: of 36 photographs as people have them, a face was found in 36 (0 missed)" in page


def test_a_flat_picture_has_a_report(evaluated: Evaluated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = evaluated[0]
    path = tmp_path / "flat.png"
    Image.new("RGB", (HR, HR), (128, 128, 128)).save(path)
    without_slow_codecs(monkeypatch)
    results = [evaluator(codec, tmp_path / "cache", EvaluationConfig(True, (600,))).picture(path)]
    files, _ = report((codec, results, [path]))
    assert json.loads(files[f"{NAME}.json"])["means"][CLASSICAL_BY_PSNR]["psnr"] is None


def test_names_that_are_not_utf8_are_escaped(evaluated: Evaluated, tmp_path: Path) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()
    paths = [folder / "caf\udce9.png"]  # the byte 233
    Image.new("RGB", (64, 64), (128, 128, 128)).save(paths[0])
    results = [evaluator(evaluated[0], tmp_path / "cache", EvaluationConfig(False)).picture(paths[0])]
    files, _ = report((evaluated[0], results, paths), "none")
    described = json.loads(files[f"{NAME}.json"])["pictures"]
    digest = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert described["folder"] == r"\udcff"
    assert described["sha256"] == hashlib.sha256(b"caf\xe9.png %s\n" % digest.encode()).hexdigest()
    assert rb"caf\udce9.png" in files[f"{NAME}.tsv"]


def test_a_plot_has_the_bundles_point_even_without_a_curve_of_a_codec(evaluated: Evaluated) -> None:
    codec, results, paths = evaluated
    found = summary(results, codec.bundle, paths, "fast")
    with_all = evaluation._plot(found, DISTORTION)
    few = {"WebP, best PSNR": found["curves"]["WebP, best PSNR"]}
    with_few = evaluation._plot({**found, "curves": few}, DISTORTION)
    assert with_all != with_few
    for png in (with_all, with_few):
        with Image.open(io.BytesIO(png)) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert (pixels == (0xB2, 0x22, 0x34)).all(1).sum() > 100
