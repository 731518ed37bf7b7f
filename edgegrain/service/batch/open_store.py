"""`open_store`: the store at a path or a URI."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from codec_contract.errors import ServiceError
from edgegrain.service.batch.arrow_store import ArrowStore
from edgegrain.service.batch.folder_store import FolderStore


def open_store(place: str) -> FolderStore | ArrowStore:
    """The store at a path or a URI: ``/data/faces``, ``file:///data``, ``s3://bucket/faces``, ``fsspec+SCHEME://...``.

    Raises:
        ServiceError: pyarrow and fsspec do not know the URI, or it cannot be reached.
    """
    if "://" not in place:
        return FolderStore(Path(place))
    if place.startswith("file://"):
        return FolderStore(Path(unquote(urlsplit(place).path)))
    from pyarrow.fs import FileSystem

    try:
        return ArrowStore(*FileSystem.from_uri(place))
    except Exception as error:  # from pyarrow, fsspec, or a library that fsspec imports
        raise ServiceError(f"cannot open {place}: {' '.join(str(error).split())}; expected a folder or a URI such as "
                           "s3://bucket/folder or gs://bucket/folder, with the prefix fsspec+ for fsspec") from error
