"""The pinned environments: complete, plain, and compatible with each other and with pyproject.toml."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines), "name==version, nothing else"
    return dict(line.split("==") for line in lines)


def test_both_commands_can_share_an_environment(repository: Path) -> None:
    demo, test = (pins(repository / f"requirements/{name}.lock") for name in ("demo", "test"))
    assert demo.items() <= test.items()
    assert {"numpy", "pillow", "onnxruntime", "typer", "rich"} <= demo.keys()
    assert not {"torch", "tensorflow", "coremltools"} & demo.keys()


def test_the_locks_satisfy_the_project(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    test = pins(repository / "requirements/test.lock")
    names = "cli", "align", "remote", "server", "ray", "export", "train", "eval", "dev"
    wanted = [*project["dependencies"], *(
        line for name in names for line in extras[name] if not line.startswith("edgegrain"))]
    for requirement in map(Requirement, wanted):
        version = test[requirement.name.lower()]
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"
