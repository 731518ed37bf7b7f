"""`open_store`: the store at a path or a URI; `folder_at`: the folder there, without opening an object store."""

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
    if (folder := folder_at(place)) is not None:
        return FolderStore(folder)
    from pyarrow.fs import FileSystem

    try:
        return ArrowStore(*FileSystem.from_uri(place))
    except Exception as error:  # from pyarrow, fsspec, or a library that fsspec imports
        raise ServiceError(f"cannot open {place}: {' '.join(str(error).split())}; expected a folder or a URI such as "
                           "s3://bucket/folder or gs://bucket/folder, with the prefix fsspec+ for fsspec") from error


def folder_at(place: str) -> Path | None:
    """The folder that a path or a ``file://`` URI names; None for the URI of an object store."""
    if "://" not in place:
        return Path(place)
    return Path(unquote(urlsplit(place).path)) if place.startswith("file://") else None
