"""Compare a decoder's plain graph with its fused one on the CPU: runs in turn, so that other load meets both.

    python benchmarks/speed/fused_on_cpu.py --out results/performance/fused-cpu.json      # the default bundle
    python benchmarks/speed/fused_on_cpu.py --config grain-256-lr16

Both take and give uint8. The ratio is the median of the ratios of neighbouring runs. Needs `make ops`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from measurement import (
    PORTRAIT,
    circumstances,
    save,
)

from codec_contract.fit import fit_picture
from edge_encoder.preprocessing import load_picture
from export.decoder.command import export_decoder
from export.decoder.decoder_options import DecoderOptions, Ops, Pixels
from export.decoder.sources import DecoderSource, find_decoder, random_decoder
from server_decoder.decoder_session import DecoderSession

WARM_UPS = 2


def measure(source: DecoderSource, batches: list[int], pairs: int, threads: int) -> list[dict[str, float]]:
    """Seconds of both graphs at each batch size, and how many times as fast the fused one is."""
    sessions = {}
    with tempfile.TemporaryDirectory(prefix="edgegrain-fused-") as folder:
        for ops in Ops:
            path = Path(folder) / f"{ops.value}.onnx"
            path.write_bytes(export_decoder(source.decoder, source.network.lr,
                                            DecoderOptions(ops=ops, pixels=Pixels.uint8)))
            sessions[ops] = DecoderSession(path, threads=threads)
    picture = fit_picture(load_picture(PORTRAIT), source.network.hr)
    lr = source.encode(picture[None])
    rows = []
    for batch in batches:
        lrs = lr.repeat(batch, 0)
        plain, fused = (session.decode(lrs).astype(np.int16) for session in sessions.values())
        times: dict[Ops, list[float]] = {ops: [] for ops in Ops}
        for _ in range(WARM_UPS + pairs):
            for ops, session in sessions.items():
                start = time.perf_counter()
                session.decode(lrs)
                times[ops].append(time.perf_counter() - start)
        kept = {ops: found[WARM_UPS:] for ops, found in times.items()}
        ratios = [slow / fast for slow, fast in zip(kept[Ops.plain], kept[Ops.fused], strict=True)]
        rows.append({
            "batch": batch, "plain_ms": round(1e3 * statistics.median(kept[Ops.plain]), 1),
            "fused_ms": round(1e3 * statistics.median(kept[Ops.fused]), 1),
            "ratio": round(statistics.median(ratios), 3), "largest_levels": int(np.abs(plain - fused).max())})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="faces", help="a bundle, or a folder of the zoo by name")
    parser.add_argument("--config", default="", help="instead: a GRAIN configuration with random weights")
    parser.add_argument("--batches", default="1,4", help="batch sizes, comma-separated")
    parser.add_argument("--pairs", type=int, default=30, help="runs of each graph")
    parser.add_argument("--threads", type=int, default=1, help="threads that work on a picture")
    parser.add_argument("--out", type=Path, help="write the report here")
    options = parser.parse_args()
    source = random_decoder(options.config) if options.config else find_decoder(options.bundle)
    batches = [int(batch) for batch in options.batches.split(",")]
    rows = measure(source, batches, options.pairs, options.threads)
    save({"benchmark": "fused_on_cpu", **circumstances("cpu", options.threads), "decoder": source.name, "runs": rows},
         options.out)


if __name__ == "__main__":
    main()
