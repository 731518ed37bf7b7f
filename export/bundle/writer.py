"""Assembling a bundle: encoders in every format, decoder, coder tables, golden vectors, manifest and model card."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codec_contract.bundle.contract_id import lr_contract_id
from codec_contract.bundle.manifest import MANIFEST_NAME, SCHEMA, Manifest, load_manifest, verify_bundle
from codec_contract.errors import BundleError
from codec_contract.files import write_atomically
from codec_contract.fit import PREPROCESSING
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder import bounds
from edge_encoder import integer_network as integer
from edge_encoder.golden_inputs import make_golden
from edge_encoder.integer_network import IntegerNetwork
from export.encoder.formats import export_encoder
from export.proof.runtimes import FORMATS

DECODER, CODER, GOLDEN, CARD = "decoder.onnx", "coder.json", "golden.json", "README.md"


def assemble_bundle(folder: Path, network: IntegerNetwork, decoder: bytes, tables: CoderTables,
                    fields: Mapping[str, Any], *, card: str, formats: Sequence[str] = tuple(FORMATS),
                    force: bool = False) -> Manifest:
    """Write a complete bundle; the folder appears whole or not at all.

    Args:
        folder: where; its name should be the bundle's id.
        network: the integer encoder; its bounds are proven.
        decoder: serialized ONNX decoder.
        tables: of the payload's coder.
        fields: the manifest's ``id``, ``version``, ``codec``, ``domain``, ``decoder``, ``training``, ``evaluation`` and
            ``licence``; everything else follows from the other arguments.
        card: the model card, Markdown.
        formats: of the encoder.
        force: replace a bundle that exists.

    Raises:
        FileExistsError: the folder exists and ``force`` is false.
        ExportError: a bound cannot be proven or a converter refuses.
        BundleError: the fields make no valid manifest.
    """
    refuse_to_replace(folder, force)
    proof = bounds.prove(network)
    golden = make_golden(lambda rgb: integer.run_reference(network, rgb), network.hr)

    def write(staging: Path) -> None:
        integer.save(network, staging / "encoder.safetensors")
        export_encoder(network, staging, formats)
        write_atomically(staging / CODER, tables.to_json())
        write_atomically(staging / GOLDEN, (json.dumps(golden, indent=1) + "\n").encode())

    record = {
        "schema": SCHEMA,
        **fields,
        "lr_contract_id": lr_contract_id(integer.digest(network), PREPROCESSING, tables).hex(),
        "hr": network.hr,
        "lr": network.lr,
        "encoder": {
            "architecture": network.architecture,
            "layers": len(network.layers),
            "parameters": network.parameters,
            "flops": 2 * network.multiply_adds(),
            "max_accumulator_log2": round(proof.worst_log2, 2),
        },
        "preprocessing": PREPROCESSING,
    }
    return write_bundle(folder, write, decoder, record, card, force)


def replace_decoder(source: Manifest, folder: Path, decoder: bytes, fields: Mapping[str, Any], *, card: str,
                    force: bool = False) -> Manifest:
    """Write a bundle with another decoder and everything else of ``source`` byte for byte: its LR contract stays, and
    payloads of the one can be restored by the other.

    Args:
        source: the bundle whose encoder, coder and golden vectors are taken; ``folder`` may be its own, with ``force``.
        folder: where; its name should be the bundle's id.
        decoder: serialized ONNX decoder for LRs and pictures of the same sizes.
        fields: as for `assemble_bundle`.
        card: the model card, Markdown.
        force: replace a bundle that exists.

    Raises:
        FileExistsError: the folder exists and ``force`` is false.
        BundleError: ``source`` is damaged, or the fields make no valid manifest.
    """
    def write(staging: Path) -> None:
        for name in source.files:
            if name not in (DECODER, CARD):
                write_atomically(staging / name, source.open_file(name))

    kept = json.loads((source.folder / MANIFEST_NAME).read_bytes())
    record = {name: fields.get(name, value) for name, value in kept.items() if name != "files"}
    return write_bundle(folder, write, decoder, {**record, **fields}, card, force)


def renew_encoders(folder: Path, encoders: Iterable[Path]) -> Manifest:
    """Replace a bundle's encoder files by newer exports of the same integers; everything else stays byte for byte.

    Args:
        folder: the bundle.
        encoders: files and packages named as in the bundle, compared with its integer encoder beforehand.

    Raises:
        BundleError: there is no valid bundle in the folder, or it has no such encoder.
    """
    source = verify_bundle(folder)
    renewed = {path.name: path for path in encoders}
    missing = sorted(set(renewed) - {name.split("/")[0] for name in source.files})
    if missing:
        raise BundleError(f"the bundle {folder} has no {', '.join(missing)} that could be renewed")

    def write(staging: Path) -> None:
        for name in source.files:
            if name not in (DECODER, CARD) and name.split("/")[0] not in renewed:
                write_atomically(staging / name, source.open_file(name))
        for path in renewed.values():
            for file in (path, *path.rglob("*")):
                if file.is_file():
                    write_atomically(staging / file.relative_to(path.parent), file.read_bytes())

    record = json.loads((folder / MANIFEST_NAME).read_bytes())
    del record["files"]
    return write_bundle(folder, write, source.open_file(DECODER), record, source.open_file(CARD).decode(), force=True)


def update_card(folder: Path, *, evaluation: Mapping[str, Any], card: str) -> Manifest:
    """Replace a bundle's evaluation and model card; encoder, coder and decoder stay byte for byte.

    Raises:
        BundleError: there is no valid bundle in the folder.
    """
    verify_bundle(folder)
    record = json.loads((folder / MANIFEST_NAME).read_bytes())
    write_atomically(folder / CARD, card.encode(), force=True)
    record["evaluation"] = dict(evaluation)
    _write_manifest(folder, record)
    return verify_bundle(folder)


def write_bundle(folder: Path, write: Callable[[Path], None], decoder: bytes, record: Mapping[str, Any], card: str,
                 force: bool) -> Manifest:
    """Write a bundle, whole or not at all, with a manifest of the fields in ``record`` and of all files.

    ``write`` puts the encoder's and the coder's files into the folder it is given.

    Raises:
        FileExistsError: the folder exists and ``force`` is false.
        BundleError: the fields make no valid manifest.
    """
    refuse_to_replace(folder, force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        write(staging)
        write_atomically(staging / DECODER, decoder)
        write_atomically(staging / CARD, card.encode())
        _write_manifest(staging, record)
        verify_bundle(staging)
        os.chmod(staging, 0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return load_manifest(folder)


def refuse_to_replace(folder: Path, force: bool) -> None:
    """Raise `FileExistsError` if the folder exists and ``force`` is false; worth asking before hours of work."""
    if folder.exists() and not force:
        raise FileExistsError(f"{folder} exists; choose another folder or pass force (--force) to replace it")


def _write_manifest(folder: Path, record: Mapping[str, Any]) -> None:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST_NAME:
            data = path.read_bytes()
            files[path.relative_to(folder).as_posix()] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    text = json.dumps({**record, "files": files}, indent=2) + "\n"
    write_atomically(folder / MANIFEST_NAME, text.encode(), force=True)
