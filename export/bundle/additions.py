"""Adding files to a finished bundle, whose LR contract stays: decoders for a device, an enlarger."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from codec_contract.bundle.file_names import MANIFEST
from codec_contract.bundle.hub import SCHEME
from codec_contract.bundle.manifest import Manifest, load_manifest, parse_manifest
from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import ExportError
from codec_contract.files import write_atomically
from export.bundle.manifest_record import file_record, record_text


def writable_bundle(bundle: str) -> Manifest:
    """The manifest of a bundle, given by name or folder, whose files can be added to or replaced.

    Raises:
        ExportError: its folder is read-only, or in the cache of the Hugging Face Hub.
        BundleError: there is no such bundle, or its manifest is wrong.
    """
    if bundle.startswith(SCHEME):
        raise ExportError(f"{bundle} is cached as it is on the Hub; copy its folder and pass the copy")
    target = load_manifest(find_bundle(bundle))
    if not os.access(target.folder, os.W_OK):
        raise ExportError(f"{target.folder} cannot be written; copy the bundle to another folder and pass that")
    return target


def add_files(target: Manifest, record: dict[str, Any], files: Mapping[str, bytes], replaced: Collection[str] = ()
              ) -> Manifest:
    """Write files into a bundle, then its manifest, then delete the files that are replaced.

    The manifest is replaced by renaming, so the bundle is complete at any moment if no name in ``files`` is that of a
    listed file with another content.

    Args:
        target: the bundle.
        record: the new manifest; the entries of ``files`` and ``replaced`` are brought up to date here.
        files: name -> content.
        replaced: names of files that the bundle no longer has.

    Raises:
        BundleError: the record is no manifest; nothing was written.
        OSError: the folder cannot be written.
    """
    for name in replaced:
        record["files"].pop(name, None)
    for name, data in files.items():
        record["files"][name] = file_record(data)
    text = record_text(record)
    written = parse_manifest(text, target.folder)
    for name, data in files.items():
        write_atomically(target.folder / name, data, force=True)
    write_atomically(target.folder / MANIFEST, text, force=True)
    for name in set(replaced) - set(files):
        (target.folder / name).unlink(missing_ok=True)  # never a file that bundles share
    return written
