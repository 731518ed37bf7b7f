"""All modules of the Android client compile, against stubs of the Android SDK, which is not needed."""

import re
import shutil
from pathlib import Path

import pytest

from tests.programs import run


def test_all_modules_compile_against_stubs(repository: Path, tmp_path: Path) -> None:
    if not shutil.which("javac"):
        pytest.skip("needs a JDK: javac")
    client = repository / "clients" / "android"
    stubs = _write_stubs((Path(__file__).parent / "android_stubs.txt").read_text(), tmp_path)
    strings = client / "sample" / "src" / "main" / "res" / "values" / "strings.xml"
    stubs.append(_write_resources(strings.read_text(), tmp_path))
    modules = [file for name in ("core", "litert", "sample") for file in (client / name).glob("src/main/**/*.java")]
    options = ["-Xlint:all,-options", "-Werror", "--release", "8", "-d", tmp_path / "out"]
    compiler = ["javac", "-J-XX:TieredStopAtLevel=1"]  # it runs for a second, and need not be optimized
    run([*compiler, *options, *stubs, *modules])


def _write_stubs(text: str, folder: Path) -> list[Path]:
    """Write a file per public class, as javac requires it; returns the files."""
    files = []
    for package, classes in re.findall(r"^package ([\w.]+);\n(.*?)(?=^package |\Z)", text, re.MULTILINE | re.DOTALL):
        for source in re.split(r"^(?=public )", classes, flags=re.MULTILINE)[1:]:
            files.append(folder / package / f"{source.split()[2]}.java")
            files[-1].parent.mkdir(exist_ok=True)
            files[-1].write_text(f"package {package};\n{source}")
    return files


def _write_resources(strings: str, folder: Path) -> Path:
    """Write the class R of the sample's strings."""
    fields = "".join(f" public static final int {name} = 0;" for name in re.findall(r'<string name="(\w+)"', strings))
    file = folder / "R.java"
    file.write_text(f"package dev.edgegrain.sample; public class R {{ public static class string {{{fields} }} }}")
    return file
