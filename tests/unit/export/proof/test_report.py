from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork
from export.encoder.graph import FORMATS, Conv, exact_graph, int8_parts
from export.proof.report import clone_commit, new_report

AXES = {"tflite": (0, 2, 3, 1), "coreml": (0, 1, 2, 3), "onnx": (0, 1, 2, 3)}


@pytest.mark.parametrize("part", ["weight", "depthwise weight", "bias"])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_with_one_other_weight_is_refused(network: IntegerNetwork, exported: Mapping[str, Path], tmp_path: Path,
                                                 kind: str, part: str) -> None:
    graph = exact_graph(network)
    assert list(new_report(graph, exported, source="")["files"]) == [path.name for path in exported.values()]
    node = next(node for node in graph.nodes if isinstance(node, Conv) and node.weight.size > 1000)
    if part == "depthwise weight":
        node = next(node for node in graph.nodes if isinstance(node, Conv) and node.name.endswith("depthwise.conv"))
    integers, _ = int8_parts(node.weight) or pytest.fail("not int8")
    axes = (1, 2, 3, 0) if (kind, part) == ("tflite", "depthwise weight") else AXES[kind]
    values = node.bias if part == "bias" else integers.transpose(axes)
    changed = np.array(values)
    changed.flat[-1] += 1 if changed.flat[-1] < 127 else -1
    path = tmp_path / exported[kind].name
    (shutil.copytree if exported[kind].is_dir() else shutil.copy)(exported[kind], path)
    found = [file for file in [path, *path.rglob("*")] if file.is_file() and values.tobytes() in file.read_bytes()]
    assert len(found) == 1
    found[0].write_bytes(found[0].read_bytes().replace(values.tobytes(), changed.tobytes(), 1))
    with pytest.raises(ExportError, match=f"{path.name} has other weights or biases .* in {node.name}; do not"):
        new_report(graph, {**exported, kind: path}, source="")


def test_the_commit_is_that_of_the_clone_with_this_package(tmp_path: Path) -> None:
    """A package that is installed in a user's clone has no commit of its own."""
    if not shutil.which("git"):
        pytest.skip("needs git")
    git = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    installed = tmp_path / "installed.py"
    installed.touch()
    assert clone_commit(str(installed)) is None
    git(["git", "init"])
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--message", "one"]
    git([*commit, "--allow-empty"])
    assert clone_commit(str(installed)) is None
    git(["git", "add", installed.name])
    git(commit)
    assert clone_commit(str(installed)) == git(["git", "rev-parse", "HEAD"]).stdout.strip()
    installed.write_text("changed")
    assert str(clone_commit(str(installed))).endswith(" with changes")
