"""The model repository in Triton Inference Server itself: it loads, batches, and restores what the session restores.

Needs ``tritonserver`` with the ONNX Runtime backend on the path; it is in NVIDIA's container. Decoders run on the CPU.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient import grpc
from tritonclient.grpc import model_config_pb2 as schema

from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import DeviceError
from codec_contract.quantization import dequantize, quantize
from export.decoder.command import export_compared
from export.decoder.decoder_options import DecoderOptions, Ops
from export.decoder.sources import random_decoder
from export.decoder.triton import Serving, write_repository
from server_decoder.cuda_ops.library import find_library
from server_decoder.decoder_session import DecoderSession
from tests.tiny_bundle import LR, convolutional_decoder, steered_decoder, write_tiny_bundle

SERVER = shutil.which("tritonserver")
START = 120.0
"""Seconds; the server warms up every batch size."""

pytestmark = pytest.mark.skipif(SERVER is None, reason="needs tritonserver with the ONNX Runtime backend on the path")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def serving(repository: Path) -> Iterator[grpc.InferenceServerClient]:
    """A ready server of these models; killed when the block ends."""
    port, log = free_port(), repository.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(SERVER), f"--model-repository={repository}", "--grpc-address=127.0.0.1", f"--grpc-port={port}",
             "--allow-http=false", "--allow-metrics=false"], stdout=output, stderr=subprocess.STDOUT)
    try:
        client = grpc.InferenceServerClient(f"127.0.0.1:{port}")
        end = time.monotonic() + START
        while not ready(client):
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-5000:]
            time.sleep(0.1)
        yield client
    finally:
        process.kill()
        process.wait()


def ready(client: grpc.InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_ready())
    except grpc.InferenceServerException:  # it does not listen yet
        return False


def restored(client: grpc.InferenceServerClient, name: str, lrs: np.ndarray) -> np.ndarray:
    """Pictures of LRs, uint8 ``[N, H, W, 3]``; each LR is a request of its own, all at once."""
    kind = client.get_model_metadata(name).inputs[0].datatype
    arrived: Queue[tuple[int, grpc.InferResult | None, Exception | None]] = Queue()
    for index, lr in enumerate(lrs):
        x = lr[None] if kind == "UINT8" else np.ascontiguousarray(
            dequantize(lr.astype(np.float32)).transpose(2, 0, 1)[None])
        tensor = grpc.InferInput("lr", x.shape, kind)
        tensor.set_data_from_numpy(x)
        client.async_infer(name, [tensor], lambda result, error, index=index: arrived.put((index, result, error)))
    pictures = {}
    for index, result, error in (arrived.get(timeout=START) for _ in lrs):
        assert result is not None, error
        pictures[index] = result.as_numpy("hr")
    hr = np.concatenate([pictures[index] for index in range(len(lrs))])
    return hr if kind == "UINT8" else quantize(hr).transpose(0, 2, 3, 1)


def levels(one: np.ndarray, other: np.ndarray) -> int:
    """Largest difference of two uint8 arrays."""
    return int(np.abs(one.astype(int) - other).max())


def test_requests_are_batched_and_restored(tmp_path: Path) -> None:
    manifest = load_manifest(write_tiny_bundle(tmp_path / "bundles", decoder=convolutional_decoder()))
    model = manifest.open_file("decoder.onnx")
    folder = write_repository(tmp_path / "models", manifest.id, model, manifest, Serving(device="cpu"))
    lrs = np.random.default_rng(0).integers(0, 256, (40, LR, LR, 3), dtype=np.uint8)
    with serving(tmp_path / "models") as client:
        assert levels(restored(client, manifest.id, lrs), DecoderSession(model).decode(lrs)) <= 1
        (statistics,) = client.get_inference_statistics(manifest.id).model_stats
        loaded = client.get_model_config(manifest.id).config
    sizes = Serving().batch_sizes  # the warm-up counts too
    assert statistics.inference_stats.success.count - sum(sizes) == 40
    assert statistics.execution_count - len(sizes) < 40
    written = text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())
    for field in ("input", "output", "max_batch_size", "parameters", "model_warmup"):
        assert getattr(loaded, field) == getattr(written, field)
    assert loaded.dynamic_batching.default_queue_policy == written.dynamic_batching.default_queue_policy


def test_a_control_has_its_default(tmp_path: Path) -> None:
    write_repository(tmp_path / "models", "steered", steered_decoder(), serving=Serving(device="cpu"))
    lrs = np.random.default_rng(1).integers(0, 200, (3, LR, LR, 3), dtype=np.uint8)
    with serving(tmp_path / "models") as client:
        assert levels(restored(client, "steered", lrs), DecoderSession(steered_decoder()).decode(lrs)) <= 1


def test_a_decoder_with_fused_ops(tmp_path: Path) -> None:
    try:
        find_library()
    except DeviceError as error:
        pytest.skip(str(error))
    model = export_compared(random_decoder("grain-smoke"), DecoderOptions(ops=Ops.fused), count=1).model
    mount = str(tmp_path / "models")
    write_repository(tmp_path / "models", "fused", model, serving=Serving(device="cpu", mount=mount))
    lrs = np.random.default_rng(2).integers(0, 256, (3, LR, LR, 3), dtype=np.uint8)
    with serving(tmp_path / "models") as client:
        assert levels(restored(client, "fused", lrs), DecoderSession(model).decode(lrs)) <= 1
