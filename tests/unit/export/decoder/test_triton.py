"""The model repository for Triton, parsed with the schema that NVIDIA publishes in tritonclient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2 as schema

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import ExportError
from edgegrain.cli.main import app
from edgegrain.service.settings import Settings
from export.decoder import command as server
from export.decoder import triton
from export.decoder.comparison import Comparison
from export.decoder.sources import DecoderSource
from export.decoder.triton import Serving, write_repository
from server_decoder.cuda_ops.library import DOMAIN
from server_decoder.decoder_session import DecoderSession
from tests.tiny_bundle import HR, LR, box_network, repeating_decoder, write_tiny_bundle


def parsed(folder: Path) -> schema.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())


def decoder(inputs: dict[str, list[object]], domain: str = "") -> bytes:
    """A graph with these inputs of float32."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    node = helper.make_node("Identity", ["lr"], ["hr"], domain=domain)
    output = helper.make_tensor_value_info("hr", TensorProto.FLOAT, inputs["lr"])
    opsets = [helper.make_opsetid(name, 1) for name in {domain, ""}]
    return bytes(helper.make_model(helper.make_graph([node], "g", values, [output]),
                                   opset_imports=opsets).SerializeToString())


def test_a_bundle_s_decoder(tmp_path: Path) -> None:
    manifest = load_manifest(write_tiny_bundle(tmp_path / "bundles"))
    folder = write_repository(tmp_path / "models", manifest.id, manifest.open_file("decoder.onnx"), manifest)
    assert folder == tmp_path / "models" / manifest.id
    config = parsed(folder)
    assert (config.name, config.backend, config.max_batch_size) == (manifest.id, "onnxruntime", 8)
    (lr,), (hr,) = config.input, config.output
    assert (lr.name, lr.data_type, list(lr.dims)) == (manifest.decoder["input"], schema.TYPE_FP32, [3, LR, LR])
    assert (hr.name, hr.data_type, list(hr.dims)) == (manifest.decoder["output"], schema.TYPE_FP32, [3, HR, HR])
    assert [group.kind for group in config.instance_group] == [schema.ModelInstanceGroup.KIND_GPU]
    assert config.parameters["lr_contract_id"].string_value == manifest.lr_contract_id.hex()
    assert not config.model_operations.op_library_filename and "oldest_onnxruntime" not in config.parameters
    assert [(item.batch_size, list(item.inputs["lr"].dims)) for item in config.model_warmup] == [
        (size, [3, LR, LR]) for size in (1, 2, 4, 8)]
    lrs = np.random.default_rng(0).integers(0, 256, (2, LR, LR, 3), dtype=np.uint8)
    np.testing.assert_array_equal(DecoderSession(folder / "1" / "model.onnx").decode(lrs),
                                  lrs.repeat(HR // LR, 1).repeat(HR // LR, 2))


def test_queue_and_batches_are_the_service_s(tmp_path: Path) -> None:
    settings, config = Settings(), parsed(write_repository(tmp_path, "tiny", repeating_decoder()))
    policy = config.dynamic_batching.default_queue_policy
    assert policy.max_queue_size == settings.queue_size and policy.timeout_action == schema.ModelQueuePolicy.REJECT
    assert policy.default_timeout_microseconds == 1e6 * settings.deadline
    assert config.dynamic_batching.max_queue_delay_microseconds == 1e6 * settings.batch_wait
    assert tuple(item.batch_size for item in config.model_warmup) == settings.batch_sizes


def test_more_inputs_and_open_sides(tmp_path: Path) -> None:
    model = decoder({"lr": ["b", 3, "h", "w"], "noise": ["b", 4]})
    config = parsed(write_repository(tmp_path, "open", model, serving=Serving(device="cpu")))
    assert {item.name: list(item.dims) for item in config.input} == {"lr": [3, -1, -1], "noise": [4]}
    assert config.instance_group[0].kind == schema.ModelInstanceGroup.KIND_CPU


def test_a_decoder_that_quantizes_is_served_as_uint8(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(decoder({"lr": ["b", 16, 16, 3]}))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.UINT8
    config = parsed(write_repository(tmp_path, "levels", model.SerializeToString()))
    (lr,), (hr,) = config.input, config.output
    assert (lr.data_type, list(lr.dims), hr.data_type) == (schema.TYPE_UINT8, [16, 16, 3], schema.TYPE_UINT8)
    assert config.model_warmup[0].inputs["lr"].data_type == schema.TYPE_UINT8


def test_the_library_of_fused_ops_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, model = tmp_path / "built.so", decoder({"lr": ["b", 3, 8, 8]}, DOMAIN)
    library.write_bytes(b"library")
    monkeypatch.setattr(triton, "find_library", lambda: library)
    monkeypatch.setattr(triton, "has_cuda_kernels", lambda path: False)
    with pytest.raises(ExportError, match="no CUDA kernels"):
        write_repository(tmp_path / "models", "fused", model)
    assert not (tmp_path / "models").exists()
    monkeypatch.setattr(triton, "has_cuda_kernels", lambda path: True)
    folder = write_repository(tmp_path / "models", "fused", model)
    (path,) = parsed(folder).model_operations.op_library_filename
    assert path == "/models/fused/1/libedgegrain_ops.so"
    assert parsed(folder).parameters["oldest_onnxruntime"].string_value == "1.30"
    beside = tmp_path / "models" / Path(path).relative_to("/models")
    assert beside.read_bytes() == b"library"
    plain = decoder({"lr": ["b", 3, 8, 8]})
    write_repository(tmp_path / "models", "fused", plain, force=True)  # the library goes with the model
    assert not beside.exists() and not parsed(folder).model_operations.op_library_filename
    with pytest.raises(FileExistsError):
        write_repository(tmp_path / "models", "fused", model)
    assert not beside.exists() and (folder / "1" / "model.onnx").read_bytes() == plain


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="lr has no open batch dimension"):
        write_repository(tmp_path, "fixed", decoder({"lr": [1, 3, 8, 8]}))
    with pytest.raises(ExportError, match="strength has no open batch dimension"):
        write_repository(tmp_path, "scalar", decoder({"lr": ["b", 3, 8, 8], "strength": []}))
    integers = onnx.load_model_from_string(decoder({"lr": ["b", 3, 8, 8]}))
    integers.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ExportError, match="lr is of type INT64"):
        write_repository(tmp_path, "integers", integers.SerializeToString())
    write_repository(tmp_path, "tiny", repeating_decoder())
    with pytest.raises(FileExistsError):
        write_repository(tmp_path, "tiny", repeating_decoder())
    write_repository(tmp_path, "tiny", repeating_decoder(), force=True)


def test_an_error_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_repository(tmp_path, "tiny", repeating_decoder())
    (folder / "1" / "libedgegrain_ops.so").write_bytes(b"of the old model")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    write = Path.write_bytes

    def fails(path: Path, data: bytes) -> int:
        if path.parent.name == "1":
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(OSError, match="No space left on device"):
        write_repository(tmp_path, "tiny", decoder({"lr": ["b", 3, 8, 8]}), force=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_text_format_of_strings() -> None:
    text = "\n".join(triton.prototext({"name": 'a "quoted"\\name', "parameters": [
        {"key": "k", "value": {"string_value": "two\nlines"}}]}))
    config = text_format.Parse(text, schema.ModelConfig())
    assert config.name == 'a "quoted"\\name' and config.parameters["k"].string_value == "two\nlines"


def test_the_command_compares_the_decoder_and_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    manifest = load_manifest(write_tiny_bundle(tmp_path / "bundles"))
    source = DecoderSource(manifest.id, torch.nn.Identity(), box_network(), manifest)  # type: ignore[arg-type]
    monkeypatch.setattr(server, "find_decoder", lambda bundle, prior: source)
    monkeypatch.setattr(server, "served_decoder", lambda decoder, *arguments, **form: decoder)
    monkeypatch.setattr(server, "export_decoder", lambda *arguments, **form: repeating_decoder())
    monkeypatch.setattr(server, "compare_decoder", lambda model, decoder, lrs, *more: Comparison(len(lrs), 0, 200, 0))
    with pytest.raises(SystemExit) as leaving:
        app(["export", "triton", "--ops", "fused", "--compared", "1", "--out", str(tmp_path / "models")])
    printed = capsys.readouterr()
    assert leaving.value.code == 0 and "on 1 LRs" in printed.out and "ONNX Runtime 1.30 or newer" in printed.err
    folder = tmp_path / "models" / manifest.id
    assert (folder / "1" / "model.onnx").read_bytes() == repeating_decoder()
    assert parsed(folder).parameters["bundle"].string_value == manifest.id
    monkeypatch.setattr(server, "export_decoder", None)  # a model that exists is refused before the work
    with pytest.raises(SystemExit) as leaving:
        app(["export", "triton", "--out", str(tmp_path / "models")])
    assert leaving.value.code == 1 and "--force" in capsys.readouterr().err
