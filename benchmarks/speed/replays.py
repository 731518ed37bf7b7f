"""Compare a decoder's pictures on CUDA with those on the CPU, while batches of several sizes follow one another.

    python benchmarks/speed/replays.py --decoder gpu_host_pack/decoder.onnx
    python benchmarks/speed/replays.py --packed gpu_host_pack/NAME            # written by pack.py: all its forms

Some batch sizes are warmed up and replay CUDA graphs, one is not. The reference is the plain decoder in float32 on the
CPU; for a form with weights of its own (pack.py), this form. The exit code is 1 if a picture is wrong, or if no graphs
are used on CUDA by a decoder that can be captured.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pack
from measurement import option_parser, show

from server_decoder.cuda_ops.library import contains
from server_decoder.decoder_session import DecoderSession
from server_decoder.providers import CudaOptions, preload_cuda

KEPT = (1, 4)
BATCHES = (1, 4, 1, 3, 4, 1, 3, 1)
"""In this order; 3 is not kept. ONNX Runtime before 1.30 replayed wrong pictures after another size."""
LEVELS = {"float32": 1, "float16": 4}  # largest difference of a value, of 255
LEAST_PSNR = {"float32": 60.0, "float16": 45.0}


def compare(name: str, model: Path, reference: Path, device: str, nhwc: bool, kind: str) -> dict[str, Any]:
    """Differences of a decoder's pictures on a device from the reference's on the CPU."""
    on_cpu = DecoderSession(reference, "cpu")
    session = DecoderSession(model, device, cuda=CudaOptions(prefer_nhwc=nhwc))
    session.warm_up(KEPT)
    lrs = {batch: smooth_lrs(on_cpu, batch) for batch in set(BATCHES)}
    expected = {batch: on_cpu.decode(lr).astype(np.float64) for batch, lr in lrs.items()}
    errors = [np.abs(session.decode(lrs[batch]) - expected[batch]) for batch in BATCHES]
    levels = int(max(error.max() for error in errors))
    noise = max(float(np.square(error).mean()) for error in errors)
    psnr = 10 * float(np.log10(255**2 / max(noise, 1e-6)))
    uncaptured = kind == "float32" and not nhwc and contains(model, b"ConvTranspose")  # as `DecoderSession` warns
    graphs = session.graphs or uncaptured or device == "cpu"
    right = bool(graphs and levels <= LEVELS[kind] and psnr >= LEAST_PSNR[kind])
    return {"decoder": name, "graphs": session.graphs, "levels": levels, "psnr": round(psnr, 1), "right": right}


def smooth_lrs(session: DecoderSession, batch: int) -> np.ndarray:
    """Random LRs, uint8 ``[batch, h, w, 3]``, different for every size of batch."""
    if session.lr_size is None:
        raise SystemExit("the decoder leaves its LR size open")
    width, height = session.lr_size
    coarse = np.random.default_rng(batch).integers(64, 192, (batch, -(-height // 4), -(-width // 4), 3), np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]


def main() -> int:
    """Compare and print; returns the exit code."""
    parser = option_parser(__doc__)
    parser.add_argument("--decoder", type=Path, help="an ONNX file in float32")
    parser.add_argument("--packed", type=Path, help="instead: a folder written by benchmarks/speed/pack.py")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    options = parser.parse_args()
    if (options.decoder is None) == (options.packed is None):
        parser.error("one of --decoder and --packed is needed")
    if options.device == "cuda":
        preload_cuda()
    layouts = {"": False} | ({"-nhwc": True} if options.device == "cuda" else {})
    rows = []
    with tempfile.TemporaryDirectory(prefix="edgegrain-replays-") as work:
        models = [(options.decoder.name, options.decoder, options.decoder)] if options.decoder else []
        if options.packed:
            folder = Path(work)
            pack.copy_filled(options.packed, folder)
            table = pack.read_table(folder)
            for form in table["forms"]:
                models.append((form, folder / f"{form}.onnx", folder / f"{pack.reference_form(table, form)}.onnx"))
        for name, model, reference in models:
            for suffix, nhwc in layouts.items():
                kind = "float16" if "float16" in name else "float32"
                try:
                    row = compare(name + suffix, model, reference, options.device, nhwc, kind)
                except Exception as error:  # errors of ONNX Runtime have no common class; the other forms go on
                    row = {"decoder": name + suffix, "error": f"{type(error).__name__}: {error}"[:300], "right": False}
                rows.append(row)
                show(row)
    if options.json:
        print(json.dumps({"device": options.device, "batches": BATCHES, "kept": KEPT, "decoders": rows}))
    return int(not all(row["right"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
