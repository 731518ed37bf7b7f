"""The SDK keeps ONNX Runtime from reporting its use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_onnx_runtime_writes_no_device_id(tmp_path: Path) -> None:
    """ONNX Runtime writes a device id and a queue of events into the user's cache folder where telemetry is on."""
    hidden = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {
        "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    code = "import numpy, sdk; print(len(sdk.compress(numpy.zeros((256, 256, 3), numpy.uint8), align=False)))"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path, capture_output=True)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
