"""Help of every command, the version, missing libraries, streams that cannot be written."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from codec_contract import __version__
from edgegrain.cli.app import CHECK, EXPORT, SERVE, TRAIN, USE, application
from tests.unit.edgegrain.cli.conftest import Shell

TOP_LEVEL = (
    "compress restore info bundles retouch demo faces serve batch train prior publish pictures metrics export convert "
    "device-kit device-report evaluate models doctor"
).split()


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that is not a group."""
    for name, command in (group or typer.main.get_command(application)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def python(repository: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command, env = [sys.executable, *arguments], {**os.environ, **environment}
    return subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True)


def test_lists_the_commands_and_exit_statuses(shell: Shell) -> None:
    out = shell.ok("--help")
    assert {words[0] for words in commands()} == set(TOP_LEVEL)
    assert all(f"\n  {command} " in out for command in TOP_LEVEL)
    headings = [out.index(f"\n{heading}:\n") for heading in (USE, SERVE, TRAIN, EXPORT, CHECK)]
    assert headings == sorted(headings) and "\nOther:\n" not in out
    assert "Exit codes:\n    0    done\n    1    the command failed" in out


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_shows_examples(shell: Shell, words: tuple[str, ...]) -> None:
    out = shell.ok(*words, "--help")
    assert "Examples:\n" in out and f"\n    edgegrain {' '.join(words)}" in out
    assert out.split("\n\n")[1].strip()[0].isupper()  # a sentence


def test_version(shell: Shell, repository: Path) -> None:
    assert shell.ok("--version") == f"edgegrain {__version__}\n"
    assert python(repository, "-m", "edgegrain", "--version").stdout == f"edgegrain {__version__}\n"


def test_wrong_usage_is_status_2(shell: Shell) -> None:
    for said, *arguments in (
        ("No such command", "comprss"),
        ("Missing argument", "compress"),
        ("Missing argument", "restore"),
        ("'cover' is not one of 'pad', 'stretch', 'crop'", "compress", "--fit", "cover", "x"),
    ):
        assert "Usage" in shell.fails(said, *arguments, status=2)


@pytest.mark.parametrize(
    ("words", "found"), [("edgegrain comp", "compress"), ("edgegrain restore --str", "--strength")]
)
def test_the_shell_completes_commands(repository: Path, words: str, found: str) -> None:
    program = "import sys; sys.argv[0] = 'edgegrain'; from edgegrain.__main__ import app; app()"
    given = {"_EDGEGRAIN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert python(repository, "-c", program, **given).stdout.split() == [found]


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_missing_library_says_what_to_install(repository: Path, missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from edgegrain.__main__ import app; app()"
    result = python(repository, "-c", program)
    assert result.returncode == 1 and result.stdout == "" and result.stderr.count("\n") == 1
    assert f"{missing} is missing" in result.stderr and "pip install 'edgegrain[cli]'" in result.stderr


@pytest.mark.parametrize(
    ("words", "forgotten", "missing", "extra"),
    [
        ("serve", "edgegrain.service.app", "granian.constants", "server"),
        ("evaluate --data .", "edgegrain.evaluation.report", "jinja2", "eval"),
        ("publish run . --out b", "edgegrain.training.checkpoint", "safetensors", "export,train"),
        ("export encoder", "", "export.proof.prove", "export"),
        ("export decoder", "", "export.bundle.writer", "export"),
        ("export bundle . --out b", "", "export.bundle.grain", "export"),
    ],
)
def test_missing_library_names_the_extra(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, forgotten: str, missing: str, extra: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, forgotten, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    assert missing.partition(".")[0] in shell.fails(f"pip install 'edgegrain[{extra}]'", *words.split())
