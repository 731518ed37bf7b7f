import errno
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from onnx import ModelProto
from safetensors.torch import save_file
from typer.testing import CliRunner

from codec_contract.bundle.manifest import ENCODER_WEIGHTS
from edge_encoder.integer_network import integer_digest, load_integer_network, prove_bound
from edgegrain.papers.grain.rrdb_encoder import FloatEncoderConfig, RRDBEncoder
from export.encoder import onnx
from export.encoder.graph import Clip, EncoderGraph, exact_graph
from export.mobile import app
from export.proof import prove
from tests.tiny_bundle import refresh_manifest, write_tiny_bundle


def invoke(bundle: Path, out: Path, *arguments: str, status: int = 0) -> str:
    """The output of the command, which must end with this status."""
    result = CliRunner().invoke(app, ["--bundle", str(bundle), "--out", str(out), *arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), random=True)


@pytest.fixture(scope="module")
def run(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One whole run of the command: its output folder and what it printed."""
    out = tmp_path_factory.mktemp("dist")
    return out, invoke(bundle, out, "--inputs", "15")


def test_the_report_says_what_was_written_and_compared(run: tuple[Path, str], bundle: Path) -> None:
    out, printed = run
    report, network = json.loads((out / "report.json").read_text()), load_integer_network(bundle / ENCODER_WEIGHTS)
    lines, files = printed.splitlines(), {"encoder.tflite", "encoder.mlpackage", "encoder.onnx"}
    assert {*(f"writing {name}" for name in files), "comparing with the int64 reference"} < set(lines)
    assert report["source"] == "bundle tiny-64-lr16" and set(report["files"]) == files
    assert sum(line.endswith(": 0 differing bytes") for line in lines) == len(report["runtimes"]) >= 13
    of_both = ("XNNPACK", "without delegate", "all optimizations", "no optimizations")
    threaded = [f"{name}, {threads}" for name in of_both for threads in ("1 thread", "2 threads")]
    others = ["reference kernels, 1 thread", "numpy interpreter", "CompiledModel", "oneDNN, batch 1", "off, batch 16"]
    for part in threaded + others:
        assert any(part in row["name"] for row in report["runtimes"]), part
    for row in report["runtimes"]:
        assert (row["inputs"], row["bytes_compared"], row["differing_bytes"]) == (15, 15 * network.lr**2 * 3, 0)
    sizes = {"exact": True, "hr": 64, "lr": 16, "flops": exact_graph(network).flops()}
    assert {**sizes, "digest": integer_digest(network).hex()}.items() <= report["encoder"].items()
    assert report["bound"]["worst_log2"] == pytest.approx(max(prove_bound(network).values()), abs=1e-3)
    assert sum(report["inputs"].values()) == 15
    assert report["files"]["encoder.tflite"]["bytes"] == (out / "encoder.tflite").stat().st_size
    assert {"numpy", "onnxruntime", "ai-edge-litert", "coremltools", "torch"} <= set(report["versions"])
    assert report["files"]["encoder.tflite"]["converter"] == "direct"


def test_after_ctrl_c_there_are_no_files(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "compare", Mock(side_effect=KeyboardInterrupt))
    printed = invoke(bundle, tmp_path / "dist", "--formats", "onnx", "--inputs", "2", status=130)
    assert printed.splitlines()[-1] == "interrupted; every file is either whole or not there"
    assert not list(tmp_path.iterdir())


def test_existing_files_are_kept_without_force(run: tuple[Path, str], bundle: Path) -> None:
    out, _ = run
    before = (out / "encoder.onnx").read_bytes()
    assert "--force" in invoke(bundle, out, "--formats", "onnx", "--inputs", "1", status=1)
    assert (out / "encoder.onnx").read_bytes() == before


def test_one_format_alone_and_quick(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one process
    invoke(bundle, tmp_path, "--formats", "onnx", "--inputs", "2")
    invoke(bundle, tmp_path, "--formats", "onnx", "--quick", "--force")
    assert sum(json.loads((tmp_path / "report.json").read_text())["inputs"].values()) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.onnx", "report.json"]


def test_a_differing_byte_is_exit_status_one_and_stands_in_the_report(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = onnx.onnx_model

    def darker(graph: EncoderGraph) -> ModelProto:
        nodes = [replace(node, high=100) if isinstance(node, Clip) else node for node in graph.nodes]
        return make(replace(graph, nodes=tuple(nodes)))

    monkeypatch.setattr(onnx, "onnx_model", darker)
    assert "do not ship it: ONNX Runtime" in invoke(bundle, tmp_path, "--formats", "onnx", "--inputs", "4", status=1)
    rows = {row["name"]: row for row in json.loads((tmp_path / "report.json").read_text())["runtimes"]}
    assert all((row["differing_bytes"] > 0) == name.startswith("ONNX") for name, row in rows.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bundle", "no-such-bundle"], "no bundle 'no-such-bundle'"),
        (["--formats", "tflite,gguf"], "unknown format gguf"),
        (["--data", "."], "no pictures"),
        (["--out", __file__], "is a file; name a folder"),
    ],
)
def test_what_cannot_be_done_is_exit_status_one(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in invoke(bundle, tmp_path / "dist", "--inputs", "1", *arguments, status=1)
    assert not (tmp_path / "dist").exists()


def test_altered_weights_are_not_exported(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, random=True)
    weights = bytearray((folder / "encoder.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "encoder.safetensors").write_bytes(weights)
    printed = invoke(folder, tmp_path / "dist", "--inputs", "1", status=1)
    assert "encoder.safetensors of bundle tiny-64-lr16 is altered" in printed


def test_a_missing_library_is_named(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    result = CliRunner().invoke(app, ["--bundle", str(bundle), "--out", str(tmp_path / "dist")])
    assert isinstance(result.exception, SystemExit) and "this command needs safetensors" in result.output
    assert "pip install 'edgegrain[export]'" in " ".join(result.output.split())


def test_the_output_may_be_on_another_disk(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, rename = tmp_path / "other", os.replace

    def rename_within_one(source: Path, target: Path) -> None:
        if Path(source).resolve().is_relative_to(other) != Path(target).resolve().is_relative_to(other):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    other.mkdir()
    (tmp_path / "dist").symlink_to(other)
    monkeypatch.setattr(os, "replace", rename_within_one)
    invoke(bundle, tmp_path / "dist", "--formats", "coreml,onnx", "--inputs", "1")
    assert {path.name for path in other.iterdir()} == {"encoder.mlpackage", "encoder.onnx", "report.json"}


def test_a_float_encoder_is_compared_with_torch(tmp_path: Path) -> None:
    """Of a bundle that an official checkpoint was converted to."""
    encoder = RRDBEncoder(FloatEncoderConfig(channels=8, growth=4, blocks=1, scale=2))
    folder = write_tiny_bundle(tmp_path)
    (folder / "encoder.safetensors").unlink()
    save_file(dict(encoder.state_dict()), folder / "rrdb_encoder.safetensors")
    refresh_manifest(folder)
    printed = invoke(folder, tmp_path / "dist", "--formats", "onnx", "--inputs", "4")
    report = json.loads((tmp_path / "dist" / "report.json").read_text())
    assert report["encoder"]["exact"] is False and report["reference"] == "torch" and "bound" not in report
    assert {row["inputs"] for row in report["runtimes"]} == {4} and "comparing with torch" in printed


def test_help_teaches_with_examples() -> None:
    printed = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert "python -m export.mobile --out dist" in printed and "exit status is 1" in printed
