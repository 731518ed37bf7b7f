"""Four stages with one command: which runs it starts, with how much time, and where it continues."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgegrain.training.grain import all_stages
from edgegrain.training.grain.all_stages import app, finished, recipes, run_stage, shared_out
from edgegrain.training.grain.checkpoint import checkpoint_path
from server_decoder.stylegan2.checkpoints import save_stylegan2
from server_decoder.stylegan2.synthesis import TINY_64, StyleGAN2


class Stages:
    """Stands in for the stages' processes: each leaves a run that came to its end, or was interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, interrupts: str = "") -> None:
        self.commands: list[list[str]] = []
        self.interrupts = interrupts
        monkeypatch.setattr(all_stages, "run_stage", self)

    def __call__(self, command: Sequence[str]) -> int:
        self.commands.append(list(command[1:]))
        run = Path(command[command.index("--out") + 1])
        run.mkdir(parents=True, exist_ok=True)
        checkpoint_path(run).touch()
        with (run / "log.jsonl").open("a") as log:
            log.write(json.dumps({"pictures": 8, "end": run.name != self.interrupts}) + "\n")
        return 0


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stderr


def test_every_stage_begins_with_the_one_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = Stages(monkeypatch)
    assert invoke("smoke", "--out", str(tmp_path), "--init-from", "faces", "--", "--pictures", "24") == (0, "")
    one, two = tmp_path / "stage1", tmp_path / "stage2"
    assert stages.commands[:2] == [
        ["-m", "edgegrain.training.train", "--config", "smoke-stage1", "--out", str(one), "--init-from", "faces",
         "--pictures", "24"],
        ["-m", "edgegrain.training.train", "--config", "smoke-stage2", "--out", str(two), "--init-from", str(one),
         "--pictures", "24"]]
    assert [command[3] for command in stages.commands] == ["smoke-stage1", "smoke-stage2", "smoke-stage3",
                                                           "smoke-final"]
    assert invoke("smoke", "--out", str(tmp_path)) == (0, "")
    assert len(stages.commands) == 4  # all are finished


def test_the_generator_goes_to_the_stages_that_have_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = Stages(monkeypatch)
    save_stylegan2(tmp_path / "prior.safetensors", StyleGAN2(TINY_64))
    prior = ["--prior", str(tmp_path / "prior.safetensors")]
    assert invoke("smoke", "--out", str(tmp_path / "runs"), *prior, "--", "--pictures", "24") == (0, "")
    assert [command[-4:-2] == prior for command in stages.commands] == [False, True, True, True]
    code, error = invoke("cats-256-lr16", "--out", str(tmp_path / "cats"))
    assert code == 1 and "pass --prior with the file of one that makes cats" in error
    assert not (tmp_path / "cats").exists()


def test_what_was_interrupted_is_continued(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = Stages(monkeypatch, interrupts="stage2")
    code, error = invoke("smoke", "--out", str(tmp_path))
    assert (code, len(stages.commands)) == (130, 2)
    assert "smoke-stage2 ended with exit status 130; the same command continues there" in error
    stages.interrupts = ""
    assert invoke("smoke", "--out", str(tmp_path), "--processes", "2")[0] == 0
    assert stages.commands[2][:3] == ["-m", "torch.distributed.run", "--nproc-per-node=2"]
    assert "--resume" in stages.commands[2]
    assert "--init-from" not in stages.commands[2]
    assert not finished(tmp_path)


def test_time_goes_to_the_stages_that_are_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert shared_out(100, (50, 15, 10, 25), (False,) * 4) == [50, 15, 10, 25]
    assert shared_out(100, (50, 15, 10, 25), (True, False, False, False)) == [0, 30, 20, 50]
    stages = Stages(monkeypatch)
    assert invoke("smoke", "--out", str(tmp_path), "--budget-seconds", "1000", "--shares", "1,1,1,2")[0] == 0
    budgets = [next(float(option.split("=")[1]) for option in command if option.startswith("--budget"))
               for command in stages.commands]
    assert budgets == pytest.approx([200, 250, 333, 1000], abs=3)  # a stage that ended early leaves its time


@pytest.mark.parametrize(("arguments", "message"), [
    (("nothing",), "no recipe 'nothing' of four stages; there are faces-256-lr16, "),
    (("smoke", "--shares", "1,2,3"), "--shares takes four positive numbers, such as 50,15,10,25, got '1,2,3'"),
    (("smoke", "--shares", "1,2,3,0"), "four positive numbers"),
])
def test_what_is_wrong_is_named(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    code, error = invoke(*arguments, "--out", str(tmp_path))
    assert code == 1
    assert message in error


def test_recipes_have_all_four_stages() -> None:
    assert {"faces-256-lr16", "faces-1024-lr16", "1024-lr16-paper", "smoke"} <= set(recipes())
    assert recipes()["1024-lr16-paper"]["stage3"] == "stage3-1024-lr16-paper"
    assert not {"faces-256-lr16-gan", "faces-256-lr16-image-fusion"} & set(recipes())


def test_sigterm_reaches_the_stage() -> None:
    stage = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(7)); print(flush=True); time.sleep(60)"
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert run_stage([sys.executable, "-c", stage]) in (7, -signal.SIGTERM)  # the latter before it could ask
