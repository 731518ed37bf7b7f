import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import ExportError
from edge_encoder.integer_network import IntegerNetwork
from export.encoder.graph import FORMATS, Conv, exact_graph, int8_parts
from export.proof.report import clone_commit, installed_runtimes, measure, new_report
from export.proof.runtimes import Runtime

AXES = {"tflite": (0, 2, 3, 1), "coreml": (0, 1, 2, 3), "onnx": (0, 1, 2, 3)}


@pytest.mark.parametrize("part", ["weight", "depthwise weight", "bias"])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_with_one_other_weight_is_refused(
    network: IntegerNetwork, exported: Mapping[str, Path], tmp_path: Path, kind: str, part: str
) -> None:
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


def test_a_report_says_what_was_measured(default_bundle: Path) -> None:
    runtimes = installed_runtimes(default_bundle)
    names = " ".join(runtime.name for runtime in runtimes)
    assert "ONNX Runtime" in names and "CompiledModel" in names and "reference kernels" not in names
    manifest = load_manifest(default_bundle)
    report = measure(runtimes[1], manifest, "a computer", 3)
    assert (report["device"], report["threads"], report["checked"], report["failed"]) == ("a computer", 2, 12, [])
    assert report["runtime"].startswith("ONNX Runtime") and "thread" not in report["runtime"]
    times = report["encode_ms"]
    assert times["runs"] == 3 and 0 < times["least"] <= times["median"] <= times["most"]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_only_formats_that_a_bundle_has(
    platform: str, default_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(default_bundle / "encoder.onnx", tmp_path)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("export.proof.report.find_spec", lambda name: True)
    names = [runtime.name for runtime in installed_runtimes(tmp_path)]
    assert len(names) == 2 and all(name.startswith("ONNX Runtime") for name in names)


def test_a_runtime_with_other_bytes_is_reported(default_bundle: Path) -> None:
    wrong = Runtime("zeros", lambda rgb: np.zeros((1, 16, 16, 3), np.uint8))
    report = measure(wrong, load_manifest(default_bundle), "a computer", 1)
    assert "noise-3" in report["failed"] and report["threads"] == 0
