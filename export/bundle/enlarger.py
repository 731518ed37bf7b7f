"""Adding an enlarger to a bundle, whose LR contract stays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codec_contract.bundle.file_names import MODEL_CARD
from codec_contract.bundle.manifest import ENLARGEMENTS, Manifest
from codec_contract.errors import ExistsError, ExportError
from export.bundle.additions import add_files, writable_bundle
from export.bundle.card import state_enlarger
from export.bundle.manifest_record import read_record
from export.bundle.writer import update_card


def require_enlargeable(bundle: str, *, force: bool = False) -> Manifest:
    """The manifest of the bundle that an enlarger will be written into; called before work that takes time.

    Args:
        bundle: name or folder.
        force: replace the enlarger that the bundle has.

    Raises:
        ExportError: the bundle restores tiles, or its folder is read-only, or in the cache of the Hugging Face Hub.
        ExistsError: the bundle has an enlarger, and ``force`` is false.
        BundleError: there is no such bundle, or its manifest is wrong.
    """
    target = writable_bundle(bundle)
    if target.tile_overlap is not None:
        raise ExportError(f"bundle {target.id} restores pictures of any size in tiles; an enlarger takes whole squares")
    if target.enlarger is not None and not force:
        raise ExistsError(target.folder / target.enlarger.files[0])
    return target


def write_enlarger(models: Sequence[bytes], target: Manifest, training: dict[str, Any], licence: str | None = None,
                   *, version: str | None = None) -> list[Path]:
    """Write an enlarger into a bundle, in place of an earlier one, and return its files. The LR contract stays.

    The model card states the enlarger's licence if it has one of its own.

    Args:
        models: ONNX files, one for each doubling.
        target: from `require_enlargeable`.
        training: how it was trained, for the manifest; plain JSON values.
        licence: of an enlarger from another bundle; None for the bundle's own.
        version: new version of the bundle; None to keep the one it has.

    Raises:
        BundleError: the enlarged squares would be larger than a bundle may restore, or ``version`` is no version.
        OSError: the folder cannot be written.
    """
    record = read_record(target.folder)
    files: dict[str, bytes] = {}
    for factor, model in zip(ENLARGEMENTS, models, strict=False):
        name, digest = f"enlarger_x{factor}.onnx", hashlib.sha256(model).hexdigest()
        if record["files"].get(name, {"sha256": digest})["sha256"] != digest:
            # The earlier file is valid until the manifest names the new one.
            name = f"enlarger_x{factor}-{digest[:8]}.onnx"
        files[name] = model
    replaced = set(() if target.enlarger is None else target.enlarger.files) - files.keys()
    record["enlarger"] = {"files": list(files), "training": training}
    if version is not None:
        record["version"] = version
    record["licence"].pop("enlarger", None)
    if licence is not None:
        record["licence"]["enlarger"] = licence
    written = add_files(target, record, files, replaced)
    if MODEL_CARD in written.files:
        card = written.open_file(MODEL_CARD).decode()
        if (stated := state_enlarger(card, licence)) != card:
            update_card(written.folder, evaluation=written.evaluation, card=stated)
    return [written.path(name) for name in files]
