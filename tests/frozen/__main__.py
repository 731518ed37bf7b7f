"""Record what users see, and compare it later: python -m tests.frozen record|check [PART ...] [--data DATA]

Records lie next to this file. They change only together with a line of the CHANGELOG that names what is dropped:
nothing that a user sees changes while the project is rebuilt. `uses.md` lists what a user can do, with the tests.

    signatures   of `sdk.__all__` and of the public methods of its classes
    commands     the help of every command
    http         OpenAPI, and answers to malformed requests over raw sockets
    golden       SHA-256 of all golden files
    payloads     of 200 pictures (DATA), whole and with their faces cut out
    restored     16 of them, every eighth pixel; equal within a level
    evaluation   `edgegrain evaluate` on 16 faces
    proof        `python -m export.mobile --quick`: differing bytes of each runtime

DATA, ../shared/data by default, is not published; parts that need it say so and are left out.
"""

import argparse
import hashlib
import inspect
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import typer
from typer.testing import CliRunner

import sdk
from edge_encoder.preprocessing import load_picture
from edgegrain.cli.app import application
from edgegrain.pictures.stored_pictures import list_pictures

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
FACES, OTHERS = 60, 140
PORTRAIT = ROOT / "edgegrain" / "demo" / "portrait.jpg"

_GET, _POST = b"GET /livez HTTP/1.1\r\nHost: a\r\n", b"POST /v1/restore HTTP/1.1\r\nHost: a\r\n"
REQUESTS = {
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two lengths": _POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "length and chunks": _POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length not a number": _POST + b"Content-Length: x\r\n\r\nabc",
    "unknown encoding": _POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "bad chunk": _POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "header of 70 kB": _GET + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "200 headers": _GET + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n",
    "path of 9 kB": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "no method": b"\x00\x01\x02\r\n\r\n",
    "header without colon": _GET + b"broken\r\n\r\n",
    "space before colon": _GET + b"X : 1\r\n\r\n",
    "HTTP/3.0": b"GET /livez HTTP/3.0\r\nHost: a\r\n\r\n",
    "no payload": _POST + b"Content-Type: application/vnd.edgegrain\r\nContent-Length: 3\r\n\r\nabc",
    "unknown path": b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n",
    "wrong method": b"DELETE /v1/bundles HTTP/1.1\r\nHost: a\r\n\r\n",
    "body of 40 MB": b"POST /v1/compress HTTP/1.1\r\nHost: a\r\nContent-Length: 40000000\r\n\r\n",
}


def signatures(data: Path) -> dict[str, Any]:
    """Name -> signature; for classes also those of their public methods and properties."""
    found: dict[str, Any] = {}
    for name in sorted(sdk.__all__):
        thing = getattr(sdk, name)
        found[name] = _signature(thing)
        if inspect.isclass(thing):
            bases = [base for base in thing.__mro__ if base is thing or base.__name__.startswith("_")]
            for member in sorted({member for base in bases for member in vars(base)}):
                if not member.startswith("_"):
                    value = getattr(thing, member)
                    found[f"{name}.{member}"] = _signature(value) if callable(value) else "attribute"
    return found


def _signature(thing: Any) -> str:
    try:
        return str(inspect.signature(thing))
    except ValueError:  # an exception
        return "(...)"


def commands(data: Path) -> dict[str, str]:
    """Words of a command -> its help."""

    def walk(group: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, command in getattr(group, "commands", {}).items():
            yield from walk(command, (*path, name))

    runner = CliRunner()
    return {
        " ".join(path): runner.invoke(application, [*path, "--help"], env={"COLUMNS": "120"}).output
        for path in sorted(walk(typer.main.get_command(application), ()))
    }


def http(data: Path) -> dict[str, Any]:
    """OpenAPI, and the status line of each answer to `REQUESTS`."""
    from edgegrain.service.app import create_app
    from edgegrain.service.settings import Settings

    answers = {}
    command = [sys.executable, "-m", "edgegrain", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        port = 0
        for line in process.stderr:
            if "http://127.0.0.1:" in line:
                port = int(line.partition("http://127.0.0.1:")[2].split('"')[0].split()[0].strip("/,. )"))
            if "ready" in line and port:
                break
        for name, request in REQUESTS.items():
            with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
                try:
                    connection.sendall(request)
                    answers[name] = connection.recv(4096).split(b"\r\n")[0].decode("latin-1")
                except OSError as error:
                    answers[name] = type(error).__name__
        process.terminate()
    return {"openapi": create_app(Settings()).openapi(), "answers": answers}


def golden(data: Path) -> dict[str, str]:
    """Golden file -> SHA-256."""
    folder = ROOT / "tests" / "golden"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.suffix.startswith(".py")]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _pictures(data: Path) -> list[Path]:
    faces = list_pictures(data / "dev_eval" / "faces_256")[:FACES]
    others = [path for name in ("kodak", "churches", "cats") for path in list_pictures(data / "dev_eval" / name)]
    return [PORTRAIT, ROOT / "edgegrain" / "demo" / "astronaut.jpg", *faces, *others[:OTHERS]]


def payloads(data: Path) -> dict[str, list[str]]:
    """Picture -> SHA-256 of the payload of all of it, and of its face."""
    codec, found = sdk.Codec("faces", threads=1), {}
    for path in _pictures(data):
        rgb = load_picture(path)
        try:
            face = hashlib.sha256(codec.compress(rgb)).hexdigest()
        except sdk.ImageError as error:
            face = str(error).split(";")[0]
        found[path.name] = [hashlib.sha256(codec.compress(rgb, align=False)).hexdigest(), face]
    return found


def restored(data: Path) -> dict[str, list[Any]]:
    """Picture -> every eighth pixel of the restored square."""
    codec = sdk.Codec("faces", threads=1, form="default")  # int8 rounds otherwise on other processors
    return {
        path.name: np.asarray(codec.restore(codec.compress(path, align=False), size="native"))[::8, ::8].tolist()
        for path in _pictures(data)[:16]
    }


def evaluation(data: Path) -> dict[str, Any]:
    """The means of an evaluation, rounded to three decimals: floats differ between machines."""
    with tempfile.TemporaryDirectory() as folder:
        faces, weights = data / "dev_eval" / "faces_256", data.parent / "weights"
        command = [
            "evaluate",
            f"--data={faces}",
            f"--weights={weights}",
            "--baselines=none",
            "--no-curves",
            "--limit=16",
            "--form=default",
            f"--out={folder}/out",
            f"--cache={folder}/cache",
            "--json",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "edgegrain", *command], capture_output=True, text=True, check=True, cwd=ROOT
        )
    means: dict[str, Any] = json.loads(done.stdout)["means"]
    return {
        method: {score: value if value is None else round(value, 3) for score, value in scores.items()}
        for method, scores in means.items()
    }


def proof(data: Path) -> dict[str, Any]:
    """Runtime -> differing bytes of the exported encoder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "export.mobile", "--quick", "--out", f"{folder}/dist"]
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
        report = json.loads(next(Path(folder).rglob("report.json")).read_text())
    return {
        str(row.get("runtime", row.get("name"))): row.get("differing_bytes", row.get("differing"))
        for row in report["runtimes"]
    }


PARTS: dict[str, Callable[[Path], Any]] = {
    part.__name__: part for part in (signatures, commands, http, golden, payloads, restored, evaluation, proof)
}


def differences(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Places where two records differ; levels of `restored` may differ by one."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            if key not in before or key not in after:
                yield f"{place}/{key}: {'new' if key not in before else 'gone'}"
            else:
                yield from differences(before[key], after[key], f"{place}/{key}")
    elif place.startswith("restored/"):
        if np.abs(np.array(before) - np.array(after)).max() > 1:
            yield f"{place}: differs by more than a level"
    elif before != after:
        yield f"{place}: {str(before)[:200]!r} -> {str(after)[:200]!r}"


def main() -> int:
    """Record or check the parts of the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("record", "check"))
    parser.add_argument("parts", nargs="*", choices=(*PARTS, []), help="default: all")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    changed = 0
    for part in arguments.parts or PARTS:
        if part in ("payloads", "restored", "evaluation") and not arguments.data.is_dir():
            print(f"{part}: left out, {arguments.data} is missing")
            continue
        found, record = json.loads(json.dumps(PARTS[part](arguments.data))), FOLDER / f"{part}.json"
        if arguments.verb == "record":
            record.write_text(json.dumps(found, indent=None if part == "restored" else 1, sort_keys=True) + "\n")
            print(f"{part}: recorded")
            continue
        lines = list(differences(json.loads(record.read_text()), found, part))
        print(f"{part}: {len(lines)} differences", *lines[:50], sep="\n  ")
        changed += len(lines)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
