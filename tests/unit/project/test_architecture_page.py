"""The drawing of ARCHITECTURE.md equals the tree and the import rules."""

import re
import tomllib
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def drawing(repository: Path) -> dict[str, int]:
    """Folder -> its layer in the drawing."""
    block = re.findall(r"^```\n(.*?)^```$", (repository / "ARCHITECTURE.md").read_text(), re.MULTILINE | re.DOTALL)[0]
    layers: dict[str, int] = {}
    columns = ["", ""]
    layer = 0
    for line in block.splitlines():
        layer = int(line[1]) if line[1].isdigit() else layer
        for column, cell in enumerate(line.split("│")[1:3]):
            if package := re.match(r" ((?:\w+/)+)", cell):
                columns[column] = package[1]
                layers[package[1]] = layer
                cell = cell[package.end() :]
            for folder in re.findall(r"(\w+)/", cell):
                layers[f"{columns[column]}{folder}/"] = layer
    return layers


def test_every_package_is_drawn(repository: Path, drawing: dict[str, int]) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    packages = project["tool"]["importlinter"]["root_packages"]
    files = [path for package in packages for path in repository.glob(f"{package}/*/__init__.py")]
    files += [repository / package / "__init__.py" for package in packages if package != "edgegrain"]
    files += repository.glob("edgegrain/*/*/__init__.py")  # its folders are drawn with their own
    found = {f"{path.parent.relative_to(repository).as_posix()}/" for path in files}
    assert found | {"edgegrain/service/web/"} == set(drawing)


def test_the_layers_are_those_of_the_import_rules(repository: Path, drawing: dict[str, int]) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    contract = next(item for item in project["tool"]["importlinter"]["contracts"] if item["type"] == "layers")
    rows = [[f"{name.strip().replace('.', '/')}/" for name in row.split("|")] for row in contract["layers"]]
    drawn = [{drawing[name] for name in row if (repository / name).is_dir()} for row in rows]  # files are not drawn
    assert all(len(layers) == 1 for layers in drawn)
    order = [layer for layers in drawn for layer in layers]
    assert order == sorted(order, reverse=True) and set(order) == {1, 2, 3, 4, 5}
