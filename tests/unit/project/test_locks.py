"""The pinned environments: complete, plain, and compatible with each other and with pyproject.toml."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from server_decoder.providers import can_replay_graphs

PIN = re.compile(r'[a-z0-9-]+==[0-9][0-9a-z.]*( ; python_version (<|>=) "3\.\d+")?')


def pins(path: Path, python: str) -> dict[str, str]:
    """Return the pinned version of each package on a Python version such as 3.11."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert all(PIN.fullmatch(line) for line in lines), "name==version, at most a marker with a Python version"
    here = {"python_version": python}
    chosen = [pin for pin in map(Requirement, lines) if not pin.marker or pin.marker.evaluate(here)]
    versions = {pin.name: str(pin.specifier).removeprefix("==") for pin in chosen}
    assert len(chosen) == len(versions), f"pinned twice on Python {python}"
    return versions


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    read: dict[str, Any] = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return read


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_the_demonstration_s_lock_satisfies_the_project(repository: Path, project: dict[str, Any], python: str) -> None:
    demo, test = (pins(repository / f"requirements/{name}.lock", python) for name in ("demo", "test"))
    assert not {"torch", "coremltools"} & demo.keys() and "tensorflow" not in test
    assert python == "3.14" or demo.items() <= test.items()  # both commands share an environment
    for requirement in map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["cli"]]):
        assert requirement.specifier.contains(demo[requirement.name.lower()]), f"{requirement} on Python {python}"
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]


def test_the_gpu_build_replays_graphs_rightly(repository: Path, project: dict[str, Any]) -> None:
    (requirement,) = map(Requirement, project["optional-dependencies"]["gpu"])
    (least,) = [item.version for item in requirement.specifier if item.operator == ">="]
    assert requirement.name == "onnxruntime-gpu" and can_replay_graphs(least)
    assert not requirement.specifier.contains("1.29.9")
    (version,) = re.findall(r"ARG ONNXRUNTIME_GPU=(\S+)", (repository / "containers/Dockerfile.cuda").read_text())
    assert requirement.specifier.contains(version)


def test_the_locks_satisfy_the_project(repository: Path, project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    test = pins(repository / "requirements/test.lock", "3.11")
    names = "cli", "heic", "hub", "remote", "server", "ray", "export", "train", "eval", "dev"
    lines = [line for name in names for line in extras[name] if not line.startswith("edgegrain")]
    for requirement in map(Requirement, [*project["dependencies"], *lines]):
        version = test[requirement.name.lower()]
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"
