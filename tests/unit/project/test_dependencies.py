"""Every library that the packages import is declared, and does not merely come with another one."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGES = ("codec_contract", "edge_encoder", "server_decoder", "sdk", "export", "edgegrain")


def imported(repository: Path) -> Iterator[str]:
    for package in PACKAGES:
        for path in (repository / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield node.module.partition(".")[0]


def test_every_imported_library_is_declared(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "dev"}
    declared = {
        canonicalize_name(Requirement(line).name)
        for line in (*project["dependencies"], *(line for lines in extras.values() for line in lines))
    }
    distributions = packages_distributions()
    modules = set(imported(repository)) - {*PACKAGES, *sys.stdlib_module_names}
    assert {"numpy", "filelock", "starlette"} <= modules
    undeclared = {
        module
        for module in modules & distributions.keys()  # without those that are not installed
        if declared.isdisjoint(map(canonicalize_name, distributions[module]))
    }
    assert not undeclared


def test_the_command_line_starts_with_its_own_packages_only(repository: Path) -> None:
    """`make demo` and the extra ``cli`` install no others."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    own = {
        canonicalize_name(Requirement(line).name)
        for line in (*project["dependencies"], *project["optional-dependencies"]["cli"])
    }
    own |= {"edgegrain", "onnxruntime-gpu"}
    declared = {
        canonicalize_name(Requirement(line).name)
        for lines in project["optional-dependencies"].values()
        for line in lines
    } - own
    modules = [
        module
        for module, names in packages_distributions().items()
        if not declared.isdisjoint(map(canonicalize_name, names))
    ]
    assert {"onnx", "torch", "filelock"} <= set(modules)
    script = f"import sys; sys.modules.update(dict.fromkeys({modules})); import edgegrain.cli.app"
    subprocess.run([sys.executable, "-c", script], cwd=repository, check=True)
