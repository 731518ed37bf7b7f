"""The clients in other languages: their golden files are what Python computes, and their own tests pass."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.programs import run


def test_golden_files_are_what_python_computes(repository: Path, default_bundle: Path) -> None:
    from tests.golden.regenerate_clients import golden_files

    files, stored = golden_files(), repository / "tests" / "golden" / "clients"
    assert {path.name for path in stored.iterdir()} == set(files)
    for name, data in files.items():
        assert (stored / name).read_bytes() == data, f"{name} is not what Python computes"


def test_the_java_client(repository: Path, tmp_path: Path) -> None:
    """Run `make test-android` in a folder of its own: workers of the test suite share none."""
    if not (shutil.which("javac") and shutil.which("java")):
        pytest.skip("needs a JDK: javac and java")
    sources = sorted((repository / "clients" / "android" / "core" / "src").rglob("*.java"))
    quick = "-J-XX:TieredStopAtLevel=1"  # a compiler that runs for a second need not be optimized
    run(["javac", quick, "-Xlint:all,-options", "-Werror", "--release", "8", "-d", tmp_path, *sources])
    tested = run(["java", "-cp", tmp_path, "dev.edgegrain.ClientTests", repository])
    assert re.search(r"^(\d+) of \1 tests passed", tested, re.MULTILINE)


def test_the_web_client(repository: Path, tmp_path: Path) -> None:
    """Run `make test-web` on a copy next to links to the files it reads: packages stay out of the checkout."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs Node and npm")
    version = run(["node", "--version"])
    if int(re.findall(r"\d+", version)[0]) < 20:
        pytest.skip(f"needs Node 20 or later, found {version.strip()}")
    web = tmp_path / "clients" / "web"
    shutil.copytree(repository / "clients" / "web", web, ignore=shutil.ignore_patterns("node_modules", "dist"))
    for name in ("bundles", "codec_contract", "edge_encoder", "edgegrain", "tests"):
        (tmp_path / name).symlink_to(repository / name)
    install = ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"]
    installed = subprocess.run(install, cwd=web, capture_output=True, text=True, timeout=600)
    if installed.returncode and re.search("ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENETUNREACH", installed.stderr):
        pytest.skip("needs the npm registry, which cannot be reached")
    assert installed.returncode == 0, installed.stdout + installed.stderr
    run(["npm", "test"], web)
