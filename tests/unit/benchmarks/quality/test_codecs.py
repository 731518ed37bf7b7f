"""Comparison of tiny bundles: groups by LR size, one budget per group, a table with everything in it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from benchmarks.quality import codecs
from benchmarks.quality.codecs import CodecComparison, section, summary
from benchmarks.quality.rescaling import BICUBIC, bicubic_pair
from codec_contract.bundle.contract_id import lr_contract_id
from codec_contract.errors import EdgegrainError
from codec_contract.fit import PREPROCESSING
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import encode_payload
from edge_encoder.golden_inputs import make_golden
from edge_encoder.integer_network import integer_digest, run_reference, save_integer_network
from edgegrain.evaluation.evaluator import ResultCache
from edgegrain.evaluation.results import CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR
from edgegrain.metrics.psnr_ssim import psnr
from export.encoder.graph import exact_graph
from export.encoder.onnx_emitter import write_onnx
from sdk import Codec
from tests.gradient_metrics import GradientMetrics
from tests.tiny_bundle import HR, box_network, refresh_manifest, repeating_decoder, write_tiny_bundle

LARGE, RANDOM, SMALL = "tiny-64-lr16", "random-64-lr16", "tiny-64-lr8"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles with LRs of 16 x 16, one of them random, and one of 8 x 8."""
    root = tmp_path_factory.mktemp("bundles")
    write_tiny_bundle(root, LARGE)
    write_tiny_bundle(root, RANDOM, random=True)
    small, network = write_tiny_bundle(root, SMALL), box_network(HR, 8)
    save_integer_network(network, small / "encoder.safetensors", force=True)
    (small / "encoder.onnx").unlink()
    write_onnx(exact_graph(network), small / "encoder.onnx")
    (small / "decoder.onnx").write_bytes(repeating_decoder(HR, 8))
    (small / "golden.json").write_text(json.dumps(make_golden(lambda rgb: run_reference(network, rgb), HR)))
    contract = lr_contract_id(integer_digest(network), PREPROCESSING, CoderTables.default()).hex()
    refresh_manifest(small, lr=8, codec="glean", lr_contract_id=contract)
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray) -> list[Path]:
    folder, paths = tmp_path_factory.mktemp("unseen"), []
    for name, picture in (("a.png", portrait), ("b.png", portrait[::-1, ::-1])):
        paths.append(folder / name)
        Image.fromarray(picture).resize((HR, HR)).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def comparison(bundles: Path, folder: Path, *names: str, side: int = 0) -> CodecComparison:
    opened = [Codec(bundles / name) for name in names]
    return CodecComparison(opened, GradientMetrics(), "w", ResultCache(folder), side=side)  # type: ignore[arg-type]


def test_every_method_has_its_row_and_classical_codecs_the_largest_payload(
        bundles: Path, pictures: list[Path], folder: Path) -> None:
    found = comparison(bundles, folder, LARGE, RANDOM, SMALL).picture(pictures[0])
    assert list(found) == [16, 8]
    with Image.open(pictures[0]) as image:
        original = np.array(image)
    sizes = {name: len(Codec(bundles / name).compress(original)) for name in (LARGE, RANDOM, SMALL)}
    for lr, names in ((16, (LARGE, RANDOM)), (8, (SMALL,))):
        rows = {row.method: row for row in (found[lr].ours, *found[lr].equal)}
        assert list(rows)[:len(names) + 1] == [*names, BICUBIC]
        budget = max(sizes[name] for name in names)
        assert {name: rows[name].nbytes for name in names} == {name: sizes[name] for name in names}
        assert budget // 2 < rows[CLASSICAL_BY_PSNR].nbytes <= budget == rows[CLASSICAL_BY_LPIPS].budget
        _, restored = bicubic_pair(original, HR // lr)
        assert rows[BICUBIC].scores.psnr == pytest.approx(psnr(restored, original))
        assert rows[BICUBIC].scores.psnr > rows[names[0]].scores.psnr  # the decoder only repeats pixels
        assert {row.picture for row in rows.values()} == {"a.png"}


def test_the_bicubic_lr_is_sent_with_all_levels(bundles: Path, pictures: list[Path], tmp_path: Path) -> None:
    """Also next to a bundle whose coder rounds them: the picture that is scored was enlarged from all levels."""
    coarse, tables = tmp_path / LARGE, replace(CoderTables.default(), step=8)
    shutil.copytree(bundles / LARGE, coarse)
    (coarse / "coder.json").write_bytes(tables.to_json())
    contract = lr_contract_id(integer_digest(box_network(HR, 16)), PREPROCESSING, tables)
    refresh_manifest(coarse, lr_contract_id=contract.hex())
    found = comparison(tmp_path, tmp_path / "cache", LARGE).picture(pictures[0])[16]
    bicubic = next(row for row in found.equal if row.method == BICUBIC)
    with Image.open(pictures[0]) as image:
        lr, _ = bicubic_pair(np.array(image), HR // 16)
    sizes = [len(encode_payload(lr, contract_id=bytes(32), tables=each, original_size=(HR, HR)))
             for each in (CoderTables.default(), tables)]
    assert bicubic.nbytes == sizes[0] > sizes[1]


def test_what_was_measured_is_found_again(bundles: Path, pictures: list[Path], folder: Path) -> None:
    first = comparison(bundles, folder, LARGE, SMALL).picture(pictures[0])
    asked = GradientMetrics.asked
    assert comparison(bundles, folder, LARGE, SMALL).picture(pictures[0]) == first
    assert GradientMetrics.asked == asked
    joined = comparison(bundles, folder, SMALL, LARGE).picture(pictures[0])  # in another order, nothing new
    assert (GradientMetrics.asked, joined) == (asked, first)


def test_the_table_names_bundles_and_the_means(bundles: Path, pictures: list[Path], folder: Path) -> None:
    compared = comparison(bundles, folder, LARGE, SMALL)
    results = [compared.picture(path) for path in pictures]
    means = summary(compared, results, pictures, "fast")
    assert json.loads(json.dumps(means, allow_nan=False)) == means
    assert means["pictures"]["count"] == 2 and [group["lr"] for group in means["groups"]] == [16, 8]
    lines = section(means, "the command")
    assert lines[0] == "| codec | LR | bytes | PSNR (dB) | SSIM | LPIPS-Alex | LPIPS-VGG | DISTS |"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:10]]
    assert [row[0] for row in rows] == [
        f"**GRAIN**, `{LARGE}` 1.0.0", BICUBIC, CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR,
        f"**GLEAN**, `{SMALL}` 1.0.0", BICUBIC, CLASSICAL_BY_LPIPS, CLASSICAL_BY_PSNR]
    assert [row[1] for row in rows] == ["16²", "16²", "", "", "8²", "8²", "", ""]
    assert "†" in rows[0][5] and not any("†" in cell for row in rows[1:] for cell in row)  # GLEAN's record names none
    own = [result[16].ours for result in results]
    assert rows[0][2] == f"{sum(row.nbytes for row in own) / 2:.0f}"
    assert rows[0][3].split(" ±")[0] == f"{sum(row.scores.psnr for row in own) / 2:.2f}"
    assert any("2 pictures of" in line and "64×64" in line for line in lines)
    assert lines[-4:] == ["<!-- not run: needs other weights -->", "```sh", "the command", "```"]


def test_sides_that_do_not_fit_are_refused(bundles: Path, folder: Path) -> None:
    with pytest.raises(EdgegrainError, match="another --side"):
        comparison(bundles, folder, LARGE, side=100)
    with pytest.raises(EdgegrainError, match="at least one"):
        comparison(bundles, folder)


def test_bundles_of_one_id_are_refused(bundles: Path, folder: Path, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path, LARGE, random=True)
    with pytest.raises(EdgegrainError, match=f"several bundles have the id {LARGE}, which"):
        comparison(bundles, folder, LARGE, SMALL, str(other))


def test_the_command_writes_json_and_page(bundles: Path, pictures: list[Path], tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "PictureMetrics", GradientMetrics)
    monkeypatch.setattr(codecs, "find_metric_weights", lambda *_, **__: tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# Codecs\n\n<!-- codecs -->\n<!-- /codecs -->\n\nThe end.\n")
    application = typer.Typer()
    application.command()(codecs.main)
    out = tmp_path / "codecs.json"
    arguments = ["--bundles", f"{bundles / SMALL}", "--data", str(pictures[0].parent), "--limit", "1", "--cache",
                 str(tmp_path / "cache"), "--out", str(out), "--write", str(page)]
    result = CliRunner().invoke(application, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["groups"][0]["means"][SMALL]["pictures"] == 1
    text = page.read_text()
    assert f"**GLEAN**, `{SMALL}`" in text and text.endswith("<!-- /codecs -->\n\nThe end.\n")
    assert f"--bundles {SMALL} \\\n    --data PICTURES --weights METRICS --limit 1" in text
    result = CliRunner().invoke(application, arguments)
    assert result.exit_code == 1 and "--force" in result.stderr
    page.write_text("# Codecs\n")
    result = CliRunner().invoke(application, [*arguments, "--force"])
    assert result.exit_code == 1 and "has no section 'codecs'" in result.stderr
