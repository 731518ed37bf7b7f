"""Writing bundles: encoders in every format, decoder, coder tables, golden vectors, manifest and model card."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from codec_contract.bundle.contract_id import lr_contract_id
from codec_contract.bundle.manifest import (
    BUNDLE_ID,
    CODER_TABLES,
    DECODER_ONNX,
    ENCODER_WEIGHTS,
    GOLDEN,
    MANIFEST,
    MODEL_CARD,
    SCHEMA,
    VERSION,
    Manifest,
    decoder_forms,
    load_manifest,
    parse_manifest,
    verify_bundle,
)
from codec_contract.errors import BundleError, ExistsError, ExportError
from codec_contract.files import replace_folder, write_atomically, written_whole
from codec_contract.fit import PREPROCESSING
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder import bounds
from edge_encoder import integer_network as integer
from edge_encoder.golden_inputs import make_golden
from edge_encoder.integer_network import IntegerNetwork
from export.bundle.additions import file_record, read_record, record_text
from export.bundle.card import bundle_card, state_enlarger
from export.decoder.export import Comparison, compare_decoder
from export.encoder.formats import export_encoder, require_formats
from export.encoder.graph import FORMATS, EncoderGraph, exact_graph
from server_decoder.decoder_session import INPUT, OUTPUT

COMPARED = 4
"""Generated pictures on which a bundle's encoder and decoder are compared with torch."""
FIRST_VERSION = "1.0.0"
"""Version of a bundle for which none is given."""


class WrittenBundle(NamedTuple):
    """A bundle on disk, and how far its files are from torch.

    Attributes:
        manifest: of the bundle.
        decoder: the exported decoder compared with torch.
        encoder_flips: LR bytes per million that differ between a float encoder and torch; None for an exact encoder.
    """

    manifest: Manifest
    decoder: Comparison
    encoder_flips: float | None = None


@dataclass(frozen=True)
class BundleParts:
    """Everything that a bundle is written from.

    Attributes:
        encoder: exported to every one of ``formats``.
        decoder: serialized ONNX model.
        tables: of the payload's coder.
        fields: of the manifest, from `manifest_fields`.
        card: the model card, Markdown.
        formats: of the encoder; ``onnx`` must be one of them.
    """

    encoder: EncoderPart
    decoder: bytes
    tables: CoderTables
    fields: Mapping[str, Any]
    card: str
    formats: Sequence[str] = tuple(FORMATS)


def write_bundle(folder: Path, parts: BundleParts, *, force: bool = False) -> Manifest:
    """Write a bundle; the folder appears complete or not at all.

    Args:
        folder: of the bundle; its name should be the bundle's id.
        parts: what it is written from.
        force: replace a bundle that exists.
    """
    refuse_to_replace(folder, force, parts.fields["id"])
    require_bundle_formats(parts.formats)
    encoder = parts.encoder

    def write(staging: Path) -> None:
        encoder.write_weights(staging)
        export_encoder(encoder.graph, staging, parts.formats)
        write_atomically(staging / CODER_TABLES, parts.tables.to_json())

    record = {
        "schema": SCHEMA,
        **parts.fields,
        "lr_contract_id": lr_contract_id(encoder.digest, encoder.preprocessing, parts.tables).hex(),
        "hr": encoder.graph.hr,
        "lr": encoder.graph.lr,
        "encoder": dict(encoder.described),
        "preprocessing": dict(encoder.preprocessing),
    }
    return _write_folder(folder, write, parts.decoder, record, parts.card, force)


def write_compared_bundle(
    folder: Path, codec: str, encoder: EncoderPart, decoder: nn.Module, model: bytes, lrs: np.ndarray, *,
    summary: str, remarks: Sequence[str] = (), tables: CoderTables, formats: Sequence[str], force: bool = False,
    encoder_flips: float | None = None, **fields: Any,
) -> WrittenBundle:
    """Compare an exported decoder, ``model``, with its network on ``lrs``, and write the bundle of both halves.

    ``encoder``, ``tables``, ``formats``: of `BundleParts`. ``codec``, ``fields``: of `manifest_fields`.
    """
    comparison = compare_decoder(model, decoder, lrs)
    card = bundle_card(folder.name, summary, fields["training"], fields["licence"], remarks)
    parts = BundleParts(encoder, model, tables, manifest_fields(folder.name, codec, **fields), card, formats)
    return WrittenBundle(write_bundle(folder, parts, force=force), comparison, encoder_flips)


def manifest_fields(bundle_id: str, codec: str, *, architecture: Mapping[str, Any], training: Mapping[str, Any],
                    licence: Mapping[str, str], domain: str = "faces", version: str = FIRST_VERSION,
                    controls: Sequence[str] = (), inputs: Mapping[str, Any] | None = None,
                    evaluation: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The manifest's fields that do not follow from the encoder, plain JSON values.

    Args:
        bundle_id: the ``id``.
        codec: ``grain``, ``irn``, ``irn_plus``, ``glean`` or ``gcfsr``.
        architecture: the decoder's configuration.
        training, licence, domain, version, evaluation: of the manifest.
        controls: what can be chosen when restoring: ``strength``, ``seed``.
        inputs: inputs of the decoder other than the LR -> what the manifest says about them.
    """
    return {
        "id": bundle_id, "version": version, "codec": codec, "domain": domain,
        "decoder": {"file": DECODER_ONNX, "input": INPUT, "output": OUTPUT, "controls": list(controls),
                    **(inputs or {}), "architecture": dict(architecture)},
        "training": dict(training), "evaluation": dict(evaluation or {}), "licence": dict(licence),
    }


def tables_in(folder: Path) -> CoderTables:
    """The tables in a folder's ``coder.json``, or the general ones if it has none."""
    path = folder / CODER_TABLES
    return CoderTables.from_json(path.read_bytes()) if path.is_file() else CoderTables.default()


def replace_decoder(source: Manifest, folder: Path, decoder: bytes, fields: Mapping[str, Any], *, card: str,
                    force: bool = False) -> Manifest:
    """Write a bundle with another decoder and everything else of ``source`` byte for byte: its LR contract stays, and
    payloads of the one can be restored by the other. The old decoder's forms for devices are left out. The enlarger
    stays, with its licence if it has one of its own.

    Args:
        source: the bundle whose encoder, coder and golden vectors are taken; ``folder`` may be its own, with ``force``.
        folder: where; its name should be the bundle's id.
        decoder: serialized ONNX decoder for LRs and pictures of the same sizes.
        fields: as in `BundleParts`.
        card: the model card, Markdown.
        force: replace a bundle that exists.
    """
    replaced = {DECODER_ONNX, MODEL_CARD, *(form.file for form in decoder_forms(source).values())}

    def write(staging: Path) -> None:
        for name in source.files:
            if name not in replaced:
                write_atomically(staging / name, source.open_file(name))

    kept = read_record(source.folder)
    record = {**{name: value for name, value in kept.items() if name != "files"}, **fields}
    if (enlarger := kept["licence"].get("enlarger")) is not None:
        record["licence"] = {**record["licence"], "enlarger": enlarger}
        card = state_enlarger(card, enlarger)
    return _write_folder(folder, write, decoder, record, card, force)


def renew_encoders(folder: Path, encoders: Iterable[Path]) -> Manifest:
    """Replace a bundle's encoder files by newer exports of the same integers; every other file in the folder stays.

    Args:
        folder: the bundle.
        encoders: files and packages named as in the bundle, compared with its integer encoder beforehand.
    """
    source = verify_bundle(folder)
    renewed = {path.name: path for path in encoders}
    if missing := sorted(set(renewed) - {FORMATS[kind] for kind in encoder_formats(source)}):
        raise BundleError(f"the bundle {folder} has no {', '.join(missing)} that could be renewed")
    files = {file.relative_to(path.parent).as_posix(): file.read_bytes()
             for path in renewed.values() for file in (path, *path.rglob("*")) if file.is_file()}
    replaced = [name for name in source.files if name.split("/")[0] in renewed and name not in files]
    record = read_record(folder)
    for name in replaced:
        del record["files"][name]
    record["files"] |= {name: file_record(data) for name, data in files.items()}
    text = record_text(record)
    parse_manifest(text, folder)
    with ExitStack() as written:  # on a full disk one of them fails, and all are as before
        for name, data in {MANIFEST: text, **files}.items():
            written.enter_context(written_whole(folder / name)).write_bytes(data)
    for name in replaced:  # parts that a package no longer has
        (folder / name).unlink(missing_ok=True)
    return verify_bundle(folder)


def encoder_formats(manifest: Manifest) -> tuple[str, ...]:
    """Formats in which a bundle holds its encoder: some of ``tflite``, ``coreml``, ``onnx``."""
    held = {name.split("/")[0] for name in manifest.files}
    return tuple(kind for kind, name in FORMATS.items() if name in held)


def update_card(folder: Path, *, evaluation: Mapping[str, Any], card: str) -> Manifest:
    """Replace a bundle's evaluation and model card; encoder, coder and decoder stay byte for byte."""
    verify_bundle(folder)
    record = read_record(folder)
    record["evaluation"] = dict(evaluation)
    record["files"][MODEL_CARD] = file_record(card.encode())
    text = record_text(record)
    parse_manifest(text, folder)
    with written_whole(folder / MANIFEST) as manifest, written_whole(folder / MODEL_CARD) as readme:
        manifest.write_bytes(text)  # on a full disk one of them fails, and both are as before
        readme.write_bytes(card.encode())
    return verify_bundle(folder)


def refuse_to_replace(folder: Path, force: bool, bundle_id: str | None = None, version: str = FIRST_VERSION) -> None:
    """Refuse to write a bundle into a folder, or under an id or version that no manifest has; called before work that
    takes minutes.

    Args:
        folder: of the bundle.
        force: replace a bundle that exists.
        bundle_id: its id; None for the folder's name.
        version: its version.
    """
    bundle_id = folder.name if bundle_id is None else bundle_id
    if not BUNDLE_ID.fullmatch(bundle_id):
        raise BundleError(f"{bundle_id!r} is no valid id of a bundle, by default the name of its folder; expected "
                          "lower-case letters and digits, with single -, _ or . between them, such as my-faces")
    if not VERSION.fullmatch(version):
        raise BundleError(f"{version[:80]!r} is no valid version of a bundle; expected at most 64 letters and digits, "
                          "with single -, +, . or _ between them, such as 1.0.0")
    if not folder.exists():
        return
    if not force:
        raise ExistsError(folder)
    if not (folder / MANIFEST).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise BundleError(f"{folder} exists and is no bundle (it has no {MANIFEST}), so it is not replaced; choose "
                          "another name")
    if others := _unlisted(folder):
        raise BundleError(f"{folder} holds {others[0]}{', ...' if len(others) > 1 else ''}, which its {MANIFEST} does "
                          "not list and which would be lost, so it is not replaced; move such files away, or choose "
                          "another name")


def require_bundle_formats(formats: Sequence[str]) -> None:
    """Raise `ExportError` unless the encoder's formats are known and ``onnx``, which the SDK and the service run, is
    among them; called before work that takes minutes."""
    require_formats(formats)
    if "onnx" not in formats:
        raise ExportError("a bundle needs the encoder as onnx; add it to the formats")


def _unlisted(folder: Path) -> list[str]:
    """Files in a bundle's folder that its manifest does not list; all but the manifest if it cannot be read."""
    try:
        listed = set(read_record(folder)["files"])
    except (OSError, ValueError, LookupError, TypeError):
        listed = set()
    held = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())
    return [name for name in held if name != MANIFEST and name not in listed]


def _write_folder(folder: Path, write: Callable[[Path], None], decoder: bytes, record: Mapping[str, Any], card: str,
                  force: bool) -> Manifest:
    """Write the folder, complete or not at all; ``write`` adds the encoder's and the coder's files to it."""
    refuse_to_replace(folder, force, record["id"])
    folder = folder.resolve()  # a link stays, and the folder next to it is on its file system
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        write(staging)
        write_atomically(staging / DECODER_ONNX, decoder)
        write_atomically(staging / MODEL_CARD, card.encode())
        _write_manifest(staging, record)
        verify_bundle(staging)
        os.chmod(staging, 0o755)
        replace_folder(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return load_manifest(folder)


def _write_manifest(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the manifest of a new folder, which lists every file in it."""
    files = {path.relative_to(folder).as_posix(): file_record(path.read_bytes())
             for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST}
    write_atomically(folder / MANIFEST, record_text({**record, "files": files}))


@dataclass(frozen=True)
class EncoderPart:
    """A bundle's encoder.

    Attributes:
        graph: exported to every format.
        described: the manifest's ``encoder``.
        digest: 32 bytes, SHA-256 of the weights, for the LR contract id.
        write_weights: writes the encoder's own files (weights, golden vectors) into a folder.
        preprocessing: the manifest's; part of the LR contract too.
    """

    graph: EncoderGraph
    described: Mapping[str, Any]
    digest: bytes
    write_weights: Callable[[Path], None]
    preprocessing: Mapping[str, Any]


def exact_encoder(network: IntegerNetwork) -> EncoderPart:
    """The part of an integer network, with its proven bound and its golden vectors."""
    proof = bounds.prove(network)
    golden = make_golden(lambda rgb: integer.run_reference(network, rgb), network.hr)

    def write_weights(folder: Path) -> None:
        integer.save_integer_network(network, folder / ENCODER_WEIGHTS)
        write_atomically(folder / GOLDEN, (json.dumps(golden, indent=1) + "\n").encode())

    described = {
        "architecture": network.architecture,
        "layers": len(network.layers),
        "parameters": network.parameters,
        "flops": 2 * network.multiply_adds(),
        "max_accumulator_log2": round(proof.worst_log2, 2),
    }
    return EncoderPart(exact_graph(network), described, integer.integer_digest(network), write_weights, PREPROCESSING)


def float_encoder(graph: EncoderGraph, digest: bytes, write_weights: Callable[[Path], None],
                  preprocessing: Mapping[str, Any] = PREPROCESSING) -> EncoderPart:
    """The part of a float network, whose LRs may differ by a level between runtimes."""
    described = {"architecture": graph.name, "exact": False, "parameters": graph.parameters(), "flops": graph.flops()}
    return EncoderPart(graph, described, digest, write_weights, preprocessing)


def compare_encoder(encode: Callable[[np.ndarray], np.ndarray], pictures: np.ndarray, expected: np.ndarray) -> float:
    """LR bytes per million in which an exported float encoder differs from its network.

    Args:
        encode: the exported encoder: uint8 ``[N, S, S, 3]`` -> uint8 ``[N, s, s, 3]``.
        pictures: to compare on.
        expected: the network's LRs of them.
    """
    steps = np.abs(encode(pictures).astype(np.int16) - expected)
    if steps.max() > 1:
        raise ExportError(f"the exported encoder differs from torch by {steps.max()} levels, more than 1")
    return round(1e6 * float((steps > 0).mean()), 2)
