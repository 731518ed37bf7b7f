"""``edgegrain publish``: the family is read from the run, refusals have an exit status, files are written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.lr_coder.coder import encode_lr
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder.contract_id import check_contract_id
from edgegrain.cli.authoring import publish as command
from edgegrain.papers.face_sr import bundle as store_face_sr
from edgegrain.papers.irn.bundle import save_irn
from edgegrain.papers.irn.network import IRN, IRNConfig
from edgegrain.publishing import fit_coder, publish
from edgegrain.training.checkpoint import save_checkpoint
from edgegrain.training.grain.recipes import GRAIN_RECIPES
from edgegrain.training.grain.start import start_run
from tests.face_sr import store_gcfsr
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, "publish")


@pytest.fixture
def grain_run(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    save_checkpoint(tmp_path / "run", start_run(GRAIN_RECIPES["smoke-stage1"], None))
    return tmp_path / "run"


def test_the_defaults_named_in_help_are_those_of_the_functions() -> None:
    assert command.WIDTHS == ",".join(map(str, fit_coder.WIDTHS)) and command.STEPS == fit_coder.STEPS


def test_a_grain_run_is_published_with_what_was_given(
    grain_run: Path, tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(publish, "publish_run", lambda *args, **named: calls.append((args, named)) or {"bundle": "b"})
    places = "--data", tmp_path, "--out", tmp_path / "faces"
    chosen = "--version", "0.2.0", "--storage", "float32", "--data-licence", "Own pictures.", "--exclude", "us_*"
    assert json.loads(shell.ok("run", grain_run, *places, *chosen)) == {"bundle": "b"}
    ((args, named),) = calls
    assert args == (grain_run, tmp_path, tmp_path / "faces")
    assert (named["bundle_id"], named["version"], named["exclude"]) == ("faces", "0.2.0", ("us_*",))
    assert named["storage"] is publish.WeightStorage.float32 and named["licence"]["data"] == "Own pictures."
    shell("run", grain_run / "last.safetensors", *places, "--id", "other")
    assert calls[1][1]["bundle_id"] == "other" and calls[1][1]["licence"] is None
    assert calls[0][1]["mix"] == 1.0
    shell.fails("needs the bundle to mix with", "run", grain_run, *places, "--mix", "0.5", status=2)


def test_a_wrong_version_is_refused_before_the_work(
    grain_run: Path, tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "open_run", lambda *_: pytest.fail("opened nevertheless"))
    arguments = "--data", tmp_path, "--out", tmp_path / "faces", "--version", "1/0"
    shell.fails("'1/0' is no valid version of a bundle", "run", grain_run, *arguments)


def test_trained_weights_alone_go_to_the_folder(
    grain_run: Path, tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "store_trained", lambda run, out, prior, **named: (run, out, prior, sorted(named)))
    out = shell.ok("run", grain_run, "--data", tmp_path, "--out", tmp_path / "zoo", "--trained-only")
    named = ["data", "encoder_of", "exclude", "force", "report"]
    assert out.strip() == str((grain_run, tmp_path / "zoo", None, named))


def test_a_gcfsr_run_goes_to_the_zoo_with_its_tables(tmp_path: Path, shell: Shell) -> None:
    run, zoo = store_gcfsr(tmp_path / "run"), tmp_path / "zoo"
    zoo.mkdir()
    (zoo / "coder.json").write_bytes((run / "coder.json").read_bytes())
    out = shell.ok("run", run, "--out", zoo)
    assert f"{(zoo / 'gcfsr.safetensors').stat().st_size:,} bytes" in out
    assert (zoo / "coder.json").read_bytes() == (run / "coder.json").read_bytes()
    shell.fails("--force", "run", run, "--out", zoo)
    assert shell("run", run, "--out", zoo, "--force")[0] == 0


def test_the_weights_or_the_checkpoint_of_a_gcfsr_run_may_be_named(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store_gcfsr(tmp_path / "run")
    monkeypatch.setattr(store_face_sr, "fit_reduction_tables", lambda *_, **named: CoderTables.default())
    save_file({"weight": torch.zeros(1)}, run / "last.safetensors", {"family": "face_sr"})
    for name in ("gcfsr.safetensors", "last.safetensors"):
        shell.ok("run", run / name, "--out", tmp_path / "zoo", "--data", tmp_path, "--force")
        assert (tmp_path / "zoo" / "coder.json").read_bytes() == CoderTables.default().to_json()


def test_options_of_another_family_are_wrong_usage(grain_run: Path, tmp_path: Path, shell: Shell) -> None:
    run = store_gcfsr(tmp_path / "gcfsr")
    for option, value in (("--id", "x"), ("--version", "2.0.0"), ("--storage", "compact")):
        assert "GLEAN and GCFSR" in shell.fails(option, "run", run, "--out", tmp_path / "zoo", option, value, status=2)
    for more in ((), ("--trained-only",)):
        shell.fails("--data", "run", grain_run, "--out", tmp_path / "zoo", *more, status=2)
    complete = "run", grain_run, "--out", tmp_path / "zoo", "--data", tmp_path
    for option, value in (("--id", "x"), ("--storage", "compact")):
        assert "--trained-only" in shell.fails(option, *complete, "--trained-only", option, value, status=2)


def test_an_irn_run_and_a_folder_without_a_run_are_refused(tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "irn").mkdir()
    save_irn(IRN(IRNConfig((1,), growth=4)), tmp_path / "irn" / "irn.safetensors", {})
    shell.fails("edgegrain export bundle", "run", tmp_path / "irn", "--out", tmp_path / "bundle")
    save_file({"weight": torch.zeros(1)}, tmp_path / "last.safetensors", {"family": "stylegan2"})
    shell.fails("is a checkpoint of stylegan2", "run", tmp_path / "last.safetensors", "--out", tmp_path / "bundle")
    (tmp_path / "empty").mkdir()
    shell.fails("is not a checkpoint of a training run", "run", tmp_path / "empty", "--out", tmp_path / "bundle")


def test_a_card_gets_the_evaluation(tmp_path: Path, shell: Shell) -> None:
    bundle, path = write_tiny_bundle(tmp_path), tmp_path / "own.json"
    refresh_manifest(bundle, training={"data": {"cat": 3}, "pictures_seen": 7, "pictures_in_set": 3}, domain="cats")
    before = load_manifest(bundle)
    scores = {"bytes": 571.25, "psnr": 25.456, "ssim": 0.7051, "lpips_alex": 0.1441, "lpips_vgg": 0.3132}
    own = {"bundle": {"id": before.id}, "means": {before.id: scores}, "versions": {}}
    own["pictures"] = {"folder": "cats", "count": 3, "sha256": "aa"}
    path.write_text(json.dumps(own))
    out = shell.ok("card", bundle, "--evaluation", path)
    assert "| this bundle | 571 | 25.46 | 0.705 | 0.144 | 0.313 |" in out
    after = load_manifest(bundle)
    assert after.open_file("README.md").decode() == out
    assert list(after.evaluation["methods"]) == ["this bundle"] and after.lr_contract_id == before.lr_contract_id
    path.write_text(json.dumps({**own, "bundle": {"id": "box"}}))
    shell.fails("the evaluation is of box", "card", bundle, "--evaluation", path)
    for content in ("no JSON", "{}", "[1]", json.dumps({**own, "means": None})):
        path.write_text(content)
        shell.fails("is not a summary of edgegrain evaluate", "card", bundle, "--evaluation", path)
    assert load_manifest(bundle) == after
    shell.fails("is cached as it is on the Hub; copy its folder", "card", "hf://owner/name@main", "--evaluation", path)


def test_a_bundle_without_training_record_gets_no_card(tmp_path: Path, shell: Shell) -> None:
    bundle = write_tiny_bundle(tmp_path)
    (tmp_path / "own.json").write_text("{}")
    err = shell.fails("lacks data, pictures_in_set", "card", bundle, "--evaluation", tmp_path / "own.json")
    assert "Traceback" not in err


def test_tables_are_fitted_and_reported(tmp_path: Path, shell: Shell) -> None:
    lrs = np.random.default_rng(0).integers(100, 120, (60, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "lrs.npy", lrs)
    out = tmp_path / "coder.json"
    arguments = ["coder", tmp_path / "lrs.npy", out, "--widths", "4", "--steps", "20", "--held-out", "4"]
    text = shell.ok(*arguments)
    tables = CoderTables.from_json(out.read_bytes())
    coded = np.mean([len(encode_lr(lr, tables)) for lr in lrs[::10][:4]])
    assert f"{coded:8.1f} bytes" in text and "fitted to 54 LRs; means of 4 held-out" in text
    assert "optimised PNG" in text and "lossless WebP" in text
    before = out.read_bytes()
    shell.fails("--force to replace", *arguments)
    assert out.read_bytes() == before
    assert shell(*arguments, "--force", "--level-step", "3")[0] == 0
    assert CoderTables.from_json(out.read_bytes()).step == 3
    for widths in ("four", "257", "4,4,4,4,4"):
        assert shell("coder", tmp_path / "lrs.npy", tmp_path / "b.json", "--widths", widths)[0] == 2


def test_a_bundle_gets_further_rates(
    shell: Shell, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, calls = write_tiny_bundle(tmp_path, step=2), []

    def fit(lrs: list[np.ndarray], *, level_step: int, **_: object) -> CoderTables:
        calls.append((len(lrs), level_step))
        return replace(CoderTables.default(), step=level_step)

    monkeypatch.setattr(fit_coder, "fit_tables", fit)
    pictures = len(list(faces.iterdir()))
    shell.ok("rates", folder, "8,32", "--data", faces)
    assert calls == [(2 * pictures, 8), (2 * pictures, 32)]
    manifest = verify_bundle(folder)
    assert [rate.coder for rate in manifest.rates] == ["coder.json", "coder_8.json", "coder_32.json"]
    assert check_contract_id(manifest) and len({rate.lr_contract_id for rate in manifest.rates}) == 3
    shell.fails("pass --force to replace them", "rates", folder, "8", "--data", faces)
    before = (folder / "manifest.json").read_bytes()
    too_coarse = "levels in steps of 2, which its decoder was trained with; its finest step is at most that, got 3"
    shell.fails(too_coarse, "rates", folder, "1,8,40", "--data", faces, "--force", "--finest", "3")
    assert (folder / "manifest.json").read_bytes() == before and len(calls) == 2
    shell.ok("rates", folder, "1,8,40", "--data", faces, "--force", "--finest", "2")
    assert calls[2:] == [(2 * pictures, 1), (2 * pictures, 40)]  # the file of 8 was there
    manifest = verify_bundle(folder)
    assert [rate.coder for rate in manifest.rates] == ["coder_1.json", "coder.json", "coder_8.json", "coder_40.json"]
    assert manifest.rates[1] == manifest.own_rate and manifest.finest_step == 2
    assert "coder_32.json" not in manifest.files and not (folder / "coder_32.json").exists()
    for steps in ("8,4", "8,8", "0", "65", "x"):
        shell.fails("are no ascending numbers from 1 to 64", "rates", folder, steps, "--data", faces, status=2)
    shell.ok("rates", folder, "1,8,40", "--data", faces, "--force")
    assert verify_bundle(folder).finest_step == 2
    shell.fails("levels in steps of 2; further rates have others", "rates", folder, "2,8", "--data", faces, "--force")
    monkeypatch.setattr(fit_coder, "lr_contract_id", lambda *_: bytes(32))
    shell.fails("begin alike", "rates", folder, "8,40", "--data", faces, "--force")
