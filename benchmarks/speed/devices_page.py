"""Add device reports to results/devices and write the table of docs/devices.md from all reports there.

    python benchmarks/speed/devices_page.py --measure                # this computer
    python benchmarks/speed/devices_page.py device-report.json       # a report from a browser or a phone
    python benchmarks/speed/devices_page.py device-report.json --device "Pixel 9, Chrome 150"
    python benchmarks/speed/devices_page.py                          # only the table

A new report replaces the older one of the same device, runtime, threads and bundle.
"""

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measurement import ROOT, write_section

from codec_contract.files import write_atomically

PAGE = ROOT / "docs" / "devices.md"
RESULTS = ROOT / "results" / "devices"
SAME = ("device", "runtime", "threads", "bundle")


def read(path: Path) -> list[dict[str, Any]]:
    """The reports of a file: one, as the clients write it, or a list."""
    content = json.loads(path.read_bytes())
    return content if isinstance(content, list) else [content]


def add(reports: Sequence[dict[str, Any]], folder: Path, device: str = "") -> None:
    """Store reports, in one file for each device."""
    for report in reports:
        report = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), **report}
        report["device"] = device or report["device"]
        name = re.sub(r"[^a-z0-9]+", "-", f"{report['platform']} {report['device']}".lower()).strip("-")
        path = folder / f"{name[:80]}.json"
        known = read(path) if path.exists() else []
        kept = [other for other in known if any(other[key] != report[key] for key in SAME)]
        rows = sorted([*kept, report], key=lambda row: (row["runtime"], row["threads"]))
        write_atomically(path, (json.dumps(rows, indent=1) + "\n").encode(), force=True)


def table(folder: Path) -> str:
    """All reports as a Markdown table, with a line for each runtime of each device."""
    columns = "device | runtime | threads | bundle | golden vectors | encoder, ms: median (least) | date"
    lines = [f"| {columns} |", "|---|---|---:|---|---|---:|---|"]
    for path in sorted(folder.glob("*.json")):
        for report in read(path):
            failed = ", ".join(report["failed"])
            state = f"**differs: {failed}**" if failed else f"{report['checked']} of {report['checked']}"
            device, times = f"{report['device']} ({report['platform']})", report["encode_ms"]
            cells = device, report["runtime"], report["threads"] or "", f"`{report['bundle']}`", state
            milliseconds = f"{times['median']:.1f} ({times['least']:.1f})"
            lines.append(f"| {' | '.join(map(str, cells))} | {milliseconds} | {report['date']} |")
    return "\n".join(lines)


def main() -> int:
    """Add the reports and write the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="*", type=Path, help="device-report.json files to add")
    parser.add_argument("--measure", action="store_true", help="measure this computer and add it")
    parser.add_argument("--device", default="", help="name of the device, instead of the report's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgegrain-device-") as folder:
        paths = list(options.reports)
        if options.measure:
            paths.append(Path(folder) / "device-report.json")
            command = [sys.executable, "-m", "edgegrain", "device-report", str(paths[-1])]
            measured = subprocess.run(command, cwd=ROOT, check=False)  # 1 also if a runtime is not exact
            if not paths[-1].exists():
                return measured.returncode
        for path in paths:
            add(read(path), RESULTS, options.device)
    write_section(PAGE, table(RESULTS).splitlines())
    return 0


if __name__ == "__main__":
    sys.exit(main())
