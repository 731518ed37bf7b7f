"""Measure the ops of generators: error against float64, time, and share of the measured copy rate.

    python benchmarks/speed/cuda_ops.py [--device cuda] [--side 1024] [--channels 32] [--batch 1] [--json]
    python benchmarks/speed/cuda_ops.py --read cuda_ops.npz ...  # without onnx: graphs written by pack.py

The default sizes are those of StyleGAN2's last layer. Rates count each input and each output once. The exit code is 1
if a result is wrong. Prints date, machine and commit with the figures.
"""

import json
import sys
from pathlib import Path

import numpy as np
from measurement import ROOT, circumstances, copy_rate, median_seconds, option_parser, show

sys.path.append(str(ROOT))  # for the tests' definition of the ops

TOLERANCE = {"float32": 1e-5, "float16": 2e-3}  # of the largest value
TAIL = ("demodulation", "noise", "bias", "style")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
RUNS, PIECE = 20, 4  # timed runs; channels compared with float64


def write_models() -> dict[str, bytes]:
    """Graphs of one node by ``op.kind``."""
    from onnx import TensorProto, helper

    from server_decoder.cuda_ops.library import DOMAIN

    vectors = {"demodulation": ["B", "C"], "bias": ["C"], "style": ["B", "C"]}
    shapes = {"x": ["B", "H", "W", "C"], "noise": [1, "h", "w", 1], **vectors}
    ops = {
        "FilteredBiasAct": (["x", *TAIL], {"pad": [1, 1, 1, 1], "filter_gain": 4.0}),
        "UpFirDn2d": (["x"], {"up": 2, "pad": [2, 1, 2, 1], "filter_gain": 4.0}),
        "InverseHaar": (["x", "style"], {"scale": 0.5}),
    }
    models = {}
    for op, (names, attributes) in ops.items():
        for kind in ("float32",) if op == "UpFirDn2d" else TOLERANCE:
            number = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[kind]
            types = {name: number if name in ("x", "noise") else TensorProto.FLOAT for name in names}
            inputs = [helper.make_tensor_value_info(name, types[name], shapes[name]) for name in names]
            node = helper.make_node(op, names, ["y"], domain=DOMAIN, channels_last=1, **attributes)
            graph = helper.make_graph([node], "op", inputs, [helper.make_tensor_value_info("y", number, [None] * 4)])
            opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
            model = helper.make_model(graph, ir_version=8, opset_imports=opsets)
            models[f"{op}.{kind}"] = bytes(model.SerializeToString())
    return models


def feeds(op: str, kind: str, batch: int, channels: int, side: int) -> dict[str, np.ndarray]:
    """Fresh random inputs; the op's result is ``[batch, side, side, channels]``, of ``UpFirDn2d`` a picture."""
    random = np.random.default_rng()

    def draw(*shape: int, kind: str = "float32") -> np.ndarray:
        return random.standard_normal(shape, np.float32).astype(kind)

    def pictures(side: int, channels: int) -> np.ndarray:  # shifted copies: drawing a gigabyte of numbers is slow
        one = draw(side, side, channels, kind=kind)
        return np.stack([np.roll(one, index, axis=1) for index in range(batch)])

    if op == "InverseHaar":
        return {"x": pictures(side // 2, 4 * channels), "style": draw(batch, 4 * channels)}
    if op == "UpFirDn2d":
        return {"x": pictures(side // 2, 3)}
    vectors = {"demodulation": draw(batch, channels), "bias": draw(channels), "style": draw(batch, channels)}
    return {"x": pictures(side + 1, channels), "noise": draw(1, side, side, 1, kind=kind), **vectors}


def largest_error(op: str, inputs: dict[str, np.ndarray], result: np.ndarray) -> float:
    """Largest error in some channels of the last picture, relative to the largest value."""
    from tests import fused_ops as reference

    channels, x, style = result.shape[3], inputs["x"][-1:], inputs.get("style")
    some = np.linspace(0, channels - 1, min(PIECE, channels)).astype(int)
    if op == "InverseHaar":
        bands = (some + channels * np.arange(4)[:, None]).ravel()
        expected = reference.inverse_haar(x[..., bands], style[-1:, bands], scale=0.5)
    elif op == "UpFirDn2d":
        expected = reference.upfirdn2d(x[..., some], pad=(2, 1, 2, 1), filter_gain=4)
    else:
        tail = inputs["demodulation"][-1:, some], inputs["noise"], inputs["bias"][some], style[-1:, some]
        expected = reference.filtered_bias_act(x[..., some], *tail, pad=(1, 1, 1, 1), filter_gain=4)
    return float(np.abs(result[-1:, ..., some] - expected).max() / np.abs(expected).max())


def measure(model: bytes, device: str, inputs: dict[str, np.ndarray], threads: int) -> tuple[float, np.ndarray]:
    """Median seconds of a run with tensors on the device, and the result."""
    import onnxruntime

    from server_decoder.cuda_ops.library import register_library

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    register_library(options, device)
    session = onnxruntime.InferenceSession(model, options, providers=[PROVIDERS[device]])
    if session.get_providers()[0] != PROVIDERS[device]:
        raise SystemExit(f"{PROVIDERS[device]} did not start")
    binding = session.io_binding()
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0) for name, array in inputs.items()}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_output("y", device, 0)

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return median_seconds(run, 0, least=RUNS, warm_ups=3), binding.get_outputs()[0].numpy()


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = option_parser(__doc__)
    parser.add_argument("--device", choices=PROVIDERS, default="cpu")
    parser.add_argument("--side", type=int, default=1024, help="of the result (default 1024)")
    parser.add_argument("--channels", type=int, default=32, help="of the result (default 32)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="on the CPU; 0 for all cores")
    parser.add_argument("--read", type=Path, help="file to read the graphs from")
    options = parser.parse_args()
    if options.device == "cuda":
        import onnxruntime
        import torch  # noqa: F401  (loads the CUDA libraries)

        onnxruntime.preload_dlls()
    if options.read:
        with np.load(options.read) as file:
            models = {name: file[name].tobytes() for name in file.files}
    else:
        models = write_models()

    rate = copy_rate(options.device, options.threads)
    shape = [options.batch, options.side, options.side, options.channels]
    facts = circumstances(options.device, options.threads)
    report: dict[str, object] = {**facts, "shape": shape, "copy_gb_per_s": round(rate / 1e9, 1)}
    show(report, ", ")
    rows = []
    for name, model in models.items():
        op, kind = name.split(".")
        inputs = feeds(op, kind, options.batch, options.channels, options.side)
        seconds, result = measure(model, options.device, inputs, options.threads)
        moved = result.nbytes + sum(array.nbytes for array in inputs.values())
        error = float(f"{largest_error(op, inputs, result):.1e}")
        row = {"op": op, "type": kind, "ms": round(seconds * 1e3, 3), "of_copy_rate": round(moved / seconds / rate, 3)}
        rows.append({**row, "error": error, "right": error <= TOLERANCE[kind]})
        show(rows[-1])
    if options.json:
        print(json.dumps({**report, "ops": rows}))
    return int(not all(row["right"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
