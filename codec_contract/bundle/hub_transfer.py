"""Downloads from the Hugging Face Hub that resume, and the errors of huggingface-hub as `BundleError`s.

`hf_hub_download` of huggingface-hub 2 discards the part of a file that an interrupted process has received, and writes
as much as the server sends. `download` continues such a part and writes no more than the stated size.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from codec_contract.errors import BundleError

TIMEOUT = 30.0
"""Seconds without data after which a connection is given up."""
RETRIES = 5
"""Attempts after a failed one, as long as none receives data."""
PAUSE = 1.0
"""Seconds between attempts."""


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn the errors of huggingface-hub into `BundleError`s about ``what`` that say what to do."""
    try:
        from huggingface_hub import errors
    except ModuleNotFoundError as error:
        raise BundleError(f"{what}: the Hub needs {error.name}, which is not installed; install: "
                          "pip install 'edgegrain[hub]'") from error
    log_in = "log in with 'hf auth login' or set HF_TOKEN"
    try:
        yield
    except BundleError:
        raise
    except Exception as error:  # of huggingface-hub, its HTTP client, the file system
        match error:
            case errors.GatedRepoError():
                advice = f"the repository is gated; accept its conditions on its page on the Hub, then {log_in}"
            case errors.RepositoryNotFoundError():
                advice = f"the Hub has no such repository, or it is private; check the name, or {log_in}"
            case errors.RevisionNotFoundError():
                advice = "the repository has no such revision; name a branch, a tag or a commit of 40 hex digits"
            case errors.EntryNotFoundError():
                advice = "the repository holds no bundle: manifest.json, or a file that it lists, is not there"
            case errors.OfflineModeIsEnabled():
                advice = "it is not in the cache, and HF_HUB_OFFLINE is set; unset it to download"
            case errors.HfHubHTTPError() if error.response.status_code in (401, 403):
                advice = f"access is denied; {log_in}, with a token that has the right"
            case errors.HfHubHTTPError():
                advice = f"the Hub answered with status {error.response.status_code}: {error}"
            case OSError(errno=errno.ENOSPC):
                advice = "the disk is full; free some space, or set EDGEGRAIN_CACHE to a folder on another disk"
            case OSError() if error.filename:
                advice = f"the cache cannot be written ({error}); set EDGEGRAIN_CACHE to a folder that you can write"
            case ValueError():
                advice = f"the Hub or huggingface-hub refuses it: {error}"
            case errors.HTTPError() | OSError() | RuntimeError():  # RuntimeError: of hf-xet
                advice = (f"the Hub cannot be reached or the transfer broke off ({type(error).__name__}: {error}); "
                          "check the network and try again")
            case _:  # a defect
                raise
        raise BundleError(f"{what}: {advice}") from error


def is_outage(error: Exception) -> bool:
    """True if the Hub did not answer or has a fault of its own, False if it refused."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, (errors.HTTPError, OSError))


def download(url: str, target: Path, size: int, progress: Callable[[int], object] = lambda count: None) -> None:
    """Download a file of known size, continuing a part of it that is there.

    Args:
        url: address on the Hub.
        target: the file; an interrupted download leaves the part it received.
        size: in bytes; never more is written.
        progress: called with the number of bytes of every piece written.

    Raises:
        BundleError: the Hub has a file of another size.
        Exception: those of huggingface-hub, see `hub_errors`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch()
    failed = 0
    while True:
        have = target.stat().st_size
        try:
            _receive(url, target, have, size, progress)
            return
        except BundleError:
            raise
        except Exception as error:
            failed = failed + 1 if target.stat().st_size == have else 1
            if failed > RETRIES or not is_outage(error) or isinstance(error, OSError) and error.errno is not None:
                raise
        time.sleep(PAUSE)


def _receive(url: str, target: Path, have: int, size: int, progress: Callable[[int], object]) -> None:
    """One attempt to append what is missing."""
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers

    if have == size:
        return
    have = have if have < size else 0
    headers = {**build_hf_headers(library_name="edgegrain"), "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as response:
        hf_raise_for_status(response)
        if have and response.status_code != 206:  # the server sends the file from its beginning
            progress(-have)
            have = 0
        with target.open("r+b") as file:
            file.truncate(have)
            file.seek(have)
            for piece in response.iter_bytes():
                have += len(piece)
                if have > size:
                    break
                file.write(piece)
                progress(len(piece))
    if have != size:
        target.unlink()
        found = f"more than {size}" if have > size else have
        raise BundleError(f"{target.name} has {found} bytes on the Hub, expected {size}")
