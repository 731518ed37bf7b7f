"""``edgegrain export enlarger``: graphs equal torch, and a bundle gets them without another change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from codec_contract.bundle.manifest import load_manifest, verify_bundle
from codec_contract.errors import ExportError, ModelError
from codec_contract.files import write_atomically
from codec_contract.quantization import dequantize, quantize
from edgegrain.cli.main import app
from export.bundle import additions
from export.bundle.enlarger import (
    compare_enlarger,
    compared_pictures,
    enlarger_graph,
    export_enlarger,
    trained_factors,
    with_factor,
    write_enlargers,
)
from server_decoder.super_resolution.network import SuperResolution, SuperResolutionConfig
from server_decoder.super_resolution.weights import save_super_resolution
from tests.tiny_bundle import HR, write_tiny_bundle

SMALL = SuperResolutionConfig(widths=(8, 12), down=(1, 1), up=(1,), fine_widths=(6, 5), fine_blocks=(1, 1))


@pytest.fixture(scope="module")
def network() -> SuperResolution:
    """A network whose heads are not zero; its pictures exceed 0...255 in places."""
    torch.manual_seed(0)
    network = SuperResolution(SMALL).eval()
    with torch.no_grad():
        for doubling in network.fine:
            torch.nn.init.normal_(doubling.head.weight, std=0.1)
    return network


@pytest.fixture
def run_folder(tmp_path: Path, network: SuperResolution) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    save_super_resolution(network, folder / "super_resolution.safetensors",
                          training={"config": {"factor": 4, "size": HR}, "pictures_seen": 9})
    return folder


def export(capture: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        app(["export", "enlarger", *map(str, arguments)])
    output = capture.readouterr()
    return int(leaving.value.code or 0), output.out, " ".join(output.err.split())


@pytest.mark.parametrize("factor", [2, 4])
def test_a_graph_equals_torch(network: SuperResolution, factor: int) -> None:
    exported = export_enlarger(network, 32, factor)
    assert exported.file == f"enlarger_x{factor}.onnx" and exported.pictures == 3 and exported.differing_bytes < 0.001
    session = onnxruntime.InferenceSession(exported.model, providers=["CPUExecutionProvider"])
    ends = [(value.name, value.type, value.shape) for value in (*session.get_inputs(), *session.get_outputs())]
    large = 32 * factor
    assert ends == [("picture", "tensor(uint8)", ["batch", 32, 32, 3]),
                    ("enlarged", "tensor(uint8)", ["batch", large, large, 3])]
    pictures = compared_pictures(32)
    found = session.run(None, {"picture": pictures})[0]  # a batch at once
    with torch.no_grad():
        values = network(torch.from_numpy(dequantize(pictures.astype(np.float32))).permute(0, 3, 1, 2), factor)
    wanted = quantize(values.permute(0, 2, 3, 1).numpy())
    assert np.abs(found.astype(int) - wanted).max() <= 1  # float16 storage included
    assert values.abs().max() > 1 and {0, 255} <= set(np.unique(found).tolist())  # clipped
    assert np.abs(found.astype(int) - pictures.repeat(factor, 1).repeat(factor, 2)).mean() > 5


def test_weights_are_stored_as_float16_and_those_of_factor_4_left_out(network: SuperResolution) -> None:
    graph = onnx.load_from_string(export_enlarger(network, 32, 2).model)
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    assert kinds["coarse.first.weight.float16"] == onnx.TensorProto.FLOAT16
    assert not any(name.startswith("fine.1") for name in kinds)
    with pytest.raises(ModelError, match="by 2 or 4, not by 3"):
        with_factor(network, 3)


def test_another_graph_is_refused(network: SuperResolution) -> None:
    model, pictures = enlarger_graph(with_factor(network, 2), 32), compared_pictures(32)
    other = with_factor(network, 2)
    with torch.no_grad():
        other.fine[0].head.bias.add_(0.02)  # 2.55 levels
    with pytest.raises(ExportError, match="by 3 levels, more than 1"):
        compare_enlarger(model, other, 2, pictures)


def test_a_bundle_gets_enlargers_and_keeps_its_contract(tmp_path: Path, run_folder: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny_bundle(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    contract = load_manifest(folder).lr_contract_id
    status, printed, error = export(capsys, run_folder, "--into", folder)
    assert status == 0, error
    assert printed.count("\n") == 2 and printed.startswith(f"{folder / 'enlarger_x2.onnx'}: ")
    manifest = verify_bundle(folder)  # sizes and hashes
    record = json.loads((folder / "manifest.json").read_bytes())
    assert [(entry["factor"], entry["file"]) for entry in record["enlargers"]] == [
        (2, "enlarger_x2.onnx"), (4, "enlarger_x4.onnx")]
    assert record["enlargers"][1]["training"]["pictures_seen"] == 9 and manifest.lr_contract_id == contract
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) - set(before) == {"enlarger_x2.onnx", "enlarger_x4.onnx"}
    assert {name for name in before if before[name] != after[name]} == {"manifest.json"}
    status, _, error = export(capsys, run_folder, "--into", folder)
    assert status == 1 and "enlarger_x2.onnx exists" in error
    status, printed, error = export(capsys, run_folder / "super_resolution.safetensors", "--into", folder, "--factor",
                                    4, "--force")
    assert status == 0 and printed.count("\n") == 1, error
    assert json.loads((folder / "manifest.json").read_bytes()) == record


def test_an_interrupted_replacement_leaves_the_earlier_enlarger(
        tmp_path: Path, network: SuperResolution, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny_bundle(tmp_path)
    first = export_enlarger(network, HR, 2)
    write_enlargers([first], load_manifest(folder), {})
    torch.manual_seed(1)
    second = export_enlarger(SuperResolution(SMALL).eval(), HR, 2)

    def interrupted(path: Path, data: bytes, *, force: bool = False) -> None:
        if path.name == "manifest.json":
            raise KeyboardInterrupt
        write_atomically(path, data, force=force)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(additions, "write_atomically", interrupted)
        write_enlargers([second], load_manifest(folder), {})
    manifest = verify_bundle(folder)
    assert manifest.open_file(manifest.enlarger(2).file) == first.model
    written = write_enlargers([second], load_manifest(folder), {})
    assert verify_bundle(folder) == written and written.open_file(written.enlarger(2).file) == second.model
    assert not (folder / "enlarger_x2.onnx").exists()


def test_what_does_not_fit_is_refused(tmp_path: Path, network: SuperResolution, run_folder: Path,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny_bundle(tmp_path)
    manifest = (folder / "manifest.json").read_bytes()
    path = save_super_resolution(network, tmp_path / "x2.safetensors",
                                 training={"config": {"factor": 2, "size": 2 * HR}})
    assert trained_factors(path) == (2,) and trained_factors(run_folder) == (2, 4)
    status, _, error = export(capsys, path, "--into", folder)
    assert status == 1 and f"trained on pictures of {2 * HR}x{2 * HR}, the bundle restores {HR}x{HR}" in error
    status, _, error = export(capsys, run_folder, "--into", folder, "--factor", 3)
    assert status == 1 and "by 2 or 4, not by 3" in error
    status, _, error = export(capsys, run_folder, "--into", "hf://owner/name@main")
    assert status == 1 and "cached as it is on the Hub" in error
    status, _, error = export(capsys, folder, "--into", folder)
    assert status == 1 and "no super-resolution network" in error
    assert (folder / "manifest.json").read_bytes() == manifest
