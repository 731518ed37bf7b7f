"""Compare the convolutions of com.edgegrain on the CPU with ONNX Runtime's own: time, and difference of the results.

    python benchmarks/speed/fused_conv.py [--threads 1] [--seconds 3] [--instructions avx512|avx2|baseline] [--json]

Both run in turn, and the best time of each counts. The exit code is 1 if a result is wrong. Prints date, machine and
commit with the figures.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
from machine import ROOT
from measurement import circumstances
from onnx import NodeProto, TensorProto, helper, numpy_helper

sys.path.insert(0, str(ROOT))

from server_decoder.cuda_ops import library

TOLERANCE = 1e-5  # of the largest value
GROWTH, CONVOLUTIONS = 32, 5  # of a dense block


@dataclass(frozen=True)
class Case:
    """A convolution with bias and leaky ReLU; with ``block``, a dense block."""

    channels: int
    filters: int
    side: int
    kernel: int = 3
    depthwise: bool = False
    block: bool = False

    @property
    def name(self) -> str:
        if self.block:
            return f"dense block of {self.channels}, growth {GROWTH}, at {self.side}x{self.side}"
        kind = "depthwise " if self.depthwise else ""
        return f"{kind}{self.kernel}x{self.kernel}, {self.channels} to {self.filters}, at {self.side}x{self.side}"


CASES = (Case(64, 64, 128), Case(32, 32, 256), Case(160, 160, 16), Case(160, 160, 16, block=True), Case(72, 72, 64),
         Case(64, 64, 128, kernel=1), Case(128, 256, 64, kernel=1), Case(32, 3, 256),
         Case(256, 256, 64, depthwise=True))


def graph(nodes: list[NodeProto], constants: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> bytes:
    """A model from ``x`` to ``y``."""
    made = helper.make_graph(
        nodes, "convolution", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(library.DOMAIN, 1)]
    return bytes(helper.make_model(made, ir_version=8, opset_imports=opsets).SerializeToString())


def models(case: Case, random: np.random.Generator) -> tuple[bytes, bytes]:
    """The case in the fused op, channels-last, and in ONNX's own ops, channels-first."""
    pads, side = [case.kernel // 2] * 4, case.side
    if case.block:
        inner = [case.channels + GROWTH * k for k in range(CONVOLUTIONS)]
        sizes = [(GROWTH if k < CONVOLUTIONS - 1 else case.channels, seen) for k, seen in enumerate(inner)]
    else:
        sizes = [(case.filters, 1 if case.depthwise else case.channels)]
    weights = {f"w{k}": random.standard_normal((filters, channels, case.kernel, case.kernel), np.float32) /
               np.float32(case.kernel * channels**0.5) for k, (filters, channels) in enumerate(sizes)}
    biases = {f"b{k}": random.standard_normal(filters, np.float32) for k, (filters, _) in enumerate(sizes)}
    last = {name: weight.transpose(0, 2, 3, 1) for name, weight in weights.items()}
    fused = helper.make_node("DenseBlock", ["x", "", *weights, *biases], ["y"], domain=library.DOMAIN) if case.block \
        else helper.make_node("FusedConv", ["x", "w0", "", "", "b0"], ["y"], domain=library.DOMAIN, pads=pads,
                              slope=0.2, depthwise=int(case.depthwise))
    nodes = []
    for k in range(len(sizes)):
        source = "x"
        if k:
            source = f"x{k}"
            nodes.append(helper.make_node("Concat", ["x", *(f"f{i}" for i in range(k))], [source], axis=1))
        nodes.append(helper.make_node("Conv", [source, f"w{k}", f"b{k}"], [f"v{k}"], pads=pads,
                                      group=case.channels if case.depthwise else 1))
        if not case.block or k < len(sizes) - 1:
            nodes.append(helper.make_node("LeakyRelu", [f"v{k}"], [f"f{k}" if case.block else "y"], alpha=0.2))
    constants = {**weights, **biases}
    if case.block:
        constants["scale"] = np.float32(0.2)
        nodes += [helper.make_node("Mul", [f"v{len(sizes) - 1}", "scale"], ["scaled"]),
                  helper.make_node("Add", ["x", "scaled"], ["y"])]
    return (graph([fused], {**last, **biases}, (1, side, side, case.channels)),
            graph(nodes, constants, (1, case.channels, side, side)))


def measure(case: Case, threads: int, seconds: float) -> dict[str, float | str]:
    """Milliseconds of both, their ratio, and the largest difference relative to the largest value."""
    random = np.random.default_rng()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    library.register_library(options)
    x = random.standard_normal((1, case.side, case.side, case.channels), np.float32)
    inputs = (x, np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    sessions = [onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
                for model in models(case, random)]
    found, wanted = (session.run(None, {"x": given})[0] for session, given in zip(sessions, inputs, strict=True))
    best = [np.inf, np.inf]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for index, (session, given) in enumerate(zip(sessions, inputs, strict=True)):
            start = time.perf_counter()
            session.run(None, {"x": given})
            best[index] = min(best[index], time.perf_counter() - start)
    error = np.abs(found.transpose(0, 3, 1, 2) - wanted).max() / np.abs(wanted).max()
    return {"case": case.name, "fused_ms": 1000 * best[0], "onnxruntime_ms": 1000 * best[1],
            "ratio": best[1] / best[0], "difference": float(error)}


def main() -> int:
    """Run all cases; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3, help="of a case")
    parser.add_argument("--instructions", choices=("avx512", "avx2", "baseline"), help="default: the best ones")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.instructions:
        use = ctypes.CDLL(str(library.find_library())).edgegrain_use_instruction_set
        if not use(arguments.instructions.encode()):
            parser.error(f"this CPU has no {arguments.instructions}")
    facts = circumstances("cpu", arguments.threads)
    rows = [measure(case, arguments.threads, arguments.seconds) for case in CASES]
    if arguments.json:
        print(json.dumps({**facts, "rows": rows}, indent=1))
    else:
        print(facts)
        for row in rows:
            print(f"{row['case']:45} fused {row['fused_ms']:8.3f} ms   ONNX Runtime {row['onnxruntime_ms']:8.3f} ms   "
                  f"ratio {row['ratio']:.2f}   difference {row['difference']:.1e}")
    return int(any(row["difference"] > TOLERANCE for row in rows))


if __name__ == "__main__":
    sys.exit(main())
