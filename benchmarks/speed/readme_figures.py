"""Write the figures of the README: quality from the default bundle's manifest, and times measured on this machine.

    python benchmarks/speed/readme_figures.py

The manifest holds the results of `edgegrain evaluate`. Compressing and restoring are timed on the portrait of the
package with one and two threads. The section between the two markers of the README is replaced.
"""

from __future__ import annotations

import datetime
import os
import statistics
import sys
import time
from collections.abc import Callable

from import_time import measure
from machine import ROOT, commit, processor
from page_text import wrapped

sys.path.insert(0, str(ROOT))

from codec_contract.bundle.manifest import load_manifest
from codec_contract.bundle.paths import find_bundle
from codec_contract.files import write_atomically
from edgegrain.publishing.model_card import score_table
from sdk import Codec

BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
PORTRAIT = ROOT / "edgegrain" / "demo" / "portrait.jpg"
THREADS = (1, 2)


def milliseconds(run: Callable[[], object], repeats: int = 15) -> float:
    """Median time of ``run``, after two warm-up runs."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def section() -> str:
    """The figures as Markdown."""
    manifest = load_manifest(find_bundle())
    evaluation = manifest.evaluation
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        f"Means over the {evaluation['pictures']['count']} unseen faces of {evaluation['pictures']['folder']}, bundle "
        f"`{manifest.id}` {manifest.version}; classical codecs may use at most the bytes of the payload, with any "
        "downscaling:",
        "", *score_table(evaluation), "",
        "| time, 256×256 | " + " | ".join(f"{n} thread{'s' * (n > 1)}" for n in THREADS) + " |",
        "|---" + "|---:" * len(THREADS) + "|",
    ]
    codecs = [Codec(threads=threads) for threads in THREADS]
    payload = codecs[0].compress(PORTRAIT)
    for label, run in (("compress", lambda codec: codec.compress(PORTRAIT)),
                       ("restore", lambda codec: codec.restore(payload))):
        times = [milliseconds(lambda run=run, codec=codec: run(codec)) for codec in codecs]
        lines.append(f"| {label} | " + " | ".join(f"{value:.0f} ms" for value in times) + " |")
    lines += [f"| `import sdk` | {1e3 * statistics.median(measure(5)):.0f} ms | |", "",
              f"Measured {date} by `python benchmarks/speed/readme_figures.py` on {processor()}, "
              f"{os.cpu_count()} cores, commit {commit()}."]
    return wrapped("\n".join(lines))


def main() -> None:
    """Replace the section of the README."""
    path = ROOT / "README.md"
    text = path.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    write_atomically(path, f"{before}{BEGIN}\n{section()}\n{END}{after}".encode(), force=True)


if __name__ == "__main__":
    main()
