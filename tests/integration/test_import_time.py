"""``import sdk`` is light: no training or export library, no run time before it is needed, quick, no telemetry."""

import json
import sys
from pathlib import Path

import pytest

from tests.programs import run

LIBRARIES = {"torch", "tensorflow", "coremltools", "pydantic", "onnx", "ai_edge_litert", "safetensors"}
HEAVY = LIBRARIES | {"typer", "rich", "scipy", "edgegrain.training", "edgegrain.evaluation", "edgegrain.cli", "export"}


def loaded_after(program: str) -> set[str]:
    listing = "import json, sys\nprint(json.dumps(sorted(sys.modules)))"
    return set(json.loads(run([sys.executable, "-c", f"{program}\n{listing}"])))


def test_import_loads_nothing_heavy() -> None:
    modules = loaded_after("import sdk")
    assert {"sdk", "numpy", "PIL.Image"} <= modules
    assert modules.isdisjoint({*HEAVY, "onnxruntime", "httpx", "asyncio"})


def test_a_round_trip_loads_nothing_heavy(tmp_path: Path) -> None:
    from tests.tiny_bundle import HR, write_tiny_bundle

    folder = write_tiny_bundle(tmp_path)
    modules = loaded_after(
        f"import numpy, sdk\ncodec = sdk.Codec({str(folder)!r})\n"
        f"payload = codec.compress(numpy.zeros(({HR}, {HR}, 3), numpy.uint8))\n"
        f"assert codec.restore(payload).size == ({HR}, {HR})"
    )
    assert "onnxruntime" in modules
    assert modules.isdisjoint(HEAVY)


def test_editing_a_bundle_needs_no_torch() -> None:
    assert "torch" not in loaded_after("import edgegrain.cli.bundles, export.bundle.writer")


def test_import_takes_less_than_half_a_second() -> None:
    # Processor time of the import alone, in one of six tries: a busy machine must not fail the test.
    program = "import time; start = time.process_time(); import sdk; print(time.process_time() - start)"
    assert any(float(run([sys.executable, "-c", program])) < 0.5 for _ in range(6))


def test_onnx_runtime_writes_no_device_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime writes a device id and a queue of events into the user's cache folder where telemetry is on."""
    for hidden in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(hidden, raising=False)
    code = "import numpy, sdk; print(len(sdk.compress(numpy.zeros((256, 256, 3), numpy.uint8), align=False)))"
    run([sys.executable, "-c", code], tmp_path, HOME=str(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
