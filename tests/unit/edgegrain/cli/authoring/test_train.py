"""``edgegrain train``: trial runs, configurations, resuming, and messages about what is wrong."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from edgegrain.cli.app import application
from edgegrain.papers.face_sr.training import FaceSRTrainer
from edgegrain.pictures.writing import only_writer
from edgegrain.training.family import recipes
from edgegrain.training.grain.recipes import GrainRecipe
from tests.unit.edgegrain.cli.conftest import Shell


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, "train")


def test_it_lists_every_recipe(shell: Shell) -> None:
    title, *names = shell.ok("--list").split("\n\n")[0].splitlines()
    assert title == "Of the bundles, and trial runs" and len(names) == 13
    assert set(recipes()) <= {line.strip() for line in shell.ok("--list").splitlines()}


def test_a_dry_run_prints_the_configuration_and_makes_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = json.loads(shell.ok("final-faces-256-lr16", "--set", "trains=encoder,decoder,codes,fusion", "--dry-run"))
    assert (printed["recipe"], printed["family"], printed["pictures"]) == ("final-faces-256-lr16", "grain", 27_000)
    assert GrainRecipe.from_dict(printed["config"]).trains == ("encoder", "decoder", "codes", "fusion")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("recipe", "weights"),
    [
        ("smoke-stage1", set()),
        ("smoke-irn", {"irn.safetensors"}),
        ("smoke-glean", {"glean.safetensors"}),
        ("smoke-prior", {"stylegan2.safetensors"}),
        ("smoke-mobile", {"mobile_stylegan.safetensors"}),
    ],
)
def test_a_trial_run_needs_nothing(
    shell: Shell, recipe: str, weights: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    output = shell.ok(recipe, "--pictures", "4", "--batch", "4", "--device", "cpu")
    assert json.loads(output.splitlines()[-1])["pictures"] == 4
    run = tmp_path / "runs" / recipe
    assert {path.name for path in run.iterdir()} == {"last.safetensors", "log.jsonl", "samples.png"} | weights


def test_a_run_is_resumed_on_request_only(shell: Shell, tmp_path: Path) -> None:
    arguments = ("smoke-gcfsr", "--run", tmp_path, "--device", "cpu")
    said = f"no run to continue in {tmp_path}; a new one begins"
    shell.fails(said, *arguments, "--pictures", "4", "--resume", status=0)
    shell.fails("pass --resume", *arguments, "--pictures", "8")
    code, output, error = shell(*arguments, "--pictures", "8", "--resume")
    assert code == 0 and json.loads(output)["pictures"] == 8 and "a new one begins" not in error


def test_a_folder_in_use_is_refused(shell: Shell, tmp_path: Path) -> None:
    with only_writer(tmp_path):
        before = list(tmp_path.iterdir())
        shell.fails(f"another process writes to {tmp_path}", "smoke-gcfsr", "--run", tmp_path, "--device", "cpu")
        assert list(tmp_path.iterdir()) == before


def test_an_interrupted_run_exits_with_130(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    step = FaceSRTrainer.step

    def interrupted(self: FaceSRTrainer, progress: float) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return step(self, progress)

    monkeypatch.setattr(FaceSRTrainer, "step", interrupted)
    code, output, error = shell("smoke-gcfsr", "--run", tmp_path / "run", "--device", "cpu")
    assert code == 130 and json.loads(output)["pictures"] == 4
    assert "--resume continues" in error and (tmp_path / "run" / "last.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("stage5",), 2, "no recipe 'stage5'"),
        ((), 2, "name a recipe; --list prints all"),
        (("smoke-stage1", "--set", "loss.rates=1"), 2, "no field 'rates'"),
        (("smoke-stage1", "--device", "tpu"), 2, "'tpu'"),
        (("stage1-faces-256-lr16", "--run", "{}"), 1, "--data"),
        (("smoke-stage1", "--run", "{}", "--init-from", "{}/nothing"), 1, "no run, and no bundle either"),
        (("smoke-stage1", "--run", "{}", "--prior", "x", "--teacher", "x"), 1, "no use for --prior, --teacher"),
    ],
)
def test_errors_are_named(shell: Shell, arguments: tuple[str, ...], status: int, message: str, tmp_path: Path) -> None:
    shell.fails(message, *(argument.format(tmp_path / "run") for argument in arguments), status=status)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_torchrun_passes_every_option() -> None:
    """After --, as the help says: torchrun takes abbreviations of its own options, --run would be its --run-path."""
    from torch.distributed.run import get_args_parser

    command = typer.main.get_command(application).commands["train"]  # type: ignore[attr-defined]
    options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    assert "--run" in options
    parsed = get_args_parser().parse_args(["--nproc-per-node", "2", "--", "edgegrain", "train", *options])
    assert (parsed.training_script, parsed.training_script_args) == ("edgegrain", ["train", *options])
