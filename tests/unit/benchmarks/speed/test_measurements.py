"""The benchmarks measure what they say: the same decoder in every variant, as many threads, all reports complete."""

import json
import re
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import decoder
import encoder
import measurement
import numpy as np
import pack
import performance_page
import pytest
from random_decoder import random_decoder

from export.encoder import export_encoder
from server_decoder import decoder_session
from server_decoder.cuda_ops import library
from tests.networks import random_network


def test_all_variants_compute_the_same(packed: Path) -> None:
    for variant in ("torch-eager", "torch-half", "ort-plain", "session"):
        result = decoder.measured(variant, 1, packed, "cpu", 1, 0.01)
        assert 0 < result["ms"] and result["peak_mib"] > 50
    expected = np.load(packed / "torch-eager.npy")
    assert expected.shape == (1, 3, 16, 16) and expected.std() > 0.01
    assert np.abs(np.load(packed / "ort-plain.npy") - expected).max() < 1e-4 * np.abs(expected).max()
    nodes = decoder.profiled_nodes(packed, 1, runs=1)
    assert nodes["moved_bytes"] > 1e5 and "Conv" in dict(nodes["kinds"])
    assert sum(share for _, share in nodes["kinds"]) == pytest.approx(1, abs=0.02)  # all of them, each rounded
    assert 0 < sum(share for _, share in nodes["nodes"]) < 1.02 and len(nodes["nodes"]) <= decoder.SLOWEST


@pytest.mark.parametrize("kernels", [True, False])
def test_the_session_takes_fused_ops_if_they_run(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: bool
) -> None:
    opened: list[str] = []

    def session(path: Path, *_: object, **__: object) -> Namespace:
        opened.append(path.stem)
        return Namespace(warm_up=lambda batch: None)

    monkeypatch.setattr(library, "find_library", lambda: Path("library"))
    monkeypatch.setattr(library, "has_cuda_kernels", lambda _: kernels)
    monkeypatch.setattr(decoder_session, "DecoderSession", session)
    table = {**pack.read_table(packed), "forms": list(pack.FORMS)}
    (tmp_path / "pack.json").write_text(json.dumps(table))
    for device in ("cuda", "cpu"):
        decoder.session_run("session", 1, tmp_path, device, 1)
    assert opened == ["fused.float16" if kernels else "plain.float32", "plain.float32"]
    options = Namespace(variants="ort-fused-half,session-int8,ort-plain", device="cuda")
    assert decoder.chosen_variants(options, tmp_path) == ["ort-fused-half"] * kernels + ["ort-plain"]


def test_ratios_are_of_one_precision(packed: Path, tmp_path: Path) -> None:
    times = {"torch-compile": 4.0, "ort-plain": 2.0, "ort-fused": 2.0, "ort-fused-half": 1.0}
    rows = [{"variant": variant, "batch": 1, "ms": ms} for variant, ms in times.items()]
    for device, compiled in (("cpu", {"ort_vs_torch_compile": 2.0}), ("cuda", {"half_ort_vs_torch_compile": 4.0})):
        ratios = decoder.side_by_side(rows, 1, tmp_path, pack.read_table(packed), device)
        assert ratios == {**compiled, "fused_vs_plain": 1.0, "half_vs_float32": 2.0}


def test_what_cannot_be_measured_says_why(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "FileNotFoundError" in decoder.measured("session", 1, packed / "none", "cpu", 1, 0.01)["error"]

    # What torch says without a compiler; asking it takes half a minute.
    said = "InvalidCxxCompiler: No working C++ compiler found"
    monkeypatch.setattr(decoder, "torch_run", Mock(side_effect=RuntimeError(f"{said}\n\nSet TORCHDYNAMO_VERBOSE=1")))
    assert decoder.measured("torch-compile", 1, packed, "cpu", 1, 0.01) == {"error": f"RuntimeError: {said}"}


def test_a_report_grows_while_it_is_measured(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, seen = tmp_path / "deep" / "report.json", []

    def in_own_process(script: str, arguments: list[str], limit: float) -> dict[str, object]:
        what = arguments[arguments.index("--measure") + 1]
        if what == "nodes:1":
            return {"moved_bytes": 1e6, "kinds": [["Conv", 1.0]], "nodes": []}
        seen.append(json.loads(out.read_text()) if out.is_file() else {})
        if what == "session:2":
            raise KeyboardInterrupt
        return {"error": "no compiler"} if what.startswith("torch-compile") else {"ms": 5.0 if "ort" in what else 10.0}

    monkeypatch.setattr(decoder, "in_own_process", in_own_process)
    monkeypatch.setattr(measurement, "copy_rate", lambda device, threads: 1e9)
    monkeypatch.setattr(measurement, "matmul_rate", lambda device, threads, kind: 1e12)
    variants = "--variants=torch-eager,ort-plain,torch-compile,session"
    monkeypatch.setattr(sys, "argv", ["decoder.py", f"--packed={packed}", "--batches=1,2", variants, f"--out={out}"])
    with pytest.raises(KeyboardInterrupt):
        decoder.main()
    assert [len(report.get("runs", ())) for report in seen] == list(range(8))
    kept = json.loads(out.read_text())
    assert kept["left"] == ["session in batches of 2"] and kept["ort_vs_torch_eager"] == 2.0
    missing = "torch.compile, batch 1: no compiler; torch.compile, batch 2: no compiler"
    missing += "; the run was interrupted before session in batches of 2"
    assert f"Not measured: {missing}." in performance_page.decoder_section(kept, "the command")


def test_packs_are_measured_without_onnx(repository: Path, packed: Path, tmp_path: Path) -> None:
    script = f"""
import sys
from argparse import Namespace
from pathlib import Path

sys.modules["onnx"] = sys.modules["PIL"] = None
sys.path[:0] = [{str(repository)!r}, {str(repository / "benchmarks" / "speed")!r}]
import decoder

decoder.prepare(Namespace(packed=Path({str(packed)!r})), Path({str(tmp_path)!r}))
for variant in ("torch-eager", "session"):
    assert decoder.measure(variant, 1, Path({str(tmp_path)!r}), "cpu", 1, 0.01)["ms"] > 0
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_lrs_have_the_levels_of_payloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = replace(random_decoder("grain-smoke"), step=3)
    monkeypatch.setattr("export.decoder.export.find_decoder", lambda *_: source)
    monkeypatch.setattr(pack, "write", lambda *_, **__: None)
    decoder.prepare(Namespace(packed=None, config="", bundle="", prior="", device="cpu"), tmp_path)
    lrs = np.load(tmp_path / "lrs.npy")
    assert lrs.dtype == np.uint8 and not (lrs % 3).any()


def test_encoders_are_measured_on_both_runtimes_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network()
    paths = export_encoder(network, tmp_path, ("tflite", "onnx"))
    assert encoder.measure("xnnpack", paths["tflite"], network.hr, 1, 0.01)["ms"] > 0
    picture = np.random.default_rng(0).integers(0, 256, (1, network.hr, network.hr, 3), np.uint8)
    (found,) = encoder.onnx_run(paths["onnx"], picture, 1)()
    assert np.array_equal(found, encoder.tflite_run(paths["tflite"], picture, 1)())
    monkeypatch.setattr(encoder, "prepare", lambda *_: {})
    monkeypatch.setattr(
        encoder, "in_own_process", lambda _, arguments, limit: {"ms": 8.0 if "official" in " ".join(arguments) else 2.0}
    )
    report = encoder.compare(Namespace(threads=4, seconds=0.01, sizes="256", limit=1), tmp_path)
    assert {row["threads"] for row in report["runs"]} == {1, 4}
    assert report["exact_vs_official_encoder_xnnpack_256"] == 4.0


def test_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    assert measurement.median_seconds(lambda: calls.append(0), 0.0, least=4) >= 0 and len(calls) == 6
    facts = measurement.circumstances("cpu", 1)
    assert facts["threads"] == 1 and facts["versions"]["torch"] and facts["commit"]
    monkeypatch.setattr(measurement, "_MATMUL_SIDE", {"cpu": 8})
    monkeypatch.setattr(measurement, "_COPY_BYTES", {"cpu": 8})
    assert measurement.matmul_rate("cpu", 2, seconds=0) > 0 and measurement.copy_rate("cpu", seconds=0) > 0
    script = tmp_path / "script.py"
    for program, seconds, expected in (
        ("import sys\nprint('noise')\nprint('{\"got\": \"' + sys.argv[1] + '\"}')\n", 60, {"got": "x"}),
        ("raise SystemExit('out of luck')", 60, {"error": "out of luck"}),
        ("import time\ntime.sleep(60)", 0.2, {"error": "took more than 0 s"}),
    ):
        script.write_text(program)
        assert measurement.in_own_process(str(script), ["x"], seconds) == expected
    monkeypatch.setenv("PATH", str(tmp_path))
    assert measurement.commit() == "unknown"  # a host without git


def test_the_script_for_gpu_hosts_is_a_shell_script(repository: Path) -> None:
    script = repository / "benchmarks" / "gpu_host.sh"
    subprocess.run(["sh", "-n", str(script)], check=True)
    commands = script.read_text().replace("\\\n", " ")
    for program in ("cuda_ops", "decoder", "replays"):
        path = repository / "benchmarks" / "speed" / f"{program}.py"
        text = subprocess.check_output([sys.executable, str(path), "--help"], text=True)
        used = {
            option
            for line in re.findall(rf"^ *step .*{program}\.py (.*)$", commands, re.MULTILINE)
            for option in re.findall(r"--\w+", line)
        }
        assert {"--device", "--json"} <= used and all(option in text for option in used)
