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
    session-int8        the same with a bundle's form in int8

A variant that cannot be measured (torch.compile without a compiler, too little memory or time) is reported with the
reason, and the others continue. The file of ``--out`` is written after every measurement, so an interrupted run keeps
its results.

Ratios are of batch 1, above 1 if ONNX Runtime is faster, and of equal precision except half_vs_float32. Shares relate
the operations of the plain modules to the rate of torch's largest matrix products, and the bytes that the nodes of
ort-plain read and write to the rate of a copy; both rates are of as many threads as the runs have.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measurement
import numpy as np
import pack
from measurement import in_own_process, largest_shares, show

TORCH = ("torch-eager", "torch-eager-half", "torch-half", "torch-compile")
SESSIONS = ("session", "session-int8")
FORMS = {"ort-plain": "plain.float32", "ort-fused": "fused.float32", "ort-fused-half": "fused.float16"}
VARIANTS = {
    "cpu": "torch-eager,ort-plain,session,session-int8,torch-compile,torch-half",
    "cuda": "torch-eager-half,ort-fused-half,torch-eager,ort-plain,ort-fused,torch-half,session,torch-compile",
}
"""Variants, the most important first: time may run out."""
RATIOS = {
    "ort_vs_torch_eager": ("torch-eager", "ort-plain", "ONNX Runtime is {} times as fast as torch"),
    "ort_fused_vs_torch_eager": ("torch-eager", "ort-fused", "with the fused ops {} times"),
    "ort_vs_torch_compile": ("torch-compile", "ort-plain", "{} times as fast as torch.compile"),
    "fused_vs_plain": ("ort-plain", "ort-fused", "the fused ops make it {} times as fast"),
    "half_ort_vs_torch_eager": ("torch-eager-half", "ort-fused-half", "in float16 it is {} times as fast as torch"),
    "half_ort_vs_torch_channels_last": (
        "torch-half",
        "ort-fused-half",
        "{} times as fast as those in channels-last form",
    ),
    "half_ort_vs_torch_compile": ("torch-compile", "ort-fused-half", "{} times as fast as torch.compile in float16"),
    "half_vs_float32": ("ort-fused", "ort-fused-half", "float16 is {} times as fast as float32"),
    "int8_vs_float32": ("session", "session-int8", "int8 is {} times as fast as float32"),
}
"""Name -> slower and faster variant, at batch 1, and the text of the page. Ratios of two precisions are left out but
``..._vs_float32``: that of torch-compile depends on the device."""
SLOWEST = 8  # nodes and kinds that are named
# Seconds of a first run above which fewer runs are made. The second still warms up: with ONNX Runtime it took twice the
# time of later ones (15.5 s, then 7.7 s at 1024 x 1024), presumably because memory is planned in the first.
SLOW = 5.0
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
    prepare_run = torch_run if variant in TORCH else session_run if variant in SESSIONS else ort_run
    run = prepare_run(variant, batch, folder, device, threads)
    start = time.perf_counter()
    pictures = run()
    first = time.perf_counter() - start
    if batch == 1 and variant not in SESSIONS:
        np.save(folder / f"{variant}.npy", to_numpy(pictures))
    few = {"least": 2, "warm_ups": 1} if first > SLOW else {}
    result = {"ms": 1e3 * measurement.median_seconds(run, seconds, **few), "first_ms": 1e3 * first}
    memory = device_memory(device) - used if device == "cuda" else measurement.peak_mebibytes()
    return {**result, "peak_mib": memory}


def lr_batch(folder: Path, batch: int) -> np.ndarray:
    """LRs, uint8 ``[batch, lr, lr, 3]``: of pictures if `prepare` wrote them, otherwise random and smooth."""
    if (folder / LRS).is_file():
        lrs = np.load(folder / LRS)
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
    binding.bind_ortvalue_input("lr", onnxruntime.OrtValue.ortvalue_from_numpy(x, "cuda", 0))
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
    """Shares of time by kind of node and by node on the CPU, from ONNX Runtime's profiler."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    model = folder / "plain.float32.onnx"
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    x = {session.get_inputs()[0].name: values(folder, 1)}
    for _ in range(1 + runs):
        session.run(None, x)
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    kinds, names, moved = defaultdict(float), defaultdict(float), 0
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
    from random_decoder import random_decoder

    from codec_contract.bundle.manifest import INT8_FORM, decoder_forms
    from codec_contract.fit import fit_picture
    from edge_encoder.preprocessing import load_picture
    from export.decoder.export import find_decoder
    from server_decoder.providers import can_run_int8

    source = random_decoder(options.config) if options.config else find_decoder(options.bundle, options.prior)
    forms = pack.FORMS if options.device == "cuda" else pack.FORMS[:1]
    pack.write(folder, source.name, source.decoder, forms, weights=True)
    if not options.config:
        picture = fit_picture(load_picture(measurement.PORTRAIT), source.network.hr)
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
    names = (options.variants or VARIANTS[options.device]).split(",")
    runnable = runnable_forms(table, options.device)
    absent = {name for name, form in FORMS.items() if form not in runnable}
    if not (folder / BUNDLE).is_dir():
        absent.add("session-int8")
    return [name for name in names if name not in absent]


def main() -> int:
    """Run the benchmark; returns the exit code."""
    parser = measurement.measuring_parser(__doc__, seconds=10, limit=600)
    parser.add_argument("--bundle", default="faces", help="a bundle, or a folder of the zoo by name")
    parser.add_argument("--prior", default="mobile-stylegan-ffhq", help="the generator of a bundle from the zoo")
    parser.add_argument("--config", default="", help="instead of a bundle: a GRAIN configuration, random weights")
    parser.add_argument("--packed", type=Path, help="instead of both: a folder written by benchmarks/speed/pack.py")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batches", default="1,4,16", help="batch sizes [default: 1,4,16]")
    parser.add_argument("--variants", default="", help="variants, comma-separated")
    parser.add_argument("--budget", type=float, default=0, help="seconds after which none is started; 0 for no limit")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        variant, batch = options.measure.split(":")
        how = options.packed, options.device, options.threads, options.seconds
        print(json.dumps(measured(variant, int(batch), *how)))
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
    table, device, threads = pack.read_table(folder), options.device, options.threads
    kind = "float16" if device == "cuda" else "float32"
    report: dict[str, Any] = {
        "benchmark": "decoder",
        **measurement.circumstances(device, threads),
        "decoder": table["name"],
        "lr": table["lr"],
        "hr": table["hr"],
        "parameters": sum(int(np.prod(tensor["shape"])) for tensor in table["tensors"]),
        "gmac": round(table["flop"] / 2e9, 2),
        "copy_gb_per_s": round(measurement.copy_rate(device, threads) / 1e9, 1),
        "matmul_tflops": round(measurement.matmul_rate(device, threads, kind) / 1e12, 4),
        "matmul_type": kind,
    }
    show(report, ", ")
    common = [f"--{name}={getattr(options, name)}" for name in ("device", "threads", "seconds")]
    common += [f"--packed={folder}", "--measure"]
    nodes = in_own_process(__file__, [*common, "nodes:1"], options.limit) if device == "cpu" else {}
    batches = [int(batch) for batch in options.batches.split(",")]
    wanted = [(batch, variant) for batch in batches for variant in chosen_variants(options, folder)]
    rows: list[dict[str, Any]] = []
    whole = report
    for index, (batch, variant) in enumerate(wanted):
        if options.budget and time.monotonic() - begin > options.budget:
            row = {"error": LATE}
        else:
            row = in_own_process(__file__, [*common, f"{variant}:{batch}"], options.limit)
        if "ms" in row:
            row["of_matmul"] = table["flop"] * batch / row["ms"] * 1e3 / (report["matmul_tflops"] * 1e12)
            if variant == "ort-plain" and nodes.get("moved_bytes") and batch == 1:
                row["of_copy"] = nodes["moved_bytes"] / row["ms"] * 1e3 / (report["copy_gb_per_s"] * 1e9)
        rows.append({"variant": variant, "batch": batch, **measurement.rounded(row)})
        show(rows[-1])
        left = [f"{variant} in batches of {batch}" for batch, variant in wanted[index + 1 :]]
        whole = {**report, **side_by_side(rows, batches[0], folder, table, device), "runs": rows, "slowest": nodes}
        if left:
            whole["left"] = left
        measurement.save(whole, options.out)
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
    found: dict[str, Any] = {}
    for name, (slow, fast, _) in RATIOS.items():
        comparable = name.endswith("_vs_float32") or in_half(slow, device) == in_half(fast, device)
        if comparable and slow in times and fast in times:
            found[name] = round(times[slow] / times[fast], 2)
    alike = [name for name, form in FORMS.items() if pack.reference_form(table, form) == pack.FORMS[0]]
    saved = {name: path for name in (*TORCH, *alike) if (path := folder / f"{name}.npy").is_file()}
    if reference := saved.pop("torch-eager", None):
        pictures = {name: np.load(path).astype(np.float64).clip(-1, 1) for name, path in saved.items() if name in times}
        expected = np.load(reference).astype(np.float64).clip(-1, 1)  # as levels are
        found["largest_differences"] = {
            name: float(f"{np.abs(picture - expected).max():.1e}") for name, picture in sorted(pictures.items())
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
