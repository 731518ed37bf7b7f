"""Compare the exact encoder with the paper's: time and peak memory on LiteRT with XNNPACK and on ONNX Runtime.

    python benchmarks/speed/encoder.py --json               # at 1024 and 256
    python benchmarks/speed/encoder.py --sizes 256,512,1024

The paper's encoder ("official") is its RRDB network with random weights, exported by the same code. At 256 the exact
encoder is the default bundle's, at other sizes the default architecture for 16 x 16 with random weights; times do not
depend on weights. Every measurement runs in its own process; both encoders get the same picture, uint8 in, uint8 out.

Ratios are the time of the official encoder over that of the exact one, both with all threads.
"""

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measurement
import numpy as np
from measurement import in_own_process, rounded, show

LR = 16
RUNTIMES = {"xnnpack": "encoder.tflite", "onnx": "encoder.onnx"}


def prepare(size: int, folder: Path) -> dict[str, Any]:
    """Write both encoders for pictures of ``size`` x ``size``; returns their names and operations."""
    import torch

    from codec_contract.bundle.find import find_bundle
    from codec_contract.bundle.manifest import load_manifest
    from edge_encoder import integer_network as integer
    from edge_encoder.twin import EncoderTwin, encoder_config, lower
    from edgegrain.papers.grain.rrdb_encoder import FloatEncoderConfig, RRDBEncoder, rrdb_graph
    from export.encoder import export_encoder
    from export.encoder.graph import exact_graph

    manifest = load_manifest(find_bundle())
    if manifest.hr == size and manifest.lr == LR:
        network = integer.load_integer_network(manifest.open_file("encoder.safetensors"))
    else:
        torch.manual_seed(0)
        network = lower(EncoderTwin(encoder_config(size, LR)))
    official = rrdb_graph(RRDBEncoder(FloatEncoderConfig(scale=(size // LR).bit_length() - 1)), size)
    export_encoder(network, folder / "exact", ("tflite", "onnx"))
    export_encoder(official, folder / "official", ("tflite", "onnx"))
    return {
        "exact": {"name": network.architecture, "gmac": round(exact_graph(network).flops() / 2e9, 3)},
        "official": {"name": official.name, "gmac": round(official.flops() / 2e9, 3)},
    }


def measure(runtime: str, path: Path, size: int, threads: int, seconds: float) -> dict[str, Any]:
    """Time and peak memory of one encoder on one runtime, in this process."""
    picture = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    run = tflite_run(path, picture, threads) if runtime == "xnnpack" else onnx_run(path, picture, threads)
    run()
    return {"ms": 1e3 * measurement.median_seconds(run, seconds), "peak_mib": measurement.peak_mebibytes()}


def tflite_run(path: Path, picture: np.ndarray, threads: int) -> Callable[[], object]:
    """A run of LiteRT's interpreter, whose default delegate is XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]

    def run() -> object:
        interpreter.set_tensor(index, picture)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


def onnx_run(path: Path, picture: np.ndarray, threads: int) -> Callable[[], object]:
    """A run of ONNX Runtime, with the options of `edge_encoder.encoder_session.EncoderSession`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: picture})


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = measurement.measuring_parser(__doc__, seconds=8, limit=300)
    parser.add_argument("--sizes", default="256,1024", help="sides of the pictures [default: 256,1024]")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        runtime, path, *numbers = options.measure
        print(json.dumps(measure(runtime, Path(path), *map(int, numbers), options.seconds)))
        return 0
    with tempfile.TemporaryDirectory(prefix="edgegrain-encoder-") as folder:
        report = compare(options, Path(folder))
    measurement.save(report, options.out)
    if options.json:
        print(json.dumps(report))
    return int(any("error" in row for row in report["runs"]))


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure everything; returns the report."""
    facts = measurement.circumstances("cpu", options.threads)
    everything = facts["threads"]
    report: dict[str, Any] = {"benchmark": "encoder", **facts, "encoders": {}}
    show(report, ", ")
    rows: list[dict[str, Any]] = []
    for size in map(int, options.sizes.split(",")):
        report["encoders"][size] = prepare(size, folder / str(size))
        for runtime, threads, kind in itertools.product(RUNTIMES, sorted({1, everything}), ("official", "exact")):
            path = folder / str(size) / kind / RUNTIMES[runtime]
            arguments = ["--seconds", str(options.seconds), "--measure", runtime, str(path), str(size), str(threads)]
            row = rounded(in_own_process(__file__, arguments, options.limit))
            rows.append({"encoder": kind, "size": size, "runtime": runtime, "threads": threads, **row})
            show(rows[-1])
    measured = [row for row in rows if row["threads"] == everything and "ms" in row]
    times = {(row["runtime"], row["size"], row["encoder"]): row["ms"] for row in measured}
    ratios = {
        f"exact_vs_official_encoder_{runtime}_{size}": round(times[runtime, size, "official"] / ms, 1)
        for (runtime, size, kind), ms in times.items()
        if kind == "exact" and (runtime, size, "official") in times
    }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio}")
    return {**report, **ratios, "runs": rows}


if __name__ == "__main__":
    sys.exit(main())
