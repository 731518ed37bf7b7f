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


def dependencies(repository: Path) -> tuple[set[str], dict[str, set[str]]]:
    """Names of the libraries of the project, and of every extra."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    names = {group: {canonicalize_name(Requirement(line).name) for line in lines} for group, lines in groups.items()}
    return names.pop(""), names


def test_every_imported_library_is_declared(repository: Path) -> None:
    base, extras = dependencies(repository)
    declared = base.union(*(names for extra, names in extras.items() if extra != "dev"))
    distributions = packages_distributions()
    modules = set(imported(repository)) - {*PACKAGES, *sys.stdlib_module_names}
    assert {"numpy", "filelock", "starlette"} <= modules
    installed = modules & distributions.keys()
    assert not [name for name in installed if declared.isdisjoint(map(canonicalize_name, distributions[name]))]


def test_the_command_line_starts_with_its_own_packages_only(repository: Path) -> None:
    """`make demo` and the extra ``cli`` install no others."""
    base, extras = dependencies(repository)
    others = set[str]().union(*extras.values()) - base - extras["cli"] - {"edgegrain", "onnxruntime-gpu"}
    distributions = packages_distributions().items()
    modules = [name for name, found in distributions if not others.isdisjoint(map(canonicalize_name, found))]
    assert {"onnx", "torch", "filelock"} <= set(modules)
    script = f"import sys; sys.modules.update(dict.fromkeys({modules})); import edgegrain.cli.app"
    subprocess.run([sys.executable, "-c", script], cwd=repository, check=True)
