"""Pages show the stored reports: docs/performance.md, docs/devices.md, the table of quality in the README."""

import json
from pathlib import Path
from typing import Any

import devices_page
import performance_page
import pytest
import readme_figures
from measurement import write_section

from codec_contract.errors import EdgegrainError

PAGE = "# Page\n\n<!-- a -->\nold\nlines\n<!-- /a -->\n\nbetween\n\n<!-- b c -->\n<!-- /b c -->\n"


def test_one_section_is_replaced_and_can_be_again(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    expected = PAGE.replace("old\nlines\n", "\n| x |\n|---|\n\n")
    for _ in range(2):
        write_section(page, ["| x |", "|---|"], "a")
        assert page.read_text() == expected
    write_section(page, ["new"], "b c")
    expected = expected.replace("<!-- b c -->\n", "<!-- b c -->\n\nnew\n\n")
    for path, name in ((page, "c"), (page, "a -->"), (tmp_path / "absent.md", "a")):
        with pytest.raises(EdgegrainError, match="has no section"):
            write_section(path, ["new"], name)
    assert page.read_text() == expected


def report(**changes: object) -> dict[str, object]:
    facts = {"date": "2026-01-02", "machine": "Abacus", "cores": 2, "threads": 2, "device": "cpu", "commit": "abc"}
    rates = {"matmul_tflops": 0.1, "matmul_type": "float32", "copy_gb_per_s": 8.0}
    return {**facts, **rates, "versions": {"torch": "1"}, **changes}


def test_the_page_shows_reports_and_names_what_is_missing(repository: Path, tmp_path: Path) -> None:
    runs = [
        {"variant": "torch-eager", "batch": 1, "ms": 1500.0, "peak_mib": 300.0, "of_matmul": 0.25},
        {"variant": "ort-plain", "batch": 1, "ms": 750.0, "peak_mib": 4096.0, "of_matmul": 0.5, "of_copy": 0.75},
        {"variant": "ort-plain", "batch": 4, "error": "out of memory"},
    ]
    big = {"decoder": "big", "lr": 16, "hr": 1024, "parameters": 82_270_000, "gmac": 1150.0}
    both = {"official": 400.0, "exact": 20.0}
    sizes = [{"encoder": kind, "size": 1024, "runtime": "onnx", "threads": 2, "ms": ms} for kind, ms in both.items()]
    on_gpu = [{"variant": name, "batch": 1, "ms": 5.0, "peak_mib": 300.0} for name in ("torch-compile", "ort-plain")]
    reports = {
        "decoder-1024-cpu": report(
            **big,
            runs=runs,
            ort_vs_torch_eager=2.0,
            slowest={"kinds": [["Conv", 0.9]], "moved_bytes": 3e9},
            largest_differences={"ort-plain": 2e-6},
        ),
        "encoder-cpu": report(runs=sizes, encoders={"1024": {"official": {"gmac": 16.5}, "exact": {"gmac": 0.5}}}),
        "decoder-1024": report(
            **big, device="cuda", runs=on_gpu, largest_differences={"ort-plain": 2e-6, "torch-compile": 3e-3}
        ),
    }
    for name, content in reports.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    page = performance_page.page(tmp_path)
    for line in (
        "| torch | 1.50 s |  | 25% | 300 MiB |",
        "| ONNX Runtime | 750.0 ms | failed | 50% | 4.0 GiB |",
        "ONNX Runtime is 2.0 times as fast as torch.",
        "| torch.compile, float16 |",
        "| 1024² | ONNX Runtime | 2 | 400.0 | 20.0 | 20.0 |",
        "gpu_host.sh",
        "- A bundle's decoder at 256², on a CPU (`decoder-256-cpu.json`)",
        "`benchmarks/gpu_host.sh` on 2026-01-02",
    ):
        assert line in page
    assert "(`encoder-cpu.json`)" not in page
    unwrapped = " ".join(page.split())
    assert "3,000 MB per picture, at 75% of the copy rate." in unwrapped
    assert "by at most 2e-06 in [-1, 1], in float16 by 3e-03." in unwrapped
    origins = [line for line in unwrapped.split("`") if line.startswith("python benchmarks/speed/")]
    assert origins[1:] == [
        "python benchmarks/speed/decoder.py --config grain-1024-lr16-paper --batches 1",
        "python benchmarks/speed/encoder.py",
    ]  # the first one writes the page
    assert all((repository / origin.split()[1]).is_file() for origin in origins)


def test_the_page_in_the_repository_is_the_reports(repository: Path) -> None:
    assert (repository / "docs" / "performance.md").read_text() == performance_page.page()


def test_the_readme_shows_the_stored_results(repository: Path) -> None:
    lines = readme_figures.quality(readme_figures.load_manifest(readme_figures.find_bundle()))
    assert readme_figures.wrapped("\n".join(lines)) in (repository / "README.md").read_text()


def device_report(**changes: Any) -> dict[str, Any]:
    phone = {"platform": "web", "device": "A phone", "runtime": "wasm", "threads": 2, "bundle": "faces"}
    times = {"runs": 3, "median": 7.06, "least": 5, "most": 9}
    found = {"schema": 1, "lr_contract_id": "00", "checked": 12, "failed": [], "encode_ms": times}
    return {**phone, **found, **changes}


def test_reports_of_devices_become_rows(tmp_path: Path) -> None:
    devices_page.add([device_report(), device_report(threads=1, date="2026-01-02")], tmp_path)
    devices_page.add([device_report(date="2026-01-03", failed=["black"])], tmp_path)
    devices_page.add([device_report(platform="ios", date="2026-01-04")], tmp_path)
    devices_page.add([device_report(threads=0, date="2026-01-05")], tmp_path, device="Another phone")
    names = ["ios-a-phone", "web-a-phone", "web-another-phone"]
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"{name}.json" for name in names]
    assert len(json.loads((tmp_path / "web-a-phone.json").read_text())) == 2
    assert devices_page.table(tmp_path).splitlines()[2:] == [
        "| A phone (ios) | wasm | 2 | `faces` | 12 of 12 | 7.1 (5.0) | 2026-01-04 |",
        "| A phone (web) | wasm | 1 | `faces` | 12 of 12 | 7.1 (5.0) | 2026-01-02 |",
        "| A phone (web) | wasm | 2 | `faces` | **differs: black** | 7.1 (5.0) | 2026-01-03 |",
        "| Another phone (web) | wasm |  | `faces` | 12 of 12 | 7.1 (5.0) | 2026-01-05 |",
    ]


def test_the_page_shows_the_stored_reports_of_devices() -> None:
    assert list(devices_page.RESULTS.glob("*.json"))
    assert f"<!-- figures -->\n\n{devices_page.table(devices_page.RESULTS)}\n\n<!-- /figures -->" in (
        devices_page.PAGE.read_text()
    )
