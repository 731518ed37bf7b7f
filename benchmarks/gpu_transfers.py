"""Pack what `gpu_host.sh` needs on an offline GPU host, and print what each transfer carries.

    python benchmarks/gpu_transfers.py gpu_host_pack --python 3.12 --architecture 90   # after benchmarks/speed/pack.py

    gpu_host_onnxruntime_0, _1, ...   folders, each with a part of onnxruntime-gpu for one GPU architecture
    gpu_host_pack/decoder.onnx        the default bundle's decoder

A transfer carries the checkout without zoo/ and bundles/ and some of these folders, at most --limit MiB in all. The
exit code is 1 if one carries more.

onnxruntime-gpu is packed without its TensorRT provider and its tools, and with the kernels of one architecture: 60 MiB
of 250. Needs pip and readelf (binutils).
"""

from __future__ import annotations

import argparse
import io
import lzma
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("zoo", "bundles")
BUNDLE_DECODER = ROOT / "bundles" / "faces-256-lr16-small" / "decoder.onnx"
PARTS = ROOT / "gpu_host_onnxruntime"
ARCHIVE = "onnxruntime.tar.xz"
MEBI = 1 << 20
_WANTED = re.compile(r"onnxruntime/(__init__\.py|capi/(?!.*tensorrt)(?!libonnxruntime\.so).*[^/])"
                     r"|[^/]*\.dist-info/METADATA")
_CONTAINER = 0xBA55ED50  # first word of nvcc's fat binaries, each with kernels of several architectures


def keep_architecture(fatbins: bytes, architecture: int) -> bytes:
    """Remove the kernels of other architectures from a section ``.nv_fatbin``; its containers stay where they are.

    A container without kernels of the architecture stays as it is: it may hold PTX for it.
    """
    data = bytearray(fatbins)
    at = 0
    while at + 16 <= len(data):
        magic, _, header, size = struct.unpack_from("<IHHQ", data, at)
        if magic != _CONTAINER:
            at += 8
            continue
        first, end = at + header, at + header + size
        kept, entry = [], first
        while entry < end:
            entry_header, payload = struct.unpack_from("<IQ", data, entry + 4)
            after = entry + entry_header + payload
            if struct.unpack_from("<I", data, entry + 28)[0] == architecture:
                kept.append(bytes(data[entry:after]))
            entry = after
        if kept:
            content = b"".join(kept)
            data[first:end] = content + bytes(size - len(content))
            struct.pack_into("<Q", data, at + 8, len(content))
        at = end
    return bytes(data)


def prune(library: bytes, architecture: int) -> bytes:
    """A shared library whose CUDA kernels are of one architecture; its size does not change."""
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(library)
        file.flush()
        sections = subprocess.run(["readelf", "--sections", "--wide", file.name], capture_output=True, text=True,
                                  check=True).stdout
    data = bytearray(library)
    for offset, size in re.findall(r"\.nv_fatbin\s+PROGBITS\s+\w+\s+(\w+)\s+(\w+)", sections):
        start, end = int(offset, 16), int(offset, 16) + int(size, 16)
        data[start:end] = keep_architecture(bytes(data[start:end]), architecture)
    return bytes(data)


def pack_onnxruntime(version: str, python: str, architecture: int, parts: int) -> list[Path]:
    """Write the folders with the parts of onnxruntime-gpu."""
    with tempfile.TemporaryDirectory() as folder:
        platforms = [word for number in (28, 27, 17) for word in ("--platform", f"manylinux_2_{number}_x86_64")]
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                        "--python-version", python, "--implementation", "cp", *platforms, "--dest", folder,
                        f"onnxruntime-gpu=={version}"], check=True)
        packed = io.BytesIO()
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 128 * MEBI}]
        with (zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel,
              lzma.open(packed, "wb", filters=filters) as stream,
              tarfile.open(fileobj=stream, mode="w") as archive):
            for name in filter(_WANTED.fullmatch, wheel.namelist()):
                content = wheel.read(name)
                if name.endswith("libonnxruntime_providers_cuda.so"):
                    content = prune(content, architecture)
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    content = packed.getvalue()
    piece = -(-len(content) // parts)
    folders = []
    for index in range(parts):
        target = Path(f"{PARTS}_{index}")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        (target / f"{ARCHIVE}.{index}").write_bytes(content[index * piece : (index + 1) * piece])
        folders.append(target)
    return folders


def checkout_bytes() -> int:
    """Size of the tracked files that travel."""
    listed = subprocess.run(["git", "ls-files", "-z", "--", ".", *(f":!{name}" for name in LEFT_OUT)], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout
    return sum((ROOT / name).stat().st_size for name in listed.split("\0") if name and (ROOT / name).is_file())


def folder_bytes(folder: Path) -> int:
    """Size of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def transfers(checkout: int, folders: dict[str, int], limit: int) -> list[tuple[list[str], int]]:
    """Folders by transfer, and bytes: as few transfers as fit, in the order given; the checkout is part of each."""
    found: list[tuple[list[str], int]] = []
    for name, size in folders.items():
        if found and found[-1][1] + size <= limit:
            found[-1] = [*found[-1][0], name], found[-1][1] + size
        else:
            found.append(([name], checkout + size))
    return found


def main() -> int:
    """Pack, and print the transfers; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path, nargs="?", default=Path("gpu_host_pack"), help="folder of speed/pack.py")
    parser.add_argument("--version", default="1.31.1", help="of onnxruntime-gpu")
    parser.add_argument("--python", default="3.12", help="version of the host's Python")
    parser.add_argument("--architecture", type=int, default=90, help="the GPU's compute capability times ten")
    parser.add_argument("--parts", type=int, default=4, help="of onnxruntime-gpu")
    parser.add_argument("--limit", type=float, default=64, help="MiB of a transfer")
    parser.add_argument("--sum", action="store_true", help="print the transfers of what is packed already")
    options = parser.parse_args()
    if not options.pack.is_dir():
        parser.error(f"there is no folder {options.pack}; run benchmarks/speed/pack.py")
    if options.sum:
        parts = sorted(PARTS.parent.glob(f"{PARTS.name}_*"))
    else:
        shutil.copy(BUNDLE_DECODER, options.pack / BUNDLE_DECODER.name)
        parts = pack_onnxruntime(options.version, options.python, options.architecture, options.parts)
    checkout = checkout_bytes()
    sizes = {folder.name: folder_bytes(folder) for folder in (*parts, options.pack)}
    print(f"{checkout / MEBI:7.1f} MiB  checkout without {', '.join(LEFT_OUT)}: part of each transfer")
    for name, size in sizes.items():
        print(f"{size / MEBI:7.1f} MiB  {name}")
    too_large = False
    for number, (names, size) in enumerate(transfers(checkout, sizes, int(options.limit * MEBI)), 1):
        too_large |= size > options.limit * MEBI
        print(f"transfer {number}: {size / MEBI:.1f} of {options.limit:g} MiB: checkout, {', '.join(names)}")
    if too_large:
        print(f"a transfer carries more than {options.limit:g} MiB; use more --parts", file=sys.stderr)
    return int(too_large)


if __name__ == "__main__":
    sys.exit(main())
