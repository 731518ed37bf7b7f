"""Writing bundles: encoders in every format, decoder, coder tables, golden vectors, manifest and model card."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from codec_contract.bundle.find import find_bundle
from codec_contract.bundle.hub import SCHEME
from codec_contract.bundle.manifest import (
    BUNDLE_ID,
    CODER_TABLES,
    DECODER_ONNX,
    ENCODER_WEIGHTS,
    FORMS,
    FUSED_FORM,
    GOLDEN,
    INT8_FORM,
    MANIFEST,
    MODEL_CARD,
    SCHEMA,
    VERSION,
    BundledForm,
    Manifest,
    decoder_forms,
    default_form,
    load_manifest,
    parse_manifest,
    verify_bundle,
)
from codec_contract.errors import BundleError, ExistsError, ExportError
from codec_contract.files import replace_folder, write_atomically, written_whole
from codec_contract.fit import PREPROCESSING
from codec_contract.lr_coder.coder_tables import CoderTables
from edge_encoder import integer_network as integer
from edge_encoder.contract_id import lr_contract_id
from edge_encoder.golden_inputs import make_golden
from edge_encoder.integer_network import IntegerNetwork, prove_bound
from export.decoder import DecoderOptions, Precision
from export.encoder import export_encoder, require_formats
from export.encoder.graph import FORMATS, EncoderGraph, exact_graph
from server_decoder.decoder_session import INPUT, OUTPUT

if TYPE_CHECKING:
    from export.decoder.export import Comparison, DecoderSource, ExportedDecoder

LICENCE, ENLARGER = "**Licence.** ", "Enlarger inside: "
CAVEAT = "Detail that a restored picture shows beyond its LR is plausible, not evidence."


def bundle_card(
    fields: Mapping[str, Any],
    summary: str,
    remarks: Sequence[str] = (),
    *,
    record: str = "",
    caveat: str = CAVEAT,
    evaluation: Sequence[str] = (),
) -> str:
    """The card of the manifest's ``fields``, Markdown.

    ``summary`` names the network, its sizes and its controls; ``record`` takes the place of the training's counts,
    ``evaluation`` are the lines of the section on measured scores, if there is one.
    """
    training, licence = fields["training"], fields["licence"]
    paragraphs = [f"# {fields['id']}", summary]
    if converted := training.get("converted_from"):
        files = [f"- `{source['file']}`, SHA-256 {source['sha256']}" for source in converted]
        paragraphs += ["Converted from the files of its authors:", "\n".join(files)]
    paragraphs.append(f"{LICENCE}{licence.get('weights', 'Unknown.')}")
    if "enlarger" in licence:
        paragraphs.append(f"{ENLARGER}{licence['enlarger']}")
    counts = {"pictures_seen": "pictures seen", "crops_seen": "crops"}
    counted = [f"{training[key]:,} {what}." for key, what in counts.items() if isinstance(training.get(key), int)]
    seen = record or " ".join(counted)
    paragraphs += ["## Training", *filter(None, [seen]), f"Data: {licence.get('data', 'unknown')}"]
    if "prior" in licence:
        paragraphs.append(f"Generator inside: {licence['prior']}.")
    paragraphs += [*remarks, caveat]
    if evaluation:
        paragraphs += ["## Evaluation", "\n".join(evaluation).rstrip()]
    return "\n\n".join(paragraphs) + "\n"


def state_enlarger(card: str, licence: str | None) -> str:
    """A card with the licence of another bundle's enlarger, if it has one, after that of the weights."""
    body = card.rstrip("\n")
    paragraphs = [text for text in body.split("\n\n") if not text.startswith(ENLARGER)]
    if licence is not None:
        place = next((index for index, text in enumerate(paragraphs, 1) if text.startswith(LICENCE)), len(paragraphs))
        paragraphs.insert(place, ENLARGER + licence)
    return "\n\n".join(paragraphs) + card[len(body) :]


UNSTATED = {
    "weights": "What the data's and the generator's licences allow; the code is Apache-2.0.",
    "data": "Not stated.",
}
OWN_FACES = {
    "weights": "Non-commercial research only, because of the data; the code is Apache-2.0.",
    "data": "FFHQ: CC BY-NC-SA 4.0. CelebA-HQ / CelebAMask-HQ: non-commercial research. "
    "Portraits of members of the United States Congress: mostly public domain.",
}
"""Licences of edgegrain's own bundles of faces with an encoder for one size of pictures."""


def with_kept(kept: Mapping[str, Any], added: Mapping[str, str], part: str) -> dict[str, str]:
    """Licences of a bundle's parts, followed by those of a new ``part`` beside them where they differ."""
    licence = {name: str(text) for name, text in kept.items() if name != "prior"}
    for name, text in added.items():
        if licence.setdefault(name, text) != text:
            licence[name] += f" {part}: {text}"
    return licence


def usual_licence(domain: str) -> dict[str, str]:
    """``weights`` and ``data`` of a bundle whose maker states nothing."""
    return dict(OWN_FACES if domain == "faces" else UNSTATED)


COMPARED = 4
"""Generated pictures on which a bundle's encoder and decoder are compared with torch."""
FIRST_VERSION = "1.0.0"
"""Version of a bundle for which none is given."""


class WrittenBundle(NamedTuple):
    """A bundle on disk, and how far its files are from torch."""

    manifest: Manifest
    decoder: Comparison
    encoder_flips: float | None = None  # LR bytes per million in which a float encoder differs from torch


@dataclass(frozen=True)
class EncoderPart:
    """A bundle's encoder; ``write_weights`` writes its own files (weights, golden vectors) into a folder."""

    graph: EncoderGraph
    described: Mapping[str, Any]  # the manifest's ``encoder``
    digest: bytes  # SHA-256 of the weights, for the LR contract id
    write_weights: Callable[[Path], None]
    preprocessing: Mapping[str, Any]  # the manifest's; part of the LR contract too


def exact_encoder(network: IntegerNetwork) -> EncoderPart:
    """The part of an integer network, with its proven bound and its golden vectors."""
    bounds, graph = prove_bound(network), exact_graph(network)
    golden = make_golden(partial(integer.run_reference, network), network.hr)

    def write_weights(folder: Path) -> None:
        integer.save_integer_network(network, folder / ENCODER_WEIGHTS)
        write_atomically(folder / GOLDEN, (json.dumps(golden, indent=1) + "\n").encode())

    sizes = {"layers": len(network.layers), "parameters": graph.parameters(), "flops": graph.flops()}
    described = {"architecture": network.architecture, **sizes, "max_accumulator_log2": round(max(bounds.values()), 2)}
    return EncoderPart(graph, described, integer.integer_digest(network), write_weights, PREPROCESSING)


def manifest_fields(
    bundle_id: str,
    codec: str,
    *,
    architecture: Mapping[str, Any],
    training: Mapping[str, Any],
    licence: Mapping[str, str],
    domain: str = "faces",
    version: str = FIRST_VERSION,
    controls: Sequence[str] = (),
    inputs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest's fields that do not follow from the encoder, plain JSON values.

    ``controls`` can be chosen when restoring (``strength``, ``seed``); ``inputs`` describes the decoder's inputs other
    than the LR.
    """
    ends = {"file": DECODER_ONNX, "input": INPUT, "output": OUTPUT, "controls": list(controls), **(inputs or {})}
    return {
        "id": bundle_id,
        "version": version,
        "codec": codec,
        "domain": domain,
        "decoder": {**ends, "architecture": dict(architecture)},
        "training": dict(training),
        "evaluation": {},
        "licence": dict(licence),
    }


def tables_in(folder: Path) -> CoderTables:
    """The tables in a folder's ``coder.json``, or the general ones if it has none."""
    path = folder / CODER_TABLES
    return CoderTables.from_json(path.read_bytes()) if path.is_file() else CoderTables.default()


def write_bundle(
    folder: Path,
    encoder: EncoderPart,
    decoder: bytes,
    tables: CoderTables,
    fields: Mapping[str, Any],
    card: str,
    formats: Sequence[str] = tuple(FORMATS),
    *,
    force: bool = False,
) -> Manifest:
    """Write a bundle, complete or not at all. ``fields`` are those of `manifest_fields`, ``decoder`` is an ONNX file;
    ``onnx`` must be one of the encoder's ``formats``."""
    require_bundle_formats(formats)

    def write(staging: Path) -> None:
        encoder.write_weights(staging)
        export_encoder(encoder.graph, staging, formats)
        write_atomically(staging / CODER_TABLES, tables.to_json())

    contract = lr_contract_id(encoder.digest, encoder.preprocessing, tables).hex()
    sizes = {"lr_contract_id": contract, "hr": encoder.graph.hr, "lr": encoder.graph.lr}
    described = {"encoder": dict(encoder.described), "preprocessing": dict(encoder.preprocessing)}
    record = {"schema": SCHEMA, **fields, **sizes, **described}
    return _write_folder(folder, write, decoder, record, card, force)


def replace_decoder(
    source: Manifest, folder: Path, decoder: bytes, fields: Mapping[str, Any], card: str, *, force: bool = False
) -> Manifest:
    """Write a bundle with another decoder and everything else of ``source`` byte for byte, so its LR contract stays;
    ``folder`` may be that of ``source``. The old decoder's forms for devices and its finest step are left out, the
    enlarger stays."""
    replaced = {DECODER_ONNX, MODEL_CARD, *(form.file for form in decoder_forms(source).values())}

    def write(staging: Path) -> None:
        for name in source.files:
            if name not in replaced:
                write_atomically(staging / name, source.open_file(name))

    kept = read_record(source.folder)
    record = {**{name: value for name, value in kept.items() if name not in ("files", "finest_step")}, **fields}
    if (enlarger := kept["licence"].get("enlarger")) is not None:
        record["licence"] = {**record["licence"], "enlarger": enlarger}
        card = state_enlarger(card, enlarger)
    return _write_folder(folder, write, decoder, record, card, force)


def _write_folder(
    folder: Path, write: Callable[[Path], None], decoder: bytes, record: Mapping[str, Any], card: str, force: bool
) -> Manifest:
    """Write the folder, complete or not at all; ``write`` adds the encoder's and the coder's files to it."""
    refuse_to_replace(folder, force, record["id"])
    folder = folder.resolve()  # a link stays, and the folder next to it is on its file system
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        write(staging)
        write_atomically(staging / DECODER_ONNX, decoder)
        write_atomically(staging / MODEL_CARD, card.encode())
        paths = [path for path in sorted(staging.rglob("*")) if path.is_file()]
        files = {path.relative_to(staging).as_posix(): _entry(path.read_bytes()) for path in paths}
        write_atomically(staging / MANIFEST, _text({**record, "files": files}))
        verify_bundle(staging)
        os.chmod(staging, 0o755)
        replace_folder(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return load_manifest(folder)


def read_record(folder: Path) -> dict[str, Any]:
    """The manifest of the bundle in ``folder``, which was checked before."""
    return json.loads((folder / MANIFEST).read_bytes())


def _entry(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _text(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2) + "\n").encode()


def writable_bundle(bundle: str) -> Manifest:
    """The manifest of a bundle, given by name or folder, whose files can be added to or replaced."""
    if bundle.startswith(SCHEME):
        raise ExportError(f"{bundle} is cached as it is on the Hub; copy its folder and pass the copy")
    target = load_manifest(find_bundle(bundle))
    if not os.access(target.folder, os.W_OK):
        raise ExportError(f"{target.folder} cannot be written; copy the bundle to another folder and pass that")
    return target


def change_bundle(
    folder: Path, record: dict[str, Any], files: Mapping[str, bytes], removed: Collection[str] = ()
) -> Manifest:
    """Write files into a bundle, then its manifest, whose entries are brought up to date here, then delete others: it
    is complete at any moment if no listed file gets another content, and stays as it was on a full disk."""
    removed = set(removed) - set(files)
    for name in removed:
        record["files"].pop(name, None)
    record["files"] |= {name: _entry(data) for name, data in files.items()}
    text = _text(record)
    manifest = parse_manifest(text, folder)
    with ExitStack() as written:  # renames the first one last
        for name, data in {MANIFEST: text, **files}.items():
            written.enter_context(written_whole(folder / name)).write_bytes(data)
    for name in removed:
        (folder / name).unlink(missing_ok=True)  # never a file that bundles share
    return manifest


def update_card(folder: Path, *, evaluation: Mapping[str, Any], card: str) -> Manifest:
    """Replace a bundle's evaluation and model card; encoder, coder and decoder stay byte for byte."""
    verify_bundle(folder)
    return change_bundle(folder, {**read_record(folder), "evaluation": dict(evaluation)}, {MODEL_CARD: card.encode()})


def require_target(source: DecoderSource, options: DecoderOptions, bundle: str, *, force: bool = False) -> Manifest:
    """The manifest of the bundle that a form of its decoder will be written into; ``force`` replaces one that is
    current."""
    target = writable_bundle(bundle)
    if source.manifest is None or decoder_hash(source.manifest) != decoder_hash(target):
        raise ExportError(
            f"the decoder of {source.name} is not the one of bundle {target.id}; export a bundle's "
            "decoder into the bundle itself"
        )
    current = {name: form for name, form in decoder_forms(target).items() if form.current and not force}
    first = INT8_FORM not in decoder_forms(target)
    if first and form_of(options) == INT8_FORM and (fused := current.get(FUSED_FORM)):
        raise ExportError(
            f"the form int8 stores the decoder anew, which makes {fused.file} useless; pass --force, and "
            "then export that form again"
        )
    if existing := current.get(form_of(options)):
        raise ExistsError(target.path(existing.file))
    return target


def form_of(options: DecoderOptions) -> str:
    """The name of the form that these options make."""
    return INT8_FORM if options.precision is Precision.int8 else FUSED_FORM


def write_form(exported: ExportedDecoder, target: Manifest) -> BundledForm:
    """Write an exported decoder into the bundle of `require_target` as a form of its own, in place of an earlier one;
    the new file has a new name. With the first one in int8, the default form is stored anew, because its file holds the
    weights."""
    default, form, options = default_form(target).file, form_of(exported.options), exported.options
    record, files = read_record(target.folder), dict[str, bytes]()
    model, source = exported.model, decoder_hash(target)
    if form == INT8_FORM:
        from export.decoder.int8 import refer  # needs torch

        files[default] = exported.float32
        model, source = refer(model, default, exported.float32), hashlib.sha256(exported.float32).hexdigest()
    name = f"decoder_{form}-{hashlib.sha256(model).hexdigest()[:8]}.onnx"
    forms, key = record["decoder"].setdefault("forms", {}), FORMS[form]
    earlier = [forms[key]["file"]] if key in forms else []
    described = {"file": name, "precision": options.precision.value, "ops": options.ops.value}
    forms[key] = {**described, "source": source, "psnr": exported.comparison.psnr}
    return decoder_forms(change_bundle(target.folder, record, {**files, name: model}, earlier))[form]


def decoder_hash(manifest: Manifest) -> str:
    """SHA-256, in hex, of the file of a bundle's decoder that runs everywhere."""
    return manifest.entry(default_form(manifest).file).sha256


def refuse_to_replace(folder: Path, force: bool, bundle_id: str | None = None, version: str = FIRST_VERSION) -> None:
    """Refuse to write a bundle into a folder, or under an id (by default the folder's name) or version that no manifest
    has; called before work that takes minutes."""
    bundle_id = folder.name if bundle_id is None else bundle_id
    if not BUNDLE_ID.fullmatch(bundle_id):
        raise BundleError(
            f"{bundle_id!r} is no valid id of a bundle, by default the name of its folder; expected "
            "lower-case letters and digits, with single -, _ or . between them, such as my-faces"
        )
    if not VERSION.fullmatch(version):
        raise BundleError(
            f"{version[:80]!r} is no valid version of a bundle; expected at most 64 letters and digits, "
            "with single -, +, . or _ between them, such as 1.0.0"
        )
    if folder.exists() and not force:
        raise ExistsError(folder)
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError(f"{folder} is no bundle (it has no {MANIFEST}) and is not replaced; choose another name")


def require_bundle_formats(formats: Sequence[str]) -> None:
    """Refuse unknown formats of an encoder, and those without ``onnx``, which the SDK and the service run."""
    require_formats(formats)
    if "onnx" not in formats:
        raise ExportError("a bundle needs the encoder as onnx; add it to the formats")
