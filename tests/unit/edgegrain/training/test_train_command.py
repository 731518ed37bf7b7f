"""The training command: it teaches, prints configurations, and names what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from codec_contract.errors import BundleError, EdgegrainError
from edgegrain.training.grain.recipes import CONFIGS
from edgegrain.training.grain.stages import StageConfig
from edgegrain.training.stylegan.command import main as prior_main
from edgegrain.training.train import chosen, main, resolve_start

application = typer.Typer()
application.command()(main)


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(application, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_it_lists_every_recipe_with_its_stage() -> None:
    code, output, _ = invoke("--list-configs")
    assert code == 0
    lines = output.splitlines()
    assert [line.split()[0] for line in lines] == list(CONFIGS)
    assert "stage 3" in next(line for line in lines if line.startswith("stage3-1024"))
    assert "trains fusion" in next(line for line in lines if line.startswith("stage3-1024"))


def test_a_dry_run_prints_the_configuration_and_makes_nothing(tmp_path: Path) -> None:
    code, output, _ = invoke("--config", "final-faces-256-lr16", "--encoder", "train", "--dry-run")
    assert code == 0
    config = StageConfig.from_dict(json.loads(output))
    assert config.trains == ("encoder", "decoder", "codes", "fusion")
    assert not list(tmp_path.iterdir())


def test_a_trial_run_needs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, _ = invoke("--config", "smoke-stage1", "--pictures", "8", "--device", "cpu")
    assert code == 0
    assert json.loads(output)["psnr"] > 5
    run = tmp_path / "runs" / "smoke-stage1"
    assert {path.name for path in run.iterdir()} == {"last.safetensors", "log.jsonl", "samples.png"}


@pytest.mark.parametrize(("arguments", "message"), [
    (("--config", "stage5"), "no configuration 'stage5'"),
    (("--config", "stage1-faces-256-lr16", "--out", "{}"), "--data"),
    (("--config", "smoke-stage1", "--out", "{}", "--device", "tpu"), "unknown device 'tpu'"),
    (("--config", "smoke-stage1", "--out", "{}", "--init-from", "{}/nothing"), "no run, and no bundle either"),
    (("--config", "smoke-final", "--out", "{}", "--decoder-from", "faces"), "what --init-from begins with; pass that"),
    (("--config", "stage3-faces-256-lr16", "--rate", "0.01"), "--rate is for runs that train an encoder"),
    (("--config", "smoke-stage1", "--control", "--rate", "0.01"), "--rate is for runs that train an encoder"),
    (("--config", "smoke-stage1", "--out", "{}", "--prior", "x"), "leave --prior out"),
    (("--config", "smoke-stage1", "--out", "{}", "--discriminator", "x"), "leave --discriminator out"),
])
def test_what_is_wrong_is_named(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    code, _, error = invoke(*(argument.format(tmp_path / "run") for argument in arguments))
    assert code == 1
    assert message in error.splitlines()[-1]
    assert error.splitlines()[-1].startswith("error: ")


def test_changes_that_make_no_sense_are_refused() -> None:
    assert chosen("stage1-faces-256-lr16", control=True).correction is False
    assert chosen("stage1-faces-256-lr16", encoder="keep").trains == ("decoder",)
    assert CONFIGS["final-faces-256-lr16"].loss.identity > 0
    assert chosen("final-faces-256-lr16", identity=False).loss.identity == 0
    assert chosen("final-faces-256-lr16", control=True).correction is False
    with pytest.raises(EdgegrainError, match="keep or train"):
        chosen("stage1-faces-256-lr16", encoder="perhaps")
    assert resolve_start("") is None
    with pytest.raises(BundleError, match="no run"):
        resolve_start("nowhere")


def test_a_wider_batch_keeps_the_recipes_horizon() -> None:
    recipe, wide = CONFIGS["final-faces-256-lr16"], chosen("final-faces-256-lr16", batch=64)
    assert (recipe.batch, wide.batch) == (4, 64)
    assert wide.learning_rate == pytest.approx(4 * recipe.learning_rate)
    pictures = 6400  # however they are batched, the averaged weights forget as much
    assert wide.ema ** (pictures / wide.batch) == pytest.approx(recipe.ema ** (pictures / recipe.batch))
    with pytest.raises(EdgegrainError, match="--batch 1: a discriminator needs real pictures"):
        chosen("final-faces-1024-lr16", batch=1)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.parametrize("command", [main, prior_main])
def test_torchrun_hands_every_option_on(command: Callable[..., None]) -> None:
    # It takes abbreviations of its own options, wherever they stand: --start would be its --start-method.
    from torch.distributed.run import get_args_parser

    group = typer.Typer()
    group.command()(command)
    for parameter in typer.main.get_command(group).params:
        option = parameter.opts[0]
        assert get_args_parser().parse_args(["-m", "module", option]).training_script_args == [option]
