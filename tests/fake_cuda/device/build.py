"""Builds the fake CUDA libraries for a CUDA provider of ONNX Runtime: all functions that it needs."""

import re
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent
RUNTIME = ("journal.cc", "memory.cc", "stream.cc", "runtime.cc")
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread")
LOADED_LATER = {"libcudnn.so.9": "cudnn"}
"""Libraries that the provider may load by name, and the prefix of the functions that it looks up in them."""


class Unavailable(Exception):
    """Something that the fake CUDA needs cannot be had here; the message says what."""


def build_libraries(provider: Path, folder: Path) -> None:
    """Build libcudart, libcublas, libcudnn and the others into a folder, under the names the provider asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    functions = _functions(provider)
    runtime = next(name for name in functions if name.startswith("libcudart"))
    version = f"-DFAKE_CUDA_VERSION={13000 if runtime.endswith('.13') else 12080}"
    _build(folder, runtime, functions.pop(runtime), RUNTIME, [version])
    for name, needed in functions.items():
        stem = name.split(".")[0]
        files = {"libcudnn": "cudnn.cc", "libcublas": "cublas.cc", "libcublasLt": "cublas.cc", "libcuda": "driver.cc"}
        sources = [files[stem]] if stem in files else []
        flags = [version, *(["-DFAKE_CUBLAS_LT"] if stem == "libcublasLt" else [])]
        _build(folder, name, needed, sources, [*flags, str(folder / runtime)])


def _functions(provider: Path) -> dict[str, set[str]]:
    """Library -> the functions that the provider takes from it."""
    dynamic = _output("readelf", "--dynamic", "--wide", str(provider))
    needed: dict[str, set[str]] = {name: set() for name in re.findall(r"\[(lib(?:cu|nv)[^\]]*)\]", dynamic)}
    needed.setdefault("libcuda.so.1", set())
    for line in _output("nm", "--dynamic", "--undefined-only", str(provider)).splitlines():
        name, _, library = line.split()[-1].partition("@")
        if library in needed:
            needed[library].add(name)
        elif re.match(r"cu[A-Z]", name):
            needed["libcuda.so.1"].add(name)
    content = provider.read_bytes()
    for library, prefix in LOADED_LATER.items():
        names = re.findall(rb"\0(%s[A-Z]\w+)(?=\0)" % prefix.encode(), content)
        needed.setdefault(library, set()).update(name.decode() for name in names)
    return needed


def _build(folder: Path, name: str, needed: set[str], sources: tuple[str, ...] | list[str], flags: list[str]) -> None:
    """One library: its sources, and a function that counts its calls and returns 0 for each that they do not define."""
    texts = [(SOURCES / source).read_text() for source in sources]
    defined = {found for text in texts for found in re.findall(r"\b((?:__)?cu[A-Za-z]\w+)\)?\(", text)}
    defined |= {found for text in texts for found in re.findall(r"_MAKE\((\w+)\)", text)}
    stubs = folder / f"{name}.cc"
    exported = 'extern "C" __attribute__((visibility("default"))) int'
    lines = [f'{exported} {name}() {{ fake_cuda_count("{name}"); return 0; }}' for name in sorted(needed - defined)]
    stubs.write_text("\n".join([f'#include "{SOURCES / "fake_cuda.h"}"', *lines, ""]))
    symbols = folder / f"{name}.map"
    symbols.write_text(f"{name} {{ *; }};\n")
    versioned = [] if name.startswith("libcuda.") else [f"-Wl,--version-script={symbols}"]
    linked = ["g++", *FLAGS, f"-Wl,-soname,{name}", "-Wl,--no-undefined", *versioned, "-o", str(folder / name)]
    command = [*linked, *(str(SOURCES / source) for source in sources), str(stubs), *flags]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        raise RuntimeError(f"{name} of the fake CUDA does not compile:\n{built.stderr[-4000:]}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def libraries_in(folder: Path) -> dict[str, Path]:
    """Stem, such as ``libcudart`` -> path of each built library."""
    return {path.name.split(".")[0]: path for path in folder.glob("lib*.so.*") if path.suffix not in (".cc", ".map")}
