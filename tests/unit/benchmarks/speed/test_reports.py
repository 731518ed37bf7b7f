"""The benchmarks measure what they say: the same decoder in every variant, shares and ratios, a page of all reports."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch

from export.decoder.export import random_decoder
from export.decoder.served import served_decoder
from export.encoder.export import export_encoder
from tests.networks import random_network
from tests.tiny_grain import TINY_MOBILE, tiny_grain

NAMES = ("decoder", "encoder", "measurement", "pack", "performance_page")


@pytest.fixture(scope="module")
def benchmarks(repository: Path) -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules."""
    import importlib

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(repository / "benchmarks" / "speed")
        yield {name: importlib.import_module(name) for name in NAMES}


@pytest.fixture(scope="module")
def packed(benchmarks: dict[str, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of a tiny decoder, filled with its own weights."""
    folder = tmp_path_factory.mktemp("pack")
    benchmarks["pack"].write(folder, "tiny", tiny_grain(TINY_MOBILE), TINY_MOBILE.decoder.lr,
                             ("plain.float32", "fused.float32"), weights=True)
    return folder


def test_a_pack_holds_the_decoder_without_its_weights(benchmarks: dict[str, ModuleType], packed: Path) -> None:
    table = benchmarks["pack"].read_table(packed)
    assert (table["lr"], table["hr"]) == (8, 16)
    assert table["forms"] == ["plain.float32", "fused.float32"]
    numbers = sum(math.prod(tensor["shape"]) for tensor in table["tensors"])
    assert (packed / "float32.bin").stat().st_size == 4 * numbers == 2 * (packed / "float16.bin").stat().st_size
    inside = onnx.load(packed / "plain.float32.onnx", load_external_data=False).graph.initializer
    outside = [tensor for tensor in inside if tensor.data_location == onnx.TensorProto.EXTERNAL]
    left = sum(math.prod(tensor.dims) for tensor in inside if tensor not in outside)
    assert len(outside) > 50 and left < numbers / 20
    decoder = tiny_grain(TINY_MOBILE)
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        # Two builds of one network: kernels may add in another order.
        torch.testing.assert_close(benchmarks["pack"].load(packed)(x), decoder(x), atol=1e-5, rtol=1e-4)
    # Two operations per product of convolutions and linear layers.
    products = 0

    def count(module: torch.nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal products
        products += module.weight[0].numel() * output.numel()

    for module in decoder.decoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        decoder.decoder(x)
    assert table["flop"] > 2 * products > 0.1 * table["flop"]


def test_random_weights_have_the_packed_spread(
        benchmarks: dict[str, ModuleType], packed: Path, tmp_path: Path) -> None:
    table = {**json.loads((packed / "pack.json").read_text()), "filled": False}
    (tmp_path / "pack.json").write_text(json.dumps(table))
    benchmarks["pack"].fill(tmp_path)
    again = (tmp_path / "float32.bin").read_bytes()
    benchmarks["pack"].fill(tmp_path)
    assert (tmp_path / "float32.bin").read_bytes() == again != (packed / "float32.bin").read_bytes()
    found, expected = benchmarks["pack"].load(tmp_path).state_dict(), benchmarks["pack"].load(packed).state_dict()
    name = "decoder.scales.0.blocks.0.conv1.weight"
    assert found[name].std().item() == pytest.approx(expected[name].std().item(), rel=0.1)


def test_a_fused_graph_has_tensors_of_its_own(
        benchmarks: dict[str, ModuleType], packed: Path, tmp_path: Path) -> None:
    table = json.loads((packed / "pack.json").read_text())
    own = table["own_tensors"]["fused.float32"]
    numbers = sum(math.prod(tensor["shape"]) for tensor in own)
    assert (packed / "fused.float32.bin").stat().st_size == 4 * numbers
    model = onnx.load(packed / "fused.float32.onnx")  # with its weights
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weight = table["tensors"][0]
    assert weight["name"] == "decoder.conv_first.weight"
    assert held[weight["name"]].mean() == pytest.approx(weight["mean"], abs=1e-7)
    (tmp_path / "pack.json").write_text(json.dumps({**table, "filled": False}))
    benchmarks["pack"].fill(tmp_path)
    values = np.fromfile(tmp_path / "fused.float32.bin", np.float32)
    assert len(values) == numbers
    for tensor in own:  # none is beyond the real ones, so squares stay positive
        part, values = np.split(values, [math.prod(tensor["shape"])])
        assert tensor["least"] <= part.min() and part.max() <= tensor["largest"]
    reference = benchmarks["pack"].reference_form
    assert reference(table, "fused.float32") == "plain.float32"
    assert reference({**table, "filled": False}, "fused.float32") == "fused.float32"


def test_all_variants_compute_the_same(benchmarks: dict[str, ModuleType], packed: Path) -> None:
    results = {variant: benchmarks["decoder"].measure(variant, 1, packed, "cpu", 1, 0.01)
               for variant in ("torch-eager", "ort-plain", "session")}
    for result in results.values():
        assert 0 < result["ms"] and result["peak_mib"] > 50
    expected = np.load(packed / "torch-eager.npy")
    assert expected.shape == (1, 3, 16, 16) and expected.std() > 0.01
    assert np.abs(np.load(packed / "ort-plain.npy") - expected).max() < 1e-4 * np.abs(expected).max()
    nodes = benchmarks["decoder"].profiled_nodes(packed, 1, runs=1)
    assert nodes["moved_bytes"] > 1e6 and "Conv" in dict(nodes["kinds"])
    assert sum(share for _, share in nodes["kinds"]) == pytest.approx(1, abs=0.02)  # all of them, each rounded
    assert 0 < sum(share for _, share in nodes["nodes"]) < 1 and len(nodes["nodes"]) == benchmarks["decoder"].SLOWEST


@pytest.mark.parametrize("kernels", [True, False])
def test_the_session_takes_fused_ops_if_they_run(
        benchmarks: dict[str, ModuleType], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: bool
) -> None:
    from server_decoder import decoder_session
    from server_decoder.cuda_ops import library

    decoder, opened = benchmarks["decoder"], []

    class Session:
        def __init__(self, path: Path, *_: object, **__: object) -> None:
            opened.append(path.stem)

        def warm_up(self, batch: int) -> None:
            pass

    monkeypatch.setattr(library, "find_library", lambda: Path("library"))
    monkeypatch.setattr(library, "has_cuda_kernels", lambda _: kernels)
    monkeypatch.setattr(decoder_session, "DecoderSession", Session)
    table = {**json.loads((packed / "pack.json").read_text()), "forms": list(benchmarks["pack"].FORMS)}
    (tmp_path / "pack.json").write_text(json.dumps(table))
    for device in ("cuda", "cpu"):
        decoder.session_run(1, tmp_path, device, 1)
    assert opened == ["fused.float16" if kernels else "plain.float16", "plain.float32"]
    options = Namespace(variants="ort-fused-half,ort-plain-half", device="cuda")
    assert decoder.chosen_variants(options, table) == ["ort-fused-half"] * kernels + ["ort-plain-half"]


def test_ratios_are_of_one_precision(benchmarks: dict[str, ModuleType], packed: Path, tmp_path: Path) -> None:
    rows = [{"variant": variant, "batch": 1, "ms": ms} for variant, ms in (
        ("torch-compile", 4.0), ("ort-plain", 2.0), ("ort-fused", 2.0), ("ort-fused-half", 1.0))]
    table = benchmarks["pack"].read_table(packed)
    ratios = {device: benchmarks["decoder"].side_by_side(rows, 1, tmp_path, table, device)
              for device in ("cpu", "cuda")}
    assert ratios["cpu"] == {"ort_vs_torch_compile": 2.0, "fused_vs_plain": 1.0, "half_vs_float32": 2.0}
    assert ratios["cuda"] == {"half_ort_vs_torch_compile": 4.0, "fused_vs_plain": 1.0, "half_vs_float32": 2.0}


def test_what_cannot_be_measured_says_why(
        benchmarks: dict[str, ModuleType], packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = benchmarks["decoder"]
    assert "FileNotFoundError" in decoder.measured("session", 1, packed / "none", "cpu", 1, 0.01)["error"]

    def compiled(*arguments: object) -> None:  # what torch says without a compiler; asking it takes half a minute
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1 for more")

    monkeypatch.setattr(decoder, "torch_run", compiled)
    assert decoder.measured("torch-compile", 1, packed, "cpu", 1, 0.01) == {
        "error": "RuntimeError: InvalidCxxCompiler: No working C++ compiler found"}


def test_channels_last_halves_run_on_a_cpu_too(benchmarks: dict[str, ModuleType], packed: Path) -> None:
    assert "torch-half" in benchmarks["decoder"].VARIANTS["cpu"]
    assert benchmarks["decoder"].measured("torch-half", 1, packed, "cpu", 1, 0.01)["ms"] > 0


def test_a_report_grows_while_it_is_measured(
        benchmarks: dict[str, ModuleType], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, decoder = tmp_path / "deep" / "report.json", benchmarks["decoder"]
    seen: list[dict[str, object]] = []

    def in_own_process(script: str, arguments: list[str], limit: float) -> dict[str, object]:
        what = arguments[arguments.index("--measure") + 1]
        if what == "nodes:1":
            return {"moved_bytes": 1e6, "kinds": [["Conv", 1.0]], "nodes": []}
        seen.append(json.loads(out.read_text()) if out.is_file() else {})
        if what == "session:2":
            raise KeyboardInterrupt
        return {"error": "no compiler"} if what.startswith("torch-compile") else {"ms": 5.0 if "ort" in what else 10.0}

    monkeypatch.setattr(decoder, "in_own_process", in_own_process)
    monkeypatch.setattr(decoder, "copy_rate", lambda device, threads: 1e9)
    monkeypatch.setattr(decoder, "matmul_rate", lambda device, threads, kind: 1e12)
    monkeypatch.setattr(sys, "argv", [
        "decoder.py", "--packed", str(packed), "--batches", "1,2", "--variants",
        "torch-eager,ort-plain,torch-compile,session", "--out", str(out)])
    with pytest.raises(KeyboardInterrupt):
        decoder.main()
    assert [len(report.get("runs", ())) for report in seen] == list(range(8))
    kept = json.loads(out.read_text())
    assert kept["left"] == ["session in batches of 2"] and kept["ort_vs_torch_eager"] == 2.0
    section = "\n".join(benchmarks["performance_page"].decoder_section(kept, "the command"))
    assert ("Not measured: torch.compile, batch 1: no compiler; torch.compile, batch 2: no compiler; the run was "
            "interrupted before session in batches of 2."
            ) in section


def test_the_page_measures_what_a_cpu_can(
        benchmarks: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, ran = benchmarks["performance_page"], []

    def run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        ran.append(command)
        return subprocess.CompletedProcess(command, int("encoder" in command[1]))

    monkeypatch.setattr(page.subprocess, "run", run)
    assert page.measure(tuple(page.COMMANDS), tmp_path) == ["encoder-cpu"]
    assert [Path(command[-1]).stem for command in ran] == list(page.COMMANDS)
    assert {name for name, _, _ in page.SECTIONS if name.endswith("-cpu")} == set(page.COMMANDS)
    assert all(Path(command[1]).is_file() for command in ran)


def test_halves_are_referred_to_as_halves(benchmarks: dict[str, ModuleType]) -> None:
    decoder = random_decoder("grain-smoke").decoder.decoder
    served = served_decoder(decoder, half=True)
    graph = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [
        onnx.numpy_helper.from_array(tensor.numpy(), name) for name, tensor in served.state_dict().items()]))
    shapes = {name: tuple(tensor.shape) for name, tensor in decoder.state_dict().items()}
    benchmarks["pack"]._leave_weights(graph, shapes)
    last = [tensor for tensor in graph.graph.initializer if tensor.external_data][-1]
    entry = {item.key: item.value for item in last.external_data}
    before = list(shapes)[: list(shapes).index(last.name)]
    assert entry == {"location": "float16.bin", "length": str(2 * math.prod(last.dims)),
                     "offset": str(2 * sum(math.prod(shapes[name]) for name in before))}


def test_encoders_are_measured_on_both_runtimes(benchmarks: dict[str, ModuleType], tmp_path: Path) -> None:
    network = random_network()
    paths = export_encoder(network, tmp_path, ("tflite", "onnx"))
    for runtime, path in (("xnnpack", paths["tflite"]), ("onnx", paths["onnx"])):
        result = benchmarks["encoder"].measure(runtime, path, network.hr, 1, 0.01)
        assert result["ms"] > 0 and result["peak_mib"] > 50
    picture = np.random.default_rng(0).integers(0, 256, (1, network.hr, network.hr, 3), np.uint8)
    (found,) = benchmarks["encoder"].onnx_run(paths["onnx"], picture, 1)()
    assert np.array_equal(found, benchmarks["encoder"].tflite_run(paths["tflite"], picture, 1)())


def test_encoders_are_compared_with_as_many_threads(
        benchmarks: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = benchmarks["encoder"]
    monkeypatch.setattr(encoder, "prepare", lambda *_: {})
    monkeypatch.setattr(encoder, "in_own_process", lambda _, arguments, limit: {
        "ms": 8.0 if "official" in " ".join(arguments) else 2.0})
    report = encoder.compare(Namespace(threads=4, quick=False, sizes="256", limit=1), tmp_path, 0.01)
    assert {row["threads"] for row in report["runs"]} == {1, 4}
    assert report["exact_vs_official_encoder_xnnpack_256"] == 4.0


def test_peak_rates_are_those_of_a_number_of_threads(
        benchmarks: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    measurement, before, during = benchmarks["measurement"], torch.get_num_threads(), []

    def median_seconds(run: Callable[[], object], seconds: float) -> float:
        run()
        during.append(torch.get_num_threads())
        return 1.0

    monkeypatch.setattr(measurement, "median_seconds", median_seconds)
    monkeypatch.setattr(measurement, "_MATMUL_SIDE", {"cpu": 8})
    monkeypatch.setattr(measurement, "_COPY_BYTES", {"cpu": 8})
    assert measurement.matmul_rate("cpu", before + 1) == 2 * 8**3
    assert measurement.copy_rate("cpu", before + 2) == 2 * 8
    assert measurement.copy_rate("cpu") == 2 * 8
    assert during == [before + 1, before + 2, before] and torch.get_num_threads() == before


def test_measurements(benchmarks: dict[str, ModuleType], tmp_path: Path) -> None:
    measurement = benchmarks["measurement"]
    calls = []
    assert measurement.median_seconds(lambda: calls.append(0), 0.0, least=4) >= 0 and len(calls) == 6
    facts = measurement.circumstances("cpu", 1)
    assert facts["threads"] == 1 and facts["versions"]["torch"] and facts["commit"]
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint('noise')\nprint('{\"got\": \"' + sys.argv[1] + '\"}')\n")
    assert measurement.in_own_process(str(script), ["x"], 60) == {"got": "x"}
    script.write_text("raise SystemExit('out of luck')")
    assert measurement.in_own_process(str(script), [], 60) == {"error": "out of luck"}
    script.write_text("import time\ntime.sleep(60)")
    assert "took more than" in measurement.in_own_process(str(script), [], 0.2)["error"]


def report(**changes: object) -> dict[str, object]:
    facts = {"date": "2026-01-02", "machine": "Abacus", "cores": 2, "threads": 2, "device": "cpu", "commit": "abc",
             "versions": {"torch": "1"}, "matmul_tflops": 0.1, "matmul_type": "float32", "copy_gb_per_s": 8.0}
    return {**facts, **changes}


def test_the_page_shows_reports_and_names_what_is_missing(benchmarks: dict[str, ModuleType], tmp_path: Path) -> None:
    runs = [{"variant": "torch-eager", "batch": 1, "ms": 1500.0, "peak_mib": 300.0, "of_matmul": 0.25},
            {"variant": "ort-plain", "batch": 1, "ms": 750.0, "peak_mib": 4096.0, "of_matmul": 0.5, "of_copy": 0.75},
            {"variant": "ort-plain", "batch": 4, "error": "out of memory"}]
    (tmp_path / "decoder-1024-cpu.json").write_text(json.dumps(report(
        decoder="big", lr=16, hr=1024, parameters=82_270_000, gmac=1150.0, runs=runs, ort_vs_torch_eager=2.0,
        slowest={"kinds": [["Conv", 0.9]], "moved_bytes": 3e9}, largest_differences={"ort-plain": 2e-6})))
    sizes = [{"encoder": kind, "size": 1024, "runtime": "onnx", "threads": 2, "ms": ms, "peak_mib": 100.0}
             for kind, ms in (("official", 400.0), ("exact", 20.0))]
    (tmp_path / "encoder-cpu.json").write_text(json.dumps(report(
        runs=sizes, encoders={"1024": {"official": {"gmac": 16.5}, "exact": {"gmac": 0.5}}})))
    page = benchmarks["performance_page"].page(tmp_path)
    assert "| torch | 1.50 s |  | 25% | 300 MiB |" in page
    assert "| ONNX Runtime | 750.0 ms | failed | 50% | 4.0 GiB |" in page
    assert "ONNX Runtime is 2.0 times as fast as torch." in page
    unwrapped = " ".join(page.split())
    assert "3,000 MB per picture, at 75% of the copy rate. Largest shares of the time: Conv 90%." in unwrapped
    assert "| 1024² | ONNX Runtime | 2 | 400.0 ms | 20.0 ms | 20.0 | 100 MiB, 100 MiB |" in page
    assert "- A bundle's decoder at 256², on a CPU (`decoder-256-cpu.json`)" in page and "gpu_host.sh" in page
    assert "(`encoder-cpu.json`)" not in page
    origins = [line for line in unwrapped.split("`") if line.startswith("python benchmarks/speed/")]
    assert origins[1:] == ["python benchmarks/speed/decoder.py --config grain-1024-lr16-paper --batches 1",
                           "python benchmarks/speed/encoder.py"]  # the first one writes the page


def test_reports_of_gpus_name_their_command_and_precisions(
        benchmarks: dict[str, ModuleType], tmp_path: Path) -> None:
    runs = [{"variant": name, "batch": 1, "ms": 5.0, "peak_mib": 300.0} for name in ("torch-compile", "ort-plain")]
    (tmp_path / "decoder-1024.json").write_text(json.dumps(report(
        device="cuda", decoder="big", lr=16, hr=1024, parameters=1, gmac=1.0, runs=runs, slowest={},
        largest_differences={"ort-plain": 2e-6, "torch-compile": 3e-3})))
    page = benchmarks["performance_page"].page(tmp_path)
    assert "| torch.compile, float16 |" in page
    assert "by at most 2e-06 in [-1, 1], in float16 by 3e-03." in " ".join(page.split())
    assert "`benchmarks/gpu_host.sh` on 2026-01-02" in page


def test_the_page_in_the_repository_is_the_reports(benchmarks: dict[str, ModuleType], repository: Path) -> None:
    if not (repository / "results" / "performance").is_dir():
        pytest.skip("needs reports in results/performance")
    assert (repository / "docs" / "performance.md").read_text() == benchmarks["performance_page"].page()


def test_packs_are_measured_without_onnx(repository: Path, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "filled").mkdir()
    script = f"""
import sys
from argparse import Namespace
from pathlib import Path

sys.modules["onnx"] = sys.modules["PIL"] = None
sys.path[:0] = [{str(repository)!r}, {str(repository / "benchmarks" / "speed")!r}]
import decoder

folder = Path({str(tmp_path / "filled")!r})
decoder.prepare(Namespace(packed=Path({str(packed)!r})), folder)
for variant in ("torch-eager", "ort-plain", "session"):
    assert decoder.measure(variant, 1, folder, "cpu", 1, 0.01)["ms"] > 0
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_lrs_have_the_levels_of_payloads(
        benchmarks: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import export.decoder.export as sources

    step = 3
    source = replace(random_decoder("grain-smoke"), step=step)
    monkeypatch.setattr(sources, "find_decoder", lambda *_: source)
    monkeypatch.setattr(benchmarks["pack"], "write", lambda *_, **__: None)
    options = Namespace(packed=None, config="", bundle="", prior="", device="cpu")
    benchmarks["decoder"].prepare(options, tmp_path)
    lrs = np.load(tmp_path / "lrs.npy")
    assert lrs.dtype == np.uint8 and not (lrs % step).any()


def test_a_host_without_git_has_an_unknown_commit(
        benchmarks: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert benchmarks["measurement"].commit() == "unknown"


def test_the_script_for_gpu_hosts_is_a_shell_script(repository: Path) -> None:
    subprocess.run(["sh", "-n", str(repository / "benchmarks" / "gpu_host.sh")], check=True)
    help_text = subprocess.run([sys.executable, str(repository / "benchmarks" / "speed" / "decoder.py"), "--help"],
                               capture_output=True, text=True, check=True).stdout
    script = (repository / "benchmarks" / "gpu_host.sh").read_text()
    used = {word for line in script.splitlines() if line.startswith(("step decoder", "  --")) for word in line.split()
            if word.startswith("--")} - {"--side", "--batch", "--read"}
    assert {"--packed", "--budget", "--variants"} <= used and all(option in help_text for option in used)
