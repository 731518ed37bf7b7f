"""The Python and shell samples of all pages run in their order, in a folder with the reader's pictures and old results:
a sample that would not replace what it has written fails.

A block that cannot run here follows a comment, ``<!-- not run: REASON -->``, with one of `REASONS`; it is reported as
skipped. Its commands and options are checked by ``test_documented_commands.py``.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import sdk
from edgegrain.__main__ import app as edgegrain
from tests.programs import ROOT, run
from tests.service_harness import SOON, LiveService, live_service

OTHERS = ("README.md", "CONTRIBUTING.md", "zoo/README.md", "edgegrain/cli/authoring/device_kit.md")
PAGES = [
    *(ROOT / name for name in OTHERS),
    *sorted(path for folder in ("docs", "experiments") for path in (ROOT / folder).glob("*.md")),
    *sorted((ROOT / "bundles").glob("*/README.md")),
    *sorted(path for path in (ROOT / "clients").rglob("README.md") if "node_modules" not in path.parts),
]
NEEDED = "Docker|Node|Xcode or Gradle|a GPU|a CUDA toolkit|a cluster|Buildah|c2patool|other weights|your pictures"
REASONS = (
    rf"downloads files|installs packages|needs ({NEEDED})|runs (in the clone|until it is stopped)|takes (hours|minutes)"
)
RESULT = r"[\w.-]+\.(?:grain|jpg|multipart|png|tflite|webp)\b"
ADDRESS = "http://127.0.0.1:8000"
MARK = r"<!-- not run: (.*?) -->"


class Block(NamedTuple):
    """A sample of a page, and the reason why it is not run, if there is one."""

    place: str
    language: str
    code: str
    reason: str | None


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    fences = rf"(?:^ *{MARK}\n)?^ *```(python|sh|bash|console)\n(.*?)^ *```$"
    for match in re.finditer(fences, text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start(2)) + 1
        yield Block(f"{name_of(page)}:{line}", match[2], match[3], match[1])


SAMPLES = {page: list(blocks(page)) for page in PAGES}


def to_run(page: Path) -> list[Block]:
    return [block for block in SAMPLES[page] if block.reason is None]


@pytest.fixture(scope="module")
def service(default_bundle: Path) -> Iterator[LiveService]:
    with live_service(default_bundle, deadline=SOON, batch_sizes="1", page=False) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, portrait_path: Path, default_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a portrait and a group photograph in two sizes."""
    place = tmp_path / "reader"
    place.mkdir()
    shutil.copy(portrait_path, place / "me.jpg")
    group = Image.new("RGB", (500, 400), (120, 130, 110))
    with Image.open(portrait_path) as portrait:
        group.paste(portrait.rotate(10, Image.Resampling.BICUBIC, fillcolor=(120, 130, 110)), (180, 90))
    group.save(place / "group.jpg", quality=95)
    group.resize((250, 200), Image.Resampling.LANCZOS).save(place / "small-group.jpg")
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page)], ids=name_of)
def test_the_samples_run_in_order(page: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    samples = to_run(page)  # `run_block` asserts the status of each
    assert samples
    text = "".join(block.code for block in samples)
    if "curl " in text and not shutil.which("curl"):
        pytest.skip("needs curl")
    if name_of(page) == "README.md":
        shutil.copy(ROOT / "edgegrain" / "demo" / "astronaut.jpg", folder / "me.jpg")
    address = request.getfixturevalue("service").url if ADDRESS in text else ADDRESS
    for name in [*re.findall(RESULT, text), "me.grain", "group.grain"]:
        if not (folder / name).exists():
            (folder / name).write_bytes(b"of an earlier run")
    for block in samples:
        run_block(block, block.code.replace(ADDRESS, address))
    RESULTS.get(name_of(page), lambda folder: None)(folder)


LEFT_OUT = [block for page in PAGES for block in SAMPLES[page] if block.reason]


@pytest.mark.parametrize("block", LEFT_OUT, ids=lambda block: block.place)
def test_samples_that_are_not_run_say_why(block: Block) -> None:
    assert re.fullmatch(REASONS, block.reason or ""), f"{block.place}: {block.reason!r} is none of {REASONS}"
    pytest.skip(f"not run: {block.reason}")


def test_every_mark_belongs_to_a_block() -> None:
    for page in PAGES:
        marks = re.findall(rf"^ *{MARK}$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert marks == [block.reason for block in SAMPLES[page] if block.reason], name_of(page)
    assert sum(len(to_run(page)) for page in PAGES) >= 15


def run_block(block: Block, code: str) -> None:
    if block.language == "python":
        exec(compile(code, block.place, "exec"), {"__name__": "__main__"})  # noqa: S102 - our own page
        return
    lines = code.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    elif re.search(r"^(export )?\w+=", code, re.MULTILINE):  # later lines use the variables
        lines = [code]
    for line in filter(str.strip, lines):
        words = shlex.split(line, comments=True)
        if words[:1] == ["edgegrain"] and not re.search(r"[|&;<>*$\n]", line.partition("#")[0]):
            trains = words[1] == "train"
            assert not trains or "--resume" in words, f"{block.place}: {line} refuses to run again"
            shorter = ["--pictures", "16"] if trains else []  # trial runs take a minute each
            with pytest.raises(SystemExit) as left:
                edgegrain([*words[1:], *shorter])
            assert not left.value.code, f"{block.place}: {line}"
        else:  # curl fails on status codes from 400
            run(["bash", "-ec", f'curl() {{ command curl --fail --no-progress-meter "$@"; }}\n{line}'])


def image_sizes(folder: Path, *names: str) -> list[tuple[str | None, tuple[int, int]]]:
    """Format and size of pictures."""
    found = []
    for name in names:
        with Image.open(folder / name) as image:
            found.append((image.format, image.size))
    return found


def check_readme(folder: Path) -> None:
    one, scene = sdk.Payload((folder / "me.grain").read_bytes()), sdk.Scene((folder / "scene.grain").read_bytes())
    assert one.fit == "align" and bytes(one) == bytes(sdk.compress(folder / "me.jpg"))
    assert bytes(scene) == bytes(sdk.compress_scene(folder / "me.jpg", max_bytes=1500)) and 1400 < len(scene) <= 1500
    assert image_sizes(folder, "photograph.png", "large.png") == [("PNG", (512, 512)), ("PNG", (1024, 1024))]
    expected = np.asarray(sdk.restore(one)).astype(int)
    for name in ("face.png", "served.png", "remote.png"):
        with Image.open(folder / name) as image:  # decoded in floats by three sessions
            assert np.abs(np.asarray(image) - expected).max() <= 1, name


def check_devices(folder: Path) -> None:
    payload = sdk.compress(folder / "me.jpg")
    assert (folder / "me.grain").read_bytes() == payload == (folder / "same.grain").read_bytes()
    found = image_sizes(folder, "me.webp", "restored.png", "preview.png")
    assert found == [("WEBP", (256, 256)), ("PNG", (256, 256)), ("PNG", (16, 16))]


def check_faces(folder: Path) -> None:
    square = sdk.inspect(folder / "group.grain").square
    assert square is not None
    found = image_sizes(folder, "face.png", "whole.png", "photograph.png")
    assert found == [("PNG", (square.side, square.side)), ("PNG", (250, 200)), ("PNG", (500, 400))]
    assert (folder / "group.1.grain").read_bytes() == (folder / "group.grain").read_bytes()


def check_service(folder: Path) -> None:
    assert image_sizes(folder, "me.png", "me.webp") == [("PNG", (256, 256)), ("WEBP", (256, 256))]
    encoder = ROOT / "bundles/faces-256-lr16-small/encoder.tflite"
    assert (folder / encoder.name).read_bytes() == encoder.read_bytes()


def check_training(folder: Path) -> None:
    for name in ("trial", "trial-2", "trial-irn"):
        assert (folder / "runs" / name / "samples.png").is_file(), name


RESULTS = {
    "README.md": check_readme,
    "docs/devices.md": check_devices,
    "docs/faces.md": check_faces,
    "docs/service.md": check_service,
    "docs/training.md": check_training,
}
"""Page -> check of the files that its samples wrote."""
