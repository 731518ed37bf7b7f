"""Compare the fused ops with ONNX's own: error against float64, time, and share of the measured copy rate.

    python benchmarks/speed/cuda_ops.py [--device cuda] [--side 1024] [--channels 32] [--batch 1] [--json]
    python benchmarks/speed/cuda_ops.py --read cuda_ops.npz ...  # without onnx: graphs written by pack.py

The default sizes are those of StyleGAN2's last layer. Rates count each input and each output once. The exit code is 1
if a result is wrong. Prints date, machine and commit with the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from measurement import circumstances, copy_rate, median_seconds

TOLERANCE = {"float32": 1e-5, "float16": 2e-3}  # of the largest value
TAIL = ("demodulation", "noise", "bias", "style")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
RUNS, PIECE = 20, 4  # timed runs; channels compared with float64


def write_models() -> dict[str, bytes]:
    """Graphs by ``op.kind.form``: a fused op (``fused``), or the same computation in ONNX's ops (``plain``)."""
    from onnx import TensorProto, helper

    from server_decoder.cuda_ops.library import DOMAIN

    def model(kind: str, nodes: list[object], inputs: dict[str, list[object]], wide: set[str]) -> bytes:
        number = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[kind]
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT if name in wide else number, shape)
                  for name, shape in inputs.items()]
        graph = helper.make_graph(nodes, "op", values, [helper.make_tensor_value_info("y", number, [None] * 4)])
        proto = helper.make_model(graph, ir_version=8, opset_imports=[
            helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)])
        return bytes(proto.SerializeToString())

    def fused(op: str, inputs: list[str], **attributes: object) -> list[object]:
        return [helper.make_node(op, inputs, ["y"], domain=DOMAIN, **attributes)]

    def chain(*steps: tuple[str, list[str]]) -> list[object]:
        """A chain of nodes: the first input of each is the result of the previous one."""
        names = ["x", *(f"v{index}" for index in range(len(steps) - 1)), "y"]
        return [helper.make_node(op, [names[index], *others], [names[index + 1]],
                                 **({"alpha": 0.2} if op == "LeakyRelu" else {}))
                for index, (op, others) in enumerate(steps)]

    shapes = {"x": ["B", "C", "H", "W"], "demodulation": ["B", "C"], "noise": [1, 1, "h", "w"], "bias": ["C"],
              "style": ["B", "C"]}
    spread = {**shapes, "demodulation": ["B", "C", 1, 1], "bias": ["C", 1, 1], "style": ["B", "C", 1, 1]}
    tail = [("Mul", ["demodulation"]), ("Add", ["noise"]), ("Add", ["bias"]), ("LeakyRelu", []), ("Mul", ["style"])]
    factors = {"demodulation", "bias", "style"}
    models = {}
    for kind in TOLERANCE:
        models[f"DemodBiasAct.{kind}.fused"] = model(
            kind, fused("DemodBiasAct", ["x", *TAIL]), shapes, factors)
        models[f"DemodBiasAct.{kind}.plain"] = model(kind, chain(*tail), spread, set())
        models[f"FilteredBiasAct.{kind}.fused"] = model(
            kind, fused("FilteredBiasAct", ["x", *TAIL], pad=[1, 1, 1, 1], filter_gain=4.0), shapes, factors)
        models[f"UpFirDn2d.{kind}.fused"] = model(
            kind, fused("UpFirDn2d", ["x"], pad=[1, 1, 1, 1], filter_gain=4.0), {"x": shapes["x"]}, set())
        models[f"InverseHaar.{kind}.fused"] = model(
            kind, fused("InverseHaar", ["x", "style"], scale=0.5), {key: shapes[key] for key in ("x", "style")},
            factors)
    return models


def feeds(op: str, kind: str, form: str, batch: int, channels: int, side: int) -> dict[str, np.ndarray]:
    """Fresh random inputs; the op's result is about ``[batch, channels, side, side]``."""
    random = np.random.default_rng()

    def draw(*shape: int, wide: bool = False) -> np.ndarray:
        return random.standard_normal(shape, np.float32).astype(np.float32 if wide else kind)

    def pictures(*shape: int) -> np.ndarray:  # shifted copies: drawing a gigabyte of random numbers is slow
        one = draw(*shape)
        return np.stack([np.roll(one, index, axis=2) for index in range(batch)])

    if op == "InverseHaar":
        return {"x": pictures(4 * channels, side // 2, side // 2), "style": draw(batch, 4 * channels, wide=True)}
    inner = side if op == "DemodBiasAct" else side + 1
    found = {"x": pictures(channels, inner, inner)}
    if op != "UpFirDn2d":
        ones, wide = ((1, 1), False) if form == "plain" else ((), True)
        found |= {"demodulation": draw(batch, channels, *ones, wide=wide), "noise": draw(1, 1, side, side),
                  "bias": draw(channels, *ones, wide=wide), "style": draw(batch, channels, *ones, wide=wide)}
    return found


def largest_error(op: str, inputs: dict[str, np.ndarray], result: np.ndarray) -> float:
    """Largest error in some channels of the last picture, relative to the largest value."""
    from server_decoder.cuda_ops import reference

    channels = result.shape[1]
    some = np.linspace(0, channels - 1, min(PIECE, channels)).astype(int)
    if op == "InverseHaar":
        bands = (some + channels * np.arange(4)[:, None]).ravel()
        expected = reference.inverse_haar(inputs["x"][-1:, bands], inputs["style"][-1:, bands], scale=0.5)
    else:
        x = inputs["x"][-1:, some]
        tail = [inputs["demodulation"][-1:, some], inputs["noise"], inputs["bias"][some],
                inputs["style"][-1:, some]] if op != "UpFirDn2d" else []
        if op == "DemodBiasAct":
            expected = reference.demod_bias_act(x, *tail)[1]
        elif op == "FilteredBiasAct":
            expected = reference.filtered_bias_act(x, *tail, pad=(1, 1, 1, 1), filter_gain=4)[1]
        else:
            expected = reference.upfirdn2d(x, pad=(1, 1, 1, 1), filter_gain=4)
    return float(np.abs(result[-1:, some] - expected).max() / np.abs(expected).max())


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=PROVIDERS, default="cpu")
    parser.add_argument("--side", type=int, default=1024, help="of the result (default 1024)")
    parser.add_argument("--channels", type=int, default=32, help="of the result (default 32)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="on the CPU; 0 for all cores")
    parser.add_argument("--read", type=Path, help="file to read the graphs from")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
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
    report: dict[str, object] = {
        **circumstances(options.device, options.threads),
        "shape": [options.batch, options.channels, options.side, options.side], "copy_gb_per_s": round(rate / 1e9, 1)}
    print(", ".join(f"{name} {value}" for name, value in report.items()))
    failed, rows = False, []
    for name, model in models.items():
        op, kind, form = name.split(".")
        inputs = feeds(op, kind, form, options.batch, options.channels, options.side)
        seconds, result = measure(model, options.device, inputs, options.threads)
        moved = result.nbytes + sum(array.nbytes for array in inputs.values())
        row = {"op": op, "type": kind, "form": form, "ms": round(seconds * 1e3, 3),
               "of_copy_rate": round(moved / seconds / rate, 3)}
        if form == "fused":
            row["error"] = float(f"{largest_error(op, inputs, result):.1e}")
            row["right"] = row["error"] <= TOLERANCE[kind]
            failed |= not row["right"]
        rows.append(row)
        print(f"{op:16} {kind} {form:6} {row['ms']:10.3f} ms  {row['of_copy_rate']:6.1%} of the copy rate"
              + (f"  error {row['error']:.1e} {'' if row['right'] else 'WRONG'}" if form == "fused" else ""))
    if options.json:
        print(json.dumps({**report, "ops": rows}))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
