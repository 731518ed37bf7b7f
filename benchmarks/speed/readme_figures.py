"""Write the figures of the README: quality from the default bundle's manifest, and times measured on this machine.

    python benchmarks/speed/readme_figures.py

The manifest holds the results of `edgegrain evaluate`, ``results/`` those of larger sizes (``--size``). Compressing and
restoring are timed on the portrait of the package with one and two threads. The section between the two markers of the
README is replaced.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any

from import_time import measure
from machine import PORTRAIT, ROOT, measured_on
from measurement import median_seconds
from page_text import replace_figures, wrapped

sys.path.insert(0, str(ROOT))

from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.bundle.paths import find_bundle
from edgegrain.metrics.score_names import column_titles
from edgegrain.metrics.training_losses import NOTE, training_losses
from edgegrain.publishing.model_card import score_table
from sdk import Codec

THREADS = (1, 2)
LARGER = {"psnr": ".2f", "lpips_alex": ".3f", "lpips_vgg": ".3f", "dists": ".3f", "identity_mobileface": ".3f",
          "kid_crops": ".4f", "kid_eyes": ".4f"}
"""Scores of the table of larger sizes, and their formats."""


def section() -> str:
    """The figures as Markdown."""
    manifest = load_manifest(find_bundle())
    evaluation = manifest.evaluation
    facts = measured_on()
    lines = [
        f"Means over the {evaluation['pictures']['count']} unseen faces of {evaluation['pictures']['folder']}, bundle "
        f"`{manifest.id}` {manifest.version}. \"Classical\" is the best of JPEG, WebP, AVIF and JPEG XL by that metric "
        "for each picture, downscaled as suits each best ([search](docs/evaluation.md#classical-codecs)), with at most "
        "the bytes of the payload:",
        "", *score_table(evaluation, training_losses(manifest.codec, manifest.domain, manifest.training)), "",
        f"{NOTE}. ±: 95 % bootstrap interval over pictures ([metrics](docs/evaluation.md#metrics)). "
        "Higher is better for PSNR and SSIM, lower for all others.", "",
        *larger_sizes(manifest), "| time | " + " | ".join(f"{n} thread{'s' * (n > 1)}" for n in THREADS) + " |",
        "|---" + "|---:" * len(THREADS) + "|",
    ]
    codecs = [Codec(threads=threads) for threads in THREADS]
    payload = codecs[0].compress(PORTRAIT)
    runs = {"compress": lambda codec: codec.compress(PORTRAIT)} | {
        f"restore {side}×{side}": lambda codec, side=side: codec.restore(payload, size=side) for side in manifest.sides}
    for label, run in runs.items():
        times = [median_seconds(lambda run=run, codec=codec: run(codec), 0, least=15) for codec in codecs]
        lines.append(f"| {label} | " + " | ".join(f"{1e3 * value:.0f} ms" for value in times) + " |")
    lines += [f"| `import sdk` | {1e3 * statistics.median(measure(5)):.0f} ms | |", "",
              f"Measured {facts['date']} by `python benchmarks/speed/readme_figures.py` on {facts['machine']}, "
              f"{facts['cores']} cores, commit {facts['commit']}."]
    return wrapped("\n".join(lines))


def larger_sizes(manifest: Manifest) -> list[str]:
    """A table of the evaluations in ``results/`` at the enlarger's sizes, as lines; [] if there are none."""
    found: dict[int, dict[str, Any]] = {}
    for side in manifest.sides[1:]:
        path = ROOT / "results" / f"{manifest.id}-{manifest.version}-{side}.json"
        if path.is_file():
            found[side] = json.loads(path.read_bytes())
    if not found:
        return []
    first = next(iter(found.values()))
    pictures, losses = first["pictures"], first["training_losses"]
    size = first["means"][manifest.id]["bytes"]
    lines = [f"Restored larger, {pictures['count']} unseen faces of {pictures['folder']} ({size:.0f} bytes on "
             f"average); bicubic: the restored {manifest.hr}×{manifest.hr} enlarged without the bundle's enlarger:", "",
             "| size | | " + " | ".join(column_titles(LARGER, losses)) + " |",
             "|---|---" + "|---:" * len(LARGER) + "|"]
    for side, summary in found.items():
        for method, label in ((manifest.id, "this bundle"), (f"{manifest.id}, bicubic", "bicubic")):
            means = summary["means"][method]
            cells = [format(means[score], form) for score, form in LARGER.items()]
            lines.append(f"| {side}×{side} | {label} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def main() -> None:
    """Replace the section of the README."""
    replace_figures(ROOT / "README.md", section())


if __name__ == "__main__":
    main()
