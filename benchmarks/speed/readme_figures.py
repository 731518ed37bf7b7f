"""Write the figures of the README: quality from the default bundle's manifest, and times measured on this machine.

    python benchmarks/speed/readme_figures.py

The manifest holds the results of `edgegrain evaluate`. Compressing and restoring are timed on the portrait of the
package with one and two threads. The section between the two markers of the README is replaced.
"""

from __future__ import annotations

import statistics
import sys

from import_time import measure
from machine import PORTRAIT, ROOT, measured_on
from measurement import median_seconds
from page_text import replace_figures, wrapped

sys.path.insert(0, str(ROOT))

from codec_contract.bundle.manifest import load_manifest
from codec_contract.bundle.paths import find_bundle
from edgegrain.metrics.training_losses import NOTE, training_losses
from edgegrain.publishing.model_card import score_table
from sdk import Codec

THREADS = (1, 2)


def section() -> str:
    """The figures as Markdown."""
    manifest = load_manifest(find_bundle())
    evaluation = manifest.evaluation
    facts = measured_on()
    lines = [
        f"Means over the {evaluation['pictures']['count']} unseen faces of {evaluation['pictures']['folder']}, bundle "
        f"`{manifest.id}` {manifest.version}; classical codecs may use at most the bytes of the payload, with any "
        "downscaling:",
        "", *score_table(evaluation, training_losses(manifest.codec, manifest.domain, manifest.training)), "",
        f"{NOTE}. ±: 95 % bootstrap interval over pictures ([metrics](docs/evaluation.md#metrics)).", "",
        "| time, 256×256 | " + " | ".join(f"{n} thread{'s' * (n > 1)}" for n in THREADS) + " |",
        "|---" + "|---:" * len(THREADS) + "|",
    ]
    codecs = [Codec(threads=threads) for threads in THREADS]
    payload = codecs[0].compress(PORTRAIT)
    for label, run in (("compress", lambda codec: codec.compress(PORTRAIT)),
                       ("restore", lambda codec: codec.restore(payload))):
        times = [median_seconds(lambda run=run, codec=codec: run(codec), 0, least=15) for codec in codecs]
        lines.append(f"| {label} | " + " | ".join(f"{1e3 * value:.0f} ms" for value in times) + " |")
    lines += [f"| `import sdk` | {1e3 * statistics.median(measure(5)):.0f} ms | |", "",
              f"Measured {facts['date']} by `python benchmarks/speed/readme_figures.py` on {facts['machine']}, "
              f"{facts['cores']} cores, commit {facts['commit']}."]
    return wrapped("\n".join(lines))


def main() -> None:
    """Replace the section of the README."""
    replace_figures(ROOT / "README.md", section())


if __name__ == "__main__":
    main()
