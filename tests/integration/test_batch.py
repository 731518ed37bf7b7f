"""``edgegrain batch`` as a process: 320 pictures; killed in parts and whole, interrupted, continued, and done."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.payload import parse_payload
from tests.process_tree import command_line, cpu_ticks, descendants
from tests.tiny_bundle import HR, write_tiny_bundle

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray: pip install 'edgegrain[ray]'"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]

ROOT = Path(__file__).resolve().parents[2]
PICTURES, DAMAGED = 800, 7
PATIENCE = 300.0  # seconds for what takes ten on a quiet machine: Ray's start, mostly
RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Processes that touch no payload; when Ray is killed they look for it for a minute, so the test ends them."""
Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture(scope="module")
def start(place: Path) -> Iterator[Start]:
    """Starts a run in a folder whose modules nothing imports, and ends those that a failing test leaves behind."""
    runs = []
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "edge_encoder.py").write_text("raise ImportError")
    command = [sys.executable, "-P", "-m", "edgegrain", "batch", str(place / "in"), str(place / "out"), "--json"]
    command += ["--bundle", str(place / "bundle"), "--workers", "2", "--batch-size", "4"]

    def start() -> subprocess.Popen[str]:
        run = subprocess.Popen(
            command,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=place / "elsewhere",
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells let background jobs ignore it
            start_new_session=True,  # a process group of its own, as a shell makes one for what Ctrl-C is to end
        )
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.kill()


def files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def reach(run: subprocess.Popen[str], out: Path, least: int) -> None:
    """Wait until a run has written so many payloads."""

    def written() -> int:  # os.walk passes over a folder that the run has just removed
        return sum(name.endswith(".grain") for _, _, names in os.walk(out) for name in names)

    wait(lambda: run.poll() is not None or written() >= least)
    if run.poll() is not None:
        _, stderr = run.communicate()
        if "Ray did not start" in stderr:
            pytest.skip(f"this machine is too busy for Ray: {stderr.strip()}")
        raise AssertionError(f"the run ended early: {stderr}")


def worker(run: int) -> int:
    """The worker of a run that has worked longest: killing one that still starts ends the run."""
    return max((pid for pid in descendants(run) if command_line(pid).startswith("ray::Worker")), key=cpu_ticks)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``in`` with pictures in two folders and seven damaged ones among them; a bundle."""
    place = tmp_path_factory.mktemp("batch")
    write_tiny_bundle(place, "bundle")
    random = np.random.default_rng(2)
    for folder in ("a", "b/c"):
        (place / "in" / folder).mkdir(parents=True)
    for index in range(PICTURES):
        rgb = random.integers(0, 256, (4 * HR + index % 9, 4 * HR, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(place / "in" / ("a" if index % 2 else "b/c") / f"{index:03}.png", compress_level=0)
    for index in range(DAMAGED):
        data = (place / "in" / "a" / f"{20 * index + 1:03}.png").read_bytes()
        (place / "in" / "a" / f"{20 * index:03}-cut.png").write_bytes(data[: index * 50])
    return place


def whole_payloads(out: Path) -> dict[str, int]:
    """Name -> when it was written, of the payloads; their lengths and CRCs are checked: nothing is half there."""
    found = {name: path for name, path in files(out).items() if name.endswith(".grain")}
    for path in found.values():
        parse_payload(path.read_bytes())
    return {name: path.stat().st_mtime_ns for name, path in found.items()}


@pytest.fixture(scope="module")
def killed(place: Path, start: Start) -> dict[str, int]:
    """The payloads of a run that lost two workers, and was killed itself."""
    out, run = place / "out", start()
    for least in (20, 50):
        reach(run, out, least)
        os.kill(worker(run.pid), signal.SIGKILL)
    reach(run, out, 80)
    processes = descendants(run.pid)
    agents = [pid for pid in processes if command_line(pid).startswith(RAY_AGENTS)]
    run.kill()
    assert run.wait(PATIENCE) == -signal.SIGKILL
    wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes if pid not in agents))
    for pid in agents:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return whole_payloads(out)


@pytest.fixture(scope="module")
def interrupted(place: Path, start: Start, killed: dict[str, int]) -> dict[str, int]:
    """The payloads after the second run, which Ctrl-C ended."""
    run = start()
    reach(run, place / "out", len(killed) + 1)
    os.killpg(run.pid, signal.SIGINT)  # Ctrl-C, at once: a fast machine needs a second for the rest
    processes = descendants(run.pid)
    stdout, stderr = run.communicate(timeout=PATIENCE)
    wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
    assert (run.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-1] == "interrupted; every file is either whole or not there"
    return whole_payloads(place / "out")


def test_a_killed_run_leaves_whole_payloads(killed: dict[str, int]) -> None:
    assert 80 <= len(killed) < PICTURES


def test_an_interrupted_run_goes_on_and_leaves_whole_payloads(
    place: Path, killed: dict[str, int], interrupted: dict[str, int]
) -> None:
    assert len(killed) < len(interrupted) < PICTURES and killed.items() <= interrupted.items()
    assert files(place / "out").keys() - {"failures.jsonl"} == interrupted.keys()  # nor anything half done


def test_the_last_run_completes_what_the_others_left(place: Path, start: Start, interrupted: dict[str, int]) -> None:
    out, early, run = place / "out", interrupted, start()
    stdout, stderr = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1, stderr
    summary = json.loads(stdout)
    assert (summary["verb"], summary["skipped"]) == ("compress", len(early))
    assert (summary["done"], summary["failed"]) == (PICTURES - len(early), DAMAGED)
    assert early.items() <= whole_payloads(out).items()
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert {failure["name"] for failure in failures} == {f"a/{20 * index:03}-cut.png" for index in range(DAMAGED)}
    assert all(failure["error"] for failure in failures)
    lines = stderr.splitlines()  # and none of Ray's
    assert len([line for line in lines if line.startswith("error: a/")]) == DAMAGED == len(lines) - 1
    assert lines[-1] == f"{DAMAGED} of {summary['done'] + DAMAGED} failed; all are in {out / 'failures.jsonl'}"
    codec = sdk.Codec(place / "bundle")
    expected = {f"{name}.grain" for name in files(place / "in") if "cut" not in name}
    assert files(out).keys() == expected | {"failures.jsonl"}
    for name in sorted(expected)[::7]:
        assert (out / name).read_bytes() == codec.compress(place / "in" / name.removesuffix(".grain"))
