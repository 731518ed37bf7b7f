"""Write the figures of the README: quality from the default bundle's results, and times measured on this machine.

    python benchmarks/speed/readme_figures.py

The manifest holds the results of `edgegrain evaluate`, ``results/`` those at 1024x1024. Compressing and restoring are
timed on the portrait of the package with one and two threads. The section between the two markers of the README is
replaced.
"""

import json
import os
import statistics
import subprocess
import sys

from measurement import PORTRAIT, ROOT, measured_on, median_seconds, wrapped, write_section

from codec_contract.bundle.find import find_bundle
from codec_contract.bundle.manifest import Manifest, load_manifest
from sdk import Codec
from server_decoder.providers import has_dot_products

THREADS = (1, 2)
SCORES = {"bytes": ".0f", "psnr": ".2f", "dists": ".3f", "identity_mobileface": ".3f"}
"""The columns, with their formats; none of them is a training loss of the bundle."""


def quality(manifest: Manifest) -> list[str]:
    """The table of quality, as lines."""
    evaluation = manifest.evaluation
    side = manifest.sides[-1]
    larger = json.loads((ROOT / "results" / f"{manifest.id}-{manifest.version}-{side}.json").read_bytes())
    methods = {
        "edgegrain": "this bundle",
        "classical codec, best LPIPS": "classical, best LPIPS-Alex",
        "classical codec, best PSNR": "classical, best PSNR",
    }
    rows = [(label, manifest.hr, evaluation["methods"][name]) for label, name in methods.items()]
    for label, name in (("edgegrain", ""), ("edgegrain, enlarged bicubically", ", bicubic")):
        rows.append((label, side, larger["means"][manifest.id + name]))
    table = []
    for label, size, scores in rows:
        cells = " | ".join(format(scores[name], form) for name, form in SCORES.items())
        table.append(f"| {label} | {size}×{size} | {cells} |")
    return [
        f"Means over unseen faces, {evaluation['pictures']['count']} at {manifest.hr}×{manifest.hr} and "
        f'{larger["pictures"]["count"]} at {side}×{side}, bundle `{manifest.id}` {manifest.version}. "Classical" is '
        "the best of JPEG, WebP, AVIF and JPEG XL for each picture, with at most the payload's bytes "
        "([search](docs/evaluation.md#classical-codecs)). Higher is better for PSNR, lower for DISTS and identity "
        "([more metrics](docs/qualities.md)).",
        "",
        "| method | size | bytes | PSNR (dB) | DISTS | identity (MobileFace) |",
        "|---|---|---:|---:|---:|---:|",
        *table,
    ]


def speed(manifest: Manifest) -> list[str]:
    """The table of times, measured now, as lines."""
    lines = [
        "| time | " + " | ".join(f"{n} thread{'s' * (n > 1)}" for n in THREADS) + " |",
        "|---" + "|---:" * len(THREADS) + "|",
    ]
    codecs = [Codec(threads=threads) for threads in THREADS]
    payload = codecs[0].compress(PORTRAIT)
    runs = {
        "find face, compress": lambda codec: codec.compress(PORTRAIT),
        "compress only": lambda codec: codec.compress(PORTRAIT, align=False),
    }
    for side in manifest.sides:
        runs[f"restore {side}×{side}"] = lambda codec, side=side: codec.restore(payload, size=side)
    for label, run in runs.items():
        times = [median_seconds(lambda run=run, codec=codec: run(codec), 0, least=15) for codec in codecs]
        lines.append(f"| {label} | " + " | ".join(f"{1e3 * value:.0f} ms" for value in times) + " |")
    program = "import time; start = time.perf_counter(); import sdk; print(time.perf_counter() - start)"
    command, environment = [sys.executable, "-c", program], {**os.environ, "PYTHONPATH": str(ROOT)}
    imports = [float(subprocess.check_output(command, env=environment)) for _ in range(6)][1:]  # the first fills caches
    facts, int8 = measured_on(), "with" if has_dot_products() else "without"
    return [
        *lines,
        f"| `import sdk` | {1e3 * statistics.median(imports):.0f} ms | |",
        "",
        f"Measured {facts['date']} by `python benchmarks/speed/readme_figures.py` on {facts['machine']} "
        f"{int8} VNNI, {facts['cores']} cores, commit {facts['commit']}.",
    ]


def main() -> None:
    """Replace the section of the README."""
    manifest = load_manifest(find_bundle())
    write_section(ROOT / "README.md", wrapped("\n".join([*quality(manifest), "", *speed(manifest)])).splitlines())


if __name__ == "__main__":
    main()
