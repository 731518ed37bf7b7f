"""Compare the decoder on ONNX Runtime with torch: time, peak memory, shares of the device's peak rates, slowest nodes.

    python benchmarks/speed/decoder.py --batches 1 --seconds 4            # the default bundle on the CPU
    python benchmarks/speed/decoder.py --bundle my-bundles/cats           # a bundle, or a folder of the zoo
    python benchmarks/speed/decoder.py --config grain-1024-lr16-paper     # random weights
    python benchmarks/speed/decoder.py --packed gpu_host_pack/NAME --device cuda

One run measures everything, each variant and batch size in its own process:

    torch-eager         the modules of server_decoder, float32
    torch-eager-half    in float16
    torch-half          in float16, channels-last
    torch-compile       torch.compile of them; float32 on the CPU, float16 on CUDA
    ort-plain           ONNX Runtime, ONNX's own ops
    ort-fused, -half    on CUDA: ONNX Runtime with the fused ops, channels-last, from levels to levels
    session             from uint8 LR to uint8 picture (`DecoderSession`): the plain graph in float32; on CUDA the fused
                        one in float16, if the library has CUDA kernels
    session-int8        the same with a bundle's form in int8, on a CPU that has dot products of bytes

A variant that cannot be measured (torch.compile without a compiler, too little memory or time) is reported with the
reason, and the others continue. The file of ``--out`` is written after every measurement, so an interrupted run keeps
its results.

Ratios are of batch 1, above 1 if ONNX Runtime is faster, and of equal precision except half_vs_float32. Shares relate
the operations of the plain modules to the rate of torch's largest matrix products, and the bytes that the nodes of
ort-plain read and write to the rate of a copy; both rates are of as many threads as the runs have.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pack
from measurement import (
    PORTRAIT,
    circumstances,
    copy_rate,
    in_own_process,
    largest_shares,
    matmul_rate,
    median_seconds,
    node_events,
    peak_mebibytes,
    rounded,
    save,
)

TORCH = ("torch-eager", "torch-eager-half", "torch-half", "torch-compile")
SESSIONS = ("session", "session-int8")
FORMS = {"ort-plain": "plain.float32", "ort-fused": "fused.float32", "ort-fused-half": "fused.float16"}
VARIANTS = {
    "cpu": ("torch-eager", "ort-plain", "session", "session-int8", "torch-compile", "torch-half"),
    "cuda": (
        "torch-eager-half",
        "ort-fused-half",
        "torch-eager",
        "ort-plain",
        "ort-fused",
        "torch-half",
        "session",
        "torch-compile",
    ),
}
"""Variants, the most important first: time may run out."""
PRECISIONS = ("half_vs_float32", "int8_vs_float32")
"""The ratios of two precisions."""
RATIOS = {
    "ort_vs_torch_eager": ("torch-eager", "ort-plain"),
    "ort_fused_vs_torch_eager": ("torch-eager", "ort-fused"),
    "ort_vs_torch_compile": ("torch-compile", "ort-plain"),
    "fused_vs_plain": ("ort-plain", "ort-fused"),
    "half_ort_vs_torch_eager": ("torch-eager-half", "ort-fused-half"),
    "half_ort_vs_torch_channels_last": ("torch-half", "ort-fused-half"),
    "half_ort_vs_torch_compile": ("torch-compile", "ort-fused-half"),
    PRECISIONS[0]: ("ort-fused", "ort-fused-half"),
    PRECISIONS[1]: ("session", "session-int8"),
}
"""Name -> slower and faster variant, at batch 1. Other ratios than `PRECISIONS` are left out if the precisions differ:
that of torch-compile depends on the device."""
SLOWEST = 8
SLOW = 5.0
"""Seconds of a first run above which fewer runs are made. The second run still warms up: with ONNX Runtime it took
twice the time of later ones (15.5 s, then 7.7 s at 1024 x 1024), presumably because memory is planned in the first."""
LATE = "not started, out of time"
LRS, BUNDLE = "lrs.npy", "bundle"


def measured(variant: str, batch: int, folder: Path, device: str, threads: int, seconds: float) -> dict[str, Any]:
    """The result of `measure`, or of `profiled_nodes` for ``nodes``; after a failure the entry ``error``."""
    try:
        if variant == "nodes":
            return profiled_nodes(folder, threads)
        return measure(variant, batch, folder, device, threads, seconds)
    except Exception as error:  # errors of torch, its compiler and ONNX Runtime have no common class
        lines = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {lines[0].strip()}"[:300] if lines else type(error).__name__}


def measure(variant: str, batch: int, folder: Path, device: str, threads: int, seconds: float) -> dict[str, Any]:
    """Time and peak memory of one variant, in this process; the picture of a batch of one is saved in the folder."""
    used = device_memory(device)
    if variant in TORCH:
        run = torch_run(variant, batch, folder, device, threads)
    elif variant in SESSIONS:
        run = session_run(variant, batch, folder, device, threads)
    else:
        run = ort_run(variant, batch, folder, device, threads)
    start = time.perf_counter()
    pictures = run()
    first = time.perf_counter() - start
    if batch == 1 and variant not in SESSIONS:
        np.save(folder / f"{variant}.npy", to_numpy(pictures))
    few = {"least": 2, "warm_ups": 1} if first > SLOW else {}
    result = {"ms": 1e3 * median_seconds(run, seconds, **few), "first_ms": 1e3 * first}
    memory = device_memory(device) - used if device == "cuda" else peak_mebibytes()
    return {**result, "peak_mib": memory}


def lr_batch(folder: Path, batch: int) -> np.ndarray:
    """LRs, uint8 ``[batch, lr, lr, 3]``: of pictures if `prepare` wrote them, otherwise random and smooth."""
    if (folder / LRS).is_file():
        lrs: np.ndarray = np.load(folder / LRS)
        return lrs[np.arange(batch) % len(lrs)]
    lr = pack.read_table(folder)["lr"]
    coarse = np.random.default_rng(0).integers(0, 256, (batch, lr // 4, lr // 4, 3), np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def values(folder: Path, batch: int) -> np.ndarray:
    """The LRs as decoder input, float32 ``[batch, 3, lr, lr]`` in [-1, 1]."""
    return np.ascontiguousarray((lr_batch(folder, batch) / np.float32(127.5) - 1).transpose(0, 3, 1, 2))


def torch_run(variant: str, batch: int, folder: Path, device: str, threads: int) -> Callable[[], Any]:
    """A forward pass of torch's modules."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    dtype = torch.float16 if in_half(variant, device) else torch.float32
    decoder = pack.load(folder).to(device, dtype)
    x = torch.from_numpy(values(folder, batch)).to(device, dtype)
    if variant == "torch-half":
        decoder, x = decoder.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    forward = torch.compile(decoder) if variant == "torch-compile" else decoder

    def run() -> Any:
        with torch.inference_mode():
            result = forward(x)
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    return run


def in_half(variant: str, device: str) -> bool:
    """True if a variant computes in float16."""
    return "half" in variant or (variant in ("torch-compile", "session") and device == "cuda")


def ort_run(variant: str, batch: int, folder: Path, device: str, threads: int) -> Callable[[], Any]:
    """A run of ONNX Runtime with tensors on the device, replayed as a CUDA graph if there is one."""
    import onnxruntime

    from server_decoder.decoder_session import DecoderSession

    path = folder / f"{FORMS[variant]}.onnx"
    session = DecoderSession(path, device, threads or None)
    x = lr_batch(folder, batch) if session.quantizes else values(folder, batch)
    inner = session._session  # keeps the tensors on the device, which DecoderSession does not offer
    if device == "cpu":
        return lambda: inner.run(None, {"lr": x})[0]
    size = pack.read_table(folder)["hr"]
    shape = (batch, size, size, 3) if session.quantizes else (batch, 3, size, size)
    output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, x.dtype, "cuda", 0)
    binding = inner.io_binding()
    source = onnxruntime.OrtValue.ortvalue_from_numpy(x, "cuda", 0)
    binding.bind_ortvalue_input("lr", source)
    binding.bind_ortvalue_output("hr", output)
    options = onnxruntime.RunOptions()
    if session.graphs:
        options.add_run_config_entry("gpu_graph_id", "1")

    def run() -> Any:
        inner.run_with_iobinding(binding, options)
        binding.synchronize_outputs()
        return output

    return run


def session_run(variant: str, batch: int, folder: Path, device: str, threads: int) -> Callable[[], Any]:
    """A run of `DecoderSession`, as in the service."""
    from server_decoder.decoder_session import DecoderSession

    lr = lr_batch(folder, batch)
    if variant == "session-int8":
        from codec_contract.bundle.manifest import load_manifest
        from sdk.open_bundle import OpenBundle

        bundle = OpenBundle(load_manifest(folder / BUNDLE), threads=threads or None, form="int8")
        return lambda: bundle.decode(lr)
    runnable = runnable_forms(pack.read_table(folder), device)
    form = "fused.float16" if device == "cuda" and "fused.float16" in runnable else "plain.float32"
    session = DecoderSession(folder / f"{form}.onnx", device, threads or None)
    session.warm_up(batch)
    return lambda: session.decode(lr)


def to_numpy(pictures: Any) -> np.ndarray:
    """The output of a variant as values, float32 ``[batch, 3, H, W]``."""
    from codec_contract.pixels import network_input

    if not isinstance(pictures, np.ndarray):
        pictures = pictures.float().cpu().numpy() if hasattr(pictures, "float") else pictures.numpy()
    if pictures.dtype == np.uint8:
        pictures = network_input(pictures)
    return np.asarray(pictures, np.float32)


def device_memory(device: str) -> float:
    """MiB in use on the GPU, by all processes."""
    if device == "cpu":
        return 0.0
    import torch

    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


def profiled_nodes(folder: Path, threads: int, runs: int = 3) -> dict[str, Any]:
    """Shares of time by kind of node and by node, from ONNX Runtime's profiler."""
    nodes = node_events(folder / "plain.float32.onnx", values(folder, 1), threads, 1 + runs)
    kinds: dict[str, float] = defaultdict(float)
    names: dict[str, float] = defaultdict(float)
    moved = 0
    for event in nodes[len(nodes) // (1 + runs) :]:  # leaves out the first run
        details = event["args"]
        kinds[details["op_name"]] += event["dur"]
        names[f"{details['op_name']} {event['name'].removesuffix('_kernel_time')}"] += event["dur"]
        moved += sum(int(details.get(key, 0)) for key in ("activation_size", "parameter_size", "output_size"))
    return {"moved_bytes": moved / runs, "kinds": largest_shares(kinds), "nodes": largest_shares(names, SLOWEST)}


def prepare(options: argparse.Namespace, folder: Path) -> None:
    """Write a filled pack of the decoder to measure; for a bundle, with LRs of its encoder."""
    if options.packed:
        pack.copy_filled(options.packed, folder)
        return
    # A pack needs neither onnx nor Pillow.
    from codec_contract.bundle.manifest import INT8_FORM, decoder_forms
    from codec_contract.fit import fit_picture
    from edge_encoder.preprocessing import load_picture
    from export.decoder.export import find_decoder, random_decoder
    from server_decoder.providers import can_run_int8

    source = random_decoder(options.config) if options.config else find_decoder(options.bundle, options.prior)
    forms = pack.FORMS if options.device == "cuda" else pack.FORMS[:1]
    pack.write(folder, source.name, source.decoder, source.network.lr, forms, weights=True)
    if not options.config:
        picture = fit_picture(load_picture(PORTRAIT), source.network.hr)
        np.save(folder / LRS, source.encode(np.stack([picture, picture[:, ::-1]])))
        if source.manifest is not None and INT8_FORM in decoder_forms(source.manifest) and can_run_int8():
            (folder / BUNDLE).symlink_to(source.manifest.folder.resolve())


def runnable_forms(table: dict[str, Any], device: str) -> list[str]:
    """The forms of a pack that run on the device; those with fused ops need a library with kernels for it."""
    from codec_contract.errors import DeviceError
    from server_decoder.cuda_ops.library import find_library, has_cuda_kernels

    try:
        library = find_library()
        fused = device == "cpu" or has_cuda_kernels(library)
    except DeviceError:
        fused = False
    return [form for form in table["forms"] if fused or not form.startswith("fused")]


def chosen_variants(options: argparse.Namespace, folder: Path) -> list[str]:
    """The variants of this run that its forms, bundle and device permit."""
    table = pack.read_table(folder)
    names = options.variants.split(",") if options.variants else VARIANTS[options.device]
    runnable = runnable_forms(table, options.device)
    return [
        name
        for name in names
        if (name not in FORMS or FORMS[name] in runnable) and (name != "session-int8" or (folder / BUNDLE).is_dir())
    ]


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="faces", help="a bundle, or a folder of the zoo by name")
    parser.add_argument("--prior", default="mobile-stylegan-ffhq", help="the generator of a bundle from the zoo")
    parser.add_argument("--config", default="", help="instead of a bundle: a GRAIN configuration, random weights")
    parser.add_argument("--packed", type=Path, help="instead of both: a folder written by benchmarks/speed/pack.py")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batches", default="1,4,16", help="batch sizes [default: 1,4,16]")
    parser.add_argument("--variants", default="", help="variants, comma-separated")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for all cores")
    parser.add_argument("--seconds", type=float, default=10, help="seconds of each measurement")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a measurement is aborted")
    parser.add_argument("--budget", type=float, default=0, help="seconds after which none is started; 0 for no limit")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        variant, batch = options.measure.split(":")
        print(
            json.dumps(measured(variant, int(batch), options.packed, options.device, options.threads, options.seconds))
        )
        return 0
    with tempfile.TemporaryDirectory(prefix="edgegrain-decoder-") as folder:
        report = compare(options, Path(folder))
    if options.json:
        print(json.dumps(report))
    return int(any("error" in row and row["error"] != LATE and row["variant"] not in TORCH for row in report["runs"]))


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure everything; returns the report."""
    begin = time.monotonic()
    prepare(options, folder)
    table = pack.read_table(folder)
    kind = "float16" if options.device == "cuda" else "float32"
    report: dict[str, Any] = {
        "benchmark": "decoder",
        **circumstances(options.device, options.threads),
        "decoder": table["name"],
        "lr": table["lr"],
        "hr": table["hr"],
        "parameters": sum(int(np.prod(tensor["shape"])) for tensor in table["tensors"]),
        "gmac": round(table["flop"] / 2e9, 2),
        "copy_gb_per_s": round(copy_rate(options.device, options.threads) / 1e9, 1),
        "matmul_tflops": round(matmul_rate(options.device, options.threads, kind) / 1e12, 4),
        "matmul_type": kind,
    }
    print(", ".join(f"{key} {value}" for key, value in report.items()), flush=True)
    common = [
        "--packed",
        str(folder),
        "--device",
        options.device,
        "--threads",
        str(options.threads),
        "--seconds",
        str(options.seconds),
    ]
    nodes = {}
    if options.device == "cpu":
        nodes = in_own_process(__file__, [*common, "--measure", "nodes:1"], options.limit)
    batches = [int(batch) for batch in options.batches.split(",")]
    wanted = [(batch, variant) for batch in batches for variant in chosen_variants(options, folder)]
    rows: list[dict[str, Any]] = []
    whole = report
    for index, (batch, variant) in enumerate(wanted):
        if options.budget and time.monotonic() - begin > options.budget:
            row = {"error": LATE}
        else:
            row = in_own_process(__file__, [*common, "--measure", f"{variant}:{batch}"], options.limit)
        if "ms" in row:
            row["of_matmul"] = table["flop"] * batch / row["ms"] * 1e3 / (report["matmul_tflops"] * 1e12)
            if variant == "ort-plain" and nodes.get("moved_bytes") and batch == 1:
                row["of_copy"] = nodes["moved_bytes"] / row["ms"] * 1e3 / (report["copy_gb_per_s"] * 1e9)
        rows.append({"variant": variant, "batch": batch, **rounded(row)})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        left = [f"{variant} in batches of {batch}" for batch, variant in wanted[index + 1 :]]
        whole = {
            **report,
            **side_by_side(rows, batches[0], folder, table, options.device),
            "runs": rows,
            "slowest": nodes,
            **({"left": left} if left else {}),
        }
        save(whole, options.out)
    for name in (*RATIOS, "largest_differences"):
        if name in whole:
            print(f"{name}: {whole[name]}")
    for kind_name, share in nodes.get("kinds", [])[:SLOWEST]:
        print(f"{share:6.1%}  {kind_name}")
    return whole


def side_by_side(
    rows: list[dict[str, Any]], batch: int, folder: Path, table: dict[str, Any], device: str
) -> dict[str, Any]:
    """The ratios of the times at a batch size, and the largest differences between the pictures in ``folder``,
    clipped to [-1, 1], of forms with the same weights."""
    times = {row["variant"]: row["ms"] for row in rows if row["batch"] == batch and "ms" in row}
    found: dict[str, Any] = {
        name: round(times[slow] / times[fast], 2)
        for name, (slow, fast) in RATIOS.items()
        if slow in times and fast in times and (name in PRECISIONS or in_half(slow, device) == in_half(fast, device))
    }
    reference = folder / "torch-eager.npy"
    if reference.is_file():

        def clipped(path: Path) -> np.ndarray:
            return np.load(path).astype(np.float64).clip(-1, 1)  # as levels are

        expected = clipped(reference)
        found["largest_differences"] = {
            variant: float(f"{np.abs(clipped(path) - expected).max():.1e}")
            for variant in sorted(times)
            if (path := folder / f"{variant}.npy").is_file()
            and variant != "torch-eager"
            and (variant not in FORMS or pack.reference_form(table, FORMS[variant]) == pack.FORMS[0])
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
