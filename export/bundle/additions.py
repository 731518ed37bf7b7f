"""Adding files to a finished bundle, whose LR contract stays: a form of its decoder for a device, an enlarger."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec_contract.bundle.find import find_bundle
from codec_contract.bundle.hub import SCHEME
from codec_contract.bundle.manifest import (
    MANIFEST,
    BundledForm,
    Manifest,
    decoder_forms,
    default_form,
    load_manifest,
    parse_manifest,
)
from codec_contract.errors import ExistsError, ExportError
from codec_contract.files import write_atomically
from export.decoder import DecoderOptions, Noise

if TYPE_CHECKING:  # both import torch
    from export.decoder.export import DecoderSource, ExportedDecoder


def writable_bundle(bundle: str) -> Manifest:
    """The manifest of a bundle, given by name or folder, whose files can be added to or replaced."""
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


def read_record(folder: Path) -> dict[str, Any]:
    """The manifest of the bundle in ``folder``, which was checked before."""
    record: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    return record


def file_record(data: bytes) -> dict[str, Any]:
    """The entry of a file with this content in the manifest's ``files``."""
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def record_text(record: Mapping[str, Any]) -> bytes:
    """The bytes of ``manifest.json``."""
    return (json.dumps(record, indent=2) + "\n").encode()


def require_target(
    source: DecoderSource, options: DecoderOptions, bundle: str, *, device: str = "cuda", force: bool = False,
) -> Manifest:
    """The manifest of the bundle that a form will be written into; called before work that takes minutes.

    Args:
        source: the decoder that is exported.
        options: of the export.
        bundle: name or folder of the bundle.
        device: that the form is for.
        force: replace its form, if it has one that is current.
    """
    target = writable_bundle(bundle)
    if source.manifest is None or decoder_hash(source.manifest) != decoder_hash(target):
        raise ExportError(f"the decoder of {source.name} is not the one of bundle {target.id}; export a bundle's "
                          "decoder into the bundle itself")
    if options.noise is not Noise.constant:
        raise ExportError("a form has the inputs of its decoder, which takes no noise; export it without --noise")
    existing = decoder_forms(target).get(device)
    if existing is not None and existing.current and not force:
        raise ExistsError(target.path(existing.file))
    return target


def write_form(exported: ExportedDecoder, target: Manifest, *, device: str = "cuda") -> BundledForm:
    """Write an exported decoder into a bundle as its form for a device, in place of an earlier one.

    The manifest is replaced last, by renaming, and the new file has a new name, so the bundle is complete at any
    moment. Its LR contract stays.

    Args:
        exported: made from the bundle's decoder.
        target: from `require_target`.
        device: that the form is for.
    """
    name = f"decoder_{device}-{hashlib.sha256(exported.model).hexdigest()[:8]}.onnx"
    record = read_record(target.folder)
    forms = record["decoder"].setdefault("forms", {})
    earlier = forms.get(device, {}).get("file")
    forms[device] = {
        "file": name, "precision": exported.options.precision.value, "ops": exported.options.ops.value,
        "source": decoder_hash(target), "psnr": exported.comparison.psnr}
    written = add_files(target, record, {name: exported.model}, replaced=[] if earlier is None else [earlier])
    return decoder_forms(written)[device]


def decoder_hash(manifest: Manifest) -> str:
    """SHA-256, in hex, of the file of a bundle's decoder that runs everywhere."""
    return manifest.entry(default_form(manifest).file).sha256
