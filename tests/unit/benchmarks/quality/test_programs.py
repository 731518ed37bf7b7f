"""The programs run as scripts from any working directory, and their usage lines name options that exist."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer


@pytest.mark.parametrize("name", ["int8_enlarger", "photographs", "qualities", "rescaling"])
def test_the_usage_line_names_options_that_exist(name: str) -> None:
    module = importlib.import_module(f"benchmarks.quality.{name}")
    text = module.__doc__ or ""
    usage = text[text.index(f"python benchmarks/quality/{name}.py") :].split("\n\n")[0]
    application = typer.Typer()
    application.command()(module.main)
    options = {option for parameter in typer.main.get_command(application).params for option in parameter.opts}
    named = set(re.findall(r"--[a-z-]+", usage))
    assert named and named <= options


def test_a_script_that_imports_another_needs_no_python_path(repository: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(repository / "benchmarks" / "quality" / "rescaling.py"), "--help"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and "--data" in result.stdout, result.stderr
