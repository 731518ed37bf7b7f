"""No file of 16 MB takes more than 2 s of a core or 600 MB, whatever it holds: files that try to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import pictures
from tests.pictures import encoded

SECONDS, MEGABYTES = 2.0, 600
SLACK = 2.5
"""Cores of machines that do something else too are slower."""

MEASURE = """
import json, sys, time
from codec_contract.errors import ImageError
from edge_encoder.preprocessing import load_picture, readable_formats

def memory(kind):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024

readable_formats()
for path in sys.argv[1:]:
    open("/proc/self/clear_refs", "w").write("5")
    before, start = memory("VmRSS"), time.process_time()
    try:
        outcome = str(load_picture(path).shape)
    except ImageError as error:
        outcome = str(error)
    print(json.dumps([path, time.process_time() - start, memory("VmHWM") - before, outcome]))
"""


def flat(kind: str, mode: str, width: int, height: int, **options: Any) -> bytes:
    return encoded(Image.new(mode, (width, height)), kind, **options)


def noise(kind: str, width: int, height: int, **options: Any) -> bytes:
    return encoded(pictures.noise(width, height), kind, **options)


def files() -> dict[str, bytes]:
    lossless = {"lossless": True, "method": 0, "quality": 0}
    return {
        "grey16.png": flat("PNG", "I;16", 12_000, 9_000, compress_level=1),
        "large.png": flat("PNG", "RGBA", 12_000, 7_000, compress_level=1),
        "clear.gif": flat("GIF", "P", 12_000, 9_000, transparency=0),
        "flat.avif": flat("AVIF", "RGB", 5_500, 5_000, speed=10),
        "flat.webp": flat("WEBP", "RGB", 5_500, 5_000, **lossless),
        "large.webp": flat("WEBP", "RGB", 5_600, 5_000, **lossless),
        "noise.jpg": noise("JPEG", 2_400, 2_000, progressive=True), "flat.jpg": flat("JPEG", "RGB", 9_000, 6_000),
        "flat.jp2": flat("JPEG2000", "RGB", 4_900, 5_000), "large.jp2": flat("JPEG2000", "RGB", 5_100, 5_000),
    }


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory as Linux reports it")
def test_time_and_memory(tmp_path: Path) -> None:
    for name, data in (costly := files()).items():
        assert len(data) <= 16 << 20
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", MEASURE, *(str(tmp_path / name) for name in costly)]
    measured = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    for line in measured.stdout.splitlines():
        path, seconds, megabytes, outcome = json.loads(line)
        assert seconds < SLACK * SECONDS and megabytes < MEGABYTES, (Path(path).name, seconds, megabytes, outcome)
        assert ("only JPEG files may have more than" in outcome) is (Path(path).stem == "large"), (path, outcome)
