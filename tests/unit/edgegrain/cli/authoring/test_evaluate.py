"""``edgegrain evaluate``: files, table, JSON, what it refuses, and going on after an interruption."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec_contract.bundle.manifest import load_manifest
from edgegrain import refinement
from edgegrain.evaluation.classical_codecs import CODECS
from edgegrain.evaluation.evaluator import Evaluator
from edgegrain.evaluation.report import PAGE, PICTURES
from tests.gradient_metrics import GradientMetrics
from tests.tiny_bundle import add_rates, refresh_manifest, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def shell(
    bundle: Path,
    cache: Path,
    portrait: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """The command on two small pictures."""
    monkeypatch.setattr("edgegrain.metrics.picture_metrics.PictureMetrics", GradientMetrics)
    for slow in ("avif", "jpeg-xl"):
        monkeypatch.delitem(CODECS, slow)
    data = tmp_path / "faces"
    data.mkdir()
    for index in range(2):
        Image.fromarray(portrait[index::4, ::4]).save(data / f"{index}.png")
    places = {"--bundle": bundle, "--data": data, "--weights": tmp_path, "--out": tmp_path / "out", "--cache": cache}
    return Shell(capsys, "evaluate", *(str(word) for option in places.items() for word in option))


@pytest.mark.parametrize(
    ("said", "arguments", "status"),
    [
        ("is not one of faces", ["--photographs", "."], 2),
        ("has no such rate", ["--quality", "large"], 2),
        ("at least 31×31, not 30×30", ["--size", "30"], 2),
        ("no pictures", ["--data", "{}"], 1),
    ],
)
def test_wrong_usage(shell: Shell, tmp_path: Path, said: str, arguments: list[str], status: int) -> None:
    (tmp_path / "empty").mkdir()
    shell.fails(said, *(argument.format(tmp_path / "empty") for argument in arguments), status=status)
    assert not (tmp_path / "out").exists()


def test_writes_a_report_prints_a_table_and_overwrites_only_when_told(shell: Shell, tmp_path: Path) -> None:
    out = shell.ok()
    lines = out.splitlines()
    assert lines[0].strip() == "tiny-64-lr16 1.0.0 at 64×64 on 2 pictures of faces"
    assert next(line for line in lines if line.startswith("tiny-64-lr16  ")).split()[1].isdigit()
    assert any(line.startswith("classical, best LPIPS-Alex") for line in lines)
    assert lines[-1] == f"report: {tmp_path / 'out' / 'report.html'}"
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(files) == {PAGE, *PICTURES[:3], "tiny-64-lr16-1.0.0.tsv", "tiny-64-lr16-1.0.0.json"}
    shell.fails("--force")
    shell.ok("--force")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


@pytest.mark.parametrize("name", [PAGE, *PICTURES, "tiny-64-lr16-1.0.0.tsv", "tiny-64-lr16-1.0.0.json"])
def test_a_file_of_any_name_of_a_report_is_kept(shell: Shell, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"mine")
    asked = GradientMetrics.asked
    assert "--force" in shell.fails(f"{name} exists", "--baselines", "none")
    assert GradientMetrics.asked == asked
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"mine"]


def test_json_is_the_summary_and_the_files(shell: Shell, tmp_path: Path) -> None:
    printed = shell.json("--no-curves", "--limit", "1")
    written = json.loads((tmp_path / "out" / "tiny-64-lr16-1.0.0.json").read_text())
    assert {key: printed[key] for key in written} == written
    assert printed["pictures"]["count"] == 1 and printed["curves"] == {}
    assert all(Path(file).is_file() for file in (printed["report"], *printed["files"]))


def test_another_size_has_files_of_its_own(shell: Shell, tmp_path: Path) -> None:
    for size in (31, 96):
        out = shell.ok("--size", size, "--baselines", "none", "--force")
        assert out.splitlines()[0].strip() == f"tiny-64-lr16 1.0.0 at {size}×{size} on 2 pictures of faces"
        assert json.loads((tmp_path / "out" / f"tiny-64-lr16-1.0.0-{size}.json").read_text())["size"] == size


def test_losses_of_the_enlarger_are_marked_where_it_takes_part(shell: Shell, tmp_path: Path) -> None:
    large = write_tiny_bundle(tmp_path / "bundles", doublings=1)
    training = {"config": {"losses": {"grid": 10.0}}}
    refresh_manifest(large, enlarger={"files": ["enlarger_x2.onnx"], "training": training})
    for size, grids in (("0", False), ("96", True)):
        summary = shell.json("--bundle", large, "--size", size, "--baselines", "none", "--force")
        assert ("grid_4" in summary["training_losses"]) == grids


def test_baselines_can_be_left_out(shell: Shell, tmp_path: Path) -> None:
    assert "classical" not in shell.ok("--baselines", "none")
    assert not (tmp_path / "out" / "rate_distortion.png").exists() and (tmp_path / "out" / "sheet.png").exists()


def test_an_interrupted_run_goes_on(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, seen = Evaluator.picture, []

    def interrupted(self: Evaluator, path: Path) -> object:
        if seen:
            raise KeyboardInterrupt
        seen.append(path)
        return picture(self, path)

    own = tmp_path / "own"
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "picture", interrupted)
        code, out, err = shell("--cache", own, "--no-curves")
    assert (code, out) == (130, "") and "interrupted" in err
    assert not (tmp_path / "out").exists()
    asked = GradientMetrics.asked
    shell.ok("--cache", own, "--no-curves")
    assert GradientMetrics.asked == asked + 1  # the second picture only


def test_refined_payloads(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report names the search, and its results are kept apart from those of the encoder's LRs."""
    monkeypatch.setattr("edgegrain.training.losses.find_metric_weights", lambda weights, faces: None)
    upsample = torch.nn.Upsample(scale_factor=4)
    forward = upsample.forward
    upsample.forward = lambda lr, step: forward(lr)
    monkeypatch.setattr(refinement, "bundle_decoder", lambda manifest: upsample)
    plain = shell.json("--baselines", "none")
    refined = shell.json("--baselines", "none", "--refine", "3", "--force")
    assert refined["refinement"] == 3 and "refinement" not in plain
    assert (tmp_path / "out" / "tiny-64-lr16-1.0.0-refined-3.json").is_file()
    assert refined["means"] != plain["means"]
    assert " refined 3" in (tmp_path / "out" / PAGE).read_text()
    larger = shell.json("--baselines", "none", "--refine", "30", "--max-bytes", "600", "--force")
    assert larger["refinement_max_bytes"] == 600 and larger["means"] != refined["means"]
    assert (tmp_path / "out" / "tiny-64-lr16-1.0.0-refined-30-to-600.json").is_file()


def test_a_rate_and_a_limit_of_bytes(shell: Shell, bundle: Path, tmp_path: Path) -> None:
    several = write_tiny_bundle(tmp_path / "several")
    add_rates(several, {8: None, 32: "tiny"})
    words = ("--bundle", several, "--baselines", "none", "--force")
    own = shell.json(*words)
    tiny = shell.json(*words, "--quality", "tiny")
    least = tiny["means"]["tiny-64-lr16"]["bytes"]
    assert least < own["means"]["tiny-64-lr16"]["bytes"]
    contracts = [rate.lr_contract_id.hex() for rate in load_manifest(several).rates]
    assert [each["bundle"]["lr_contract_id"] for each in (own, tiny)] == [contracts[0], contracts[2]]
    assert (tmp_path / "out" / "tiny-64-lr16-1.0.0-tiny.json").is_file()
    limit = round(least) + 40
    within = shell.json(*words, "--max-bytes", limit)
    assert within["means"]["tiny-64-lr16"]["bytes"] <= limit and within["bundle"]["rate"] == f"to-{limit}"
