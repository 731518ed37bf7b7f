"""`Manifest`: a checked reader of a bundle's ``manifest.json``.

A bundle is a folder; its manifest lists every file in it with size and SHA-256. A file is read only after both were
verified, so nothing unverified is ever parsed. The contents of the objects ``encoder``, ``training``, ``evaluation``
and ``licence`` are for people and reports; the run time does not depend on them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, get_args

from codec_contract.errors import BundleError
from codec_contract.payload import CONTRACT_ID_BYTES, Header

MANIFEST: Final = "manifest.json"
CODER_TABLES: Final = "coder.json"
ENCODER_ONNX: Final = "encoder.onnx"
ENCODER_TFLITE: Final = "encoder.tflite"
ENCODER_COREML: Final = "encoder.mlpackage"
"""A folder; the manifest lists the files in it."""
ENCODER_WEIGHTS: Final = "encoder.safetensors"
"""The integer network that the three exported encoders are made from."""
IRN_WEIGHTS: Final = "irn.safetensors"
"""The network of both directions in bundles of IRN, in folders of runs and in the zoo."""
RRDB_ENCODER_WEIGHTS: Final = "rrdb_encoder.safetensors"
"""The float encoder of converted GRAINs, in place of `ENCODER_WEIGHTS`."""
DECODER_ONNX: Final = "decoder.onnx"
"""The usual name; the manifest's ``decoder.file`` says which one a bundle has."""
GOLDEN: Final = "golden.json"
"""Inputs of the encoder and the SHA-256 of their LRs."""
MODEL_CARD: Final = "README.md"
SHARED: Final = "shared"
"""A folder next to those of bundles, with files that several of them have, named by their SHA-256."""


SCHEMA = 1
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 4 << 30
MAX_FILES = 4096
CODECS = ("grain", "irn", "irn_plus", "glean", "gcfsr")
MAX_SQUARE_SIDE = 16384
"""Longest side of a restored square or tile, enlarged or not, in pixels."""
ENLARGEMENTS = (2, 4)
"""Factors by which an enlarger enlarges."""
DEFAULT_DECODER = "default"
"""Name of the decoder that the manifest's ``decoder`` describes."""

BUNDLE_ID = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")
VERSION = re.compile(r"[A-Za-z0-9](?:[-+._]?[A-Za-z0-9]){0,63}")  # a part of file names
_QUALITY = re.compile(r"[a-z]{1,20}")
_HEX64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 in hex of a file of a bundle."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Enlarger:
    """The network that enlarges restored squares: its ONNX files in the bundle, each of which doubles the sides."""

    files: tuple[str, ...]
    training: Mapping[str, Any] = field(default_factory=dict)
    """Record of its training; for reports."""

    @property
    def factors(self) -> tuple[int, ...]:
        """Factors by which it enlarges, ascending."""
        return ENLARGEMENTS[: len(self.files)]


@dataclass(frozen=True)
class Rate:
    """One LR contract of a bundle: its encoder with coder tables of their own, which have a step of the LR's levels.

    Attributes:
        lr_contract_id: 32 bytes.
        coder: the file of the tables.
        quality: name of the rate among those of its domain (`codec_contract.bundle.find`), or None.
    """

    lr_contract_id: bytes
    coder: str = CODER_TABLES
    quality: str | None = None

    @property
    def prefix(self) -> str:
        """The beginning of the id, in hex, as messages show it."""
        return self.lr_contract_id[:4].hex()


@dataclass(frozen=True)
class Manifest:
    """A checked ``manifest.json``, with its folder."""

    folder: Path
    id: str
    version: str
    lr_contract_id: bytes
    """32 bytes."""
    codec: str
    domain: str
    hr: int
    """Side of the square picture, or tile, that the encoder takes, in pixels."""
    lr: int
    """Side of the square LR that it makes."""
    tile_overlap: int | None
    """Least overlap of neighbouring tiles, in LR pixels; None for bundles of one square picture."""
    encoder: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    decoder: Mapping[str, Any]
    files: Mapping[str, FileEntry]
    """By their POSIX path relative to the folder."""
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    licence: Mapping[str, Any]
    decoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further decoders for the same payloads, by name, described as ``decoder`` is."""
    enlarger: Enlarger | None = None
    """The network that enlarges what any of the decoders restores."""
    quality: str | None = None
    """Name of its first rate."""
    further_rates: tuple[Rate, ...] = ()
    """Rates of fewer bytes, with coarser levels, from most to fewest."""

    @property
    def rates(self) -> tuple[Rate, ...]:
        """All rates, from most to fewest bytes; the first is that of ``lr_contract_id`` and ``coder.json``."""
        return Rate(self.lr_contract_id, quality=self.quality), *self.further_rates

    def rate_of(self, header: Header) -> Rate | None:
        """The rate whose LR contract a payload names; None if it is another bundle's."""
        return next((rate for rate in self.rates if header.is_of(rate.lr_contract_id)), None)

    @property
    def factor(self) -> int:
        """Reduction factor of the sides."""
        return self.hr // self.lr

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the squares that are restored, ascending: ``hr``, and one for each factor of the enlarger; empty
        for bundles of tiles, which restore every picture at its original's size."""
        if self.tile_overlap is not None:
            return ()
        return self.hr, *(self.hr * factor for factor in (self.enlarger.factors if self.enlarger else ()))

    def lr_size(self, original_size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of the LR for an original of (width, height)."""
        if self.tile_overlap is None:
            return self.lr, self.lr
        return -(-original_size[0] // self.factor), -(-original_size[1] // self.factor)

    def with_decoder(self, name: str = DEFAULT_DECODER) -> Manifest:
        """The manifest with the decoder of this name as its ``decoder``."""
        if name == DEFAULT_DECODER:
            return self
        if name not in self.decoders:
            known = ", ".join([DEFAULT_DECODER, *self.decoders])
            raise BundleError(f"bundle {self.id} has no decoder {name[:80]!r}, only: {known}")
        return replace(self, decoder=self.decoders[name])

    def entry(self, name: str) -> FileEntry:
        """The entry of a listed file; ``BundleError`` if it is not listed."""
        try:
            return self.files[name]
        except KeyError:
            listed = ", ".join(sorted(self.files))
            raise BundleError(f"bundle {self.id} lists no file {name!r}, only: {listed}") from None

    def path(self, name: str) -> Path:
        """The path of a listed file, unverified: in the folder, or in the folder `SHARED` next to it."""
        shared = self.folder.parent / SHARED / self.entry(name).sha256
        own = self.folder.joinpath(*PurePosixPath(name).parts)
        return shared if not own.exists() and shared.is_file() else own

    def open_file(self, name: str) -> bytes:
        """Read a listed file, verifying its size and SHA-256; no more memory is taken than the file has bytes."""
        with _opened(self.path(name), f"{name} of bundle {self.id}") as stream:
            data = stream.read(min(self.entry(name).size, os.fstat(stream.fileno()).st_size) + 1)
        self._check(name, len(data), hashlib.sha256(data).hexdigest())
        return data

    def verify_file(self, name: str) -> None:
        """Check size and SHA-256 of a listed file in little memory; errors as `open_file`."""
        with _opened(self.path(name), f"{name} of bundle {self.id}") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            self._check(name, stream.tell(), digest)

    def _check(self, name: str, size: int, digest: str) -> None:
        entry = self.entry(name)
        if (size, digest) != (entry.size, entry.sha256):
            raise BundleError(f"{name} of bundle {self.id} is altered: it has {size} bytes and SHA-256 {digest}, its "
                              f"manifest says {entry.size} and {entry.sha256}; download the bundle again")


def parse_manifest(data: bytes, folder: Path) -> Manifest:
    """Parse and check the bytes of a ``manifest.json``, of the bundle in ``folder``."""
    where = f"manifest of {folder.name or folder}"
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{where} is larger than {MAX_MANIFEST_BYTES} bytes, the most allowed")
    try:
        source = json.loads(data.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not JSON: {error}") from None
    if not isinstance(source, dict):
        raise BundleError(f"{where} must be a JSON object, is {type(source).__name__}")
    schema = _field(source, "schema", int, where)
    if schema != SCHEMA:
        raise BundleError(f"{where} has schema {schema}, this release reads {SCHEMA}; update edgegrain")
    codec = _field(source, "codec", str, where)
    if codec not in CODECS:
        raise BundleError(f"{where}: codec {codec[:80]!r} is unknown, expected one of {', '.join(CODECS)}")
    hr = _bounded(source, "hr", MAX_SQUARE_SIDE, where)
    lr = _bounded(source, "lr", 256, where)
    if hr % lr:
        raise BundleError(f"{where}: hr {hr} is not a multiple of lr {lr}")
    objects = {name: _field(source, name, dict, where)
               for name in ("encoder", "preprocessing", "decoder", "training", "evaluation", "licence")}
    tile_overlap = None
    if "tile_overlap" in objects["preprocessing"]:
        tile_overlap = _bounded(objects["preprocessing"], "tile_overlap", lr // 2, where, least=0)
    files = _file_entries(_field(source, "files", dict, where), where)
    manifest = Manifest(
        folder=folder,
        id=_matching(source, "id", BUNDLE_ID, where),
        version=_matching(source, "version", VERSION, where),
        lr_contract_id=bytes.fromhex(_matching(source, "lr_contract_id", _HEX64, where)),
        codec=codec,
        domain=_field(source, "domain", str, where),
        hr=hr,
        lr=lr,
        tile_overlap=tile_overlap,
        files=files,
        **objects,
        decoders=_decoders(source, where),
        enlarger=_enlarger(source, files, hr, tile_overlap is not None, where),
        quality=_quality(source, where),
        further_rates=_rates(source, files, where),
    )
    if len({rate.lr_contract_id[:CONTRACT_ID_BYTES] for rate in manifest.rates}) < len(manifest.rates):
        raise BundleError(f"{where}: two rates have LR contracts that begin alike; payloads could not tell them apart")
    return manifest


def load_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Read and check the manifest of the bundle in ``folder``; no other file is read."""
    path = Path(folder)
    what = f"the manifest of bundle {path.name or path}"
    with _opened(path / MANIFEST, what) as stream:
        return parse_manifest(stream.read(MAX_MANIFEST_BYTES + 1), path)


def verify_bundle(folder: str | os.PathLike[str]) -> Manifest:
    """Check the manifest, and size and SHA-256 of every listed file, in little memory."""
    manifest = load_manifest(folder)
    for name in manifest.files:
        manifest.verify_file(name)
    return manifest


@contextmanager
def _opened(location: Path, what: str) -> Iterator[io.BufferedReader]:
    """A file of a bundle; errors of opening and reading it become `BundleError`."""
    try:
        if not stat.S_ISREG(os.stat(location).st_mode):  # a FIFO would block, a device could have no end
            raise BundleError(f"{what} is no regular file: {location}")
        with location.open("rb") as stream:
            yield stream
    except FileNotFoundError:
        raise BundleError(f"{what} is missing: no file {location}") from None
    except OSError as error:
        raise BundleError(f"{what} cannot be read: {error}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without repeated names, which readers may interpret differently."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object holds {twice!r} twice")
    return fields


def _field(source: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    if name not in source:
        raise BundleError(f"{where} lacks the field {name!r}")
    value = source[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BundleError(f"{where}: {name!r} must be of type {kind.__name__}, is {type(value).__name__}")
    return value


def _matching(source: Mapping[str, Any], name: str, pattern: re.Pattern[str], where: str) -> str:
    text = _field(source, name, str, where)
    if not pattern.fullmatch(text):
        raise BundleError(f"{where}: {name!r} is {text[:80]!r}, expected the form {pattern.pattern}")
    return str(text)


def _bounded(source: Mapping[str, Any], name: str, most: int, where: str, least: int = 1) -> int:
    number = _field(source, name, int, where)
    if not least <= number <= most:
        raise BundleError(f"{where}: {name!r} is {number}, expected {least} to {most}")
    return int(number)


def _file_entries(source: Mapping[str, Any], where: str) -> Mapping[str, FileEntry]:
    if len(source) > MAX_FILES:
        raise BundleError(f"{where} lists {len(source)} files, at most {MAX_FILES} are allowed")
    entries = {}
    for name, record in source.items():
        parts = name.split("/")
        # A name is a relative POSIX path in its plainest spelling: no "..", not absolute, no drive letter, no
        # backslash, which is a separator on other systems, and no control characters, as messages show it.
        if any(part in ("", ".", "..") for part in parts) or any(c in name for c in '\\:*?"<>|') \
                or not name.isprintable():
            raise BundleError(f"{where}: the file name {name[:80]!r} is not a plain relative path")
        if name == MANIFEST:
            raise BundleError(f"{where} lists itself among its files")
        if not isinstance(record, dict):
            raise BundleError(f"{where}: the entry of {name!r} must be an object")
        entry = f"{where}, file {name!r}"
        entries[name] = FileEntry(_bounded(record, "size", MAX_FILE_BYTES, entry, least=0),
                                  _matching(record, "sha256", _HEX64, entry))
    return entries


def _quality(source: Mapping[str, Any], where: str) -> str | None:
    return _matching(source, "quality", _QUALITY, where) if "quality" in source else None


def _rates(source: Mapping[str, Any], files: Mapping[str, FileEntry], where: str) -> tuple[Rate, ...]:
    """The optional field ``rates``."""
    rates = []
    for described in _field({"rates": [], **source}, "rates", list, where):
        file = described.get("file") if isinstance(described, dict) else None
        if not isinstance(file, str) or file not in files:
            raise BundleError(f"{where}: each of 'rates' is an object with a listed 'file'")
        rates.append(Rate(bytes.fromhex(_matching(described, "lr_contract_id", _HEX64, f"{where}, rates")),
                          file, _quality(described, f"{where}, rates")))
    return tuple(rates)


def _decoders(source: Mapping[str, Any], where: str) -> Mapping[str, Mapping[str, Any]]:
    """The optional field ``decoders``."""
    described: dict[str, dict[str, Any]] = _field({"decoders": {}, **source}, "decoders", dict, where)
    for name in described:
        if not BUNDLE_ID.fullmatch(name) or name == DEFAULT_DECODER:
            raise BundleError(f"{where}: a decoder cannot be called {name[:80]!r}")
        _field(described, name, dict, f"{where}, decoders")
    return described


def _enlarger(
    source: Mapping[str, Any], files: Mapping[str, FileEntry], hr: int, tiled: bool, where: str
) -> Enlarger | None:
    """The optional field ``enlarger``."""
    if "enlarger" not in source:
        return None
    described = _field(source, "enlarger", dict, where)
    names = _field(described, "files", list, f"{where}, enlarger")
    if not 1 <= len(names) <= len(ENLARGEMENTS):
        raise BundleError(f"{where}: the enlarger has {len(names)} files, expected 1 or {len(ENLARGEMENTS)}")
    for name in names:
        if not isinstance(name, str) or name not in files:
            raise BundleError(f"{where}: the enlarger has the file {str(name)[:80]!r}, which is not listed")
    if len(set(names)) < len(names):
        raise BundleError(f"{where}: the enlarger lists a file twice")
    training = _field({"training": {}, **described}, "training", dict, f"{where}, enlarger")
    enlarger = Enlarger(tuple(names), training)
    if (side := hr * enlarger.factors[-1]) > MAX_SQUARE_SIDE:
        raise BundleError(f"{where}: the enlarger makes pictures with sides of {side} pixels, more than "
                          f"{MAX_SQUARE_SIDE}")
    if tiled:
        raise BundleError(f"{where} has an enlarger, which bundles of tiles cannot have")
    return enlarger


# Forms of a decoder: the same function in several files, one that runs everywhere and those exported for a device. A
# form names the SHA-256 of the file it was made from, so it is out of date once that file is replaced.
Precision = Literal["float32", "float16", "int8"]
Ops = Literal["plain", "fused"]
DEFAULT_FORM = "default"
FUSED_FORM, INT8_FORM = "fused", "int8"
FORMS = {FUSED_FORM: "cuda", INT8_FORM: "int8"}
"""Forms that a manifest may list, in addition to the default one -> their names in it."""


@dataclass(frozen=True)
class BundledForm:
    """One file of a decoder."""

    name: str
    """``"default"``, ``"fused"``, or ``"int8"``, whose file refers to weights in that of the default form."""
    file: str
    precision: Precision
    """Type that its convolutions compute in."""
    ops: Ops
    """``"fused"`` if it needs the library of fused ops (docs/cuda_ops.md)."""
    current: bool = True
    """False if it was made from another default file than the bundle's."""


def default_form(manifest: Manifest) -> BundledForm:
    """The form that runs everywhere."""
    return _form(DEFAULT_FORM, manifest.decoder, f"the manifest of bundle {manifest.id}, decoder")


def decoder_forms(manifest: Manifest) -> dict[str, BundledForm]:
    """The known forms of a bundle's decoder by name, the default one first."""
    forms = {DEFAULT_FORM: default_form(manifest)}
    listed = manifest.decoder.get("forms", {})
    if not isinstance(listed, dict):
        raise BundleError(f"the manifest of bundle {manifest.id}: 'forms' must be an object")
    for name, listed_as in FORMS.items():
        if listed_as in listed:
            where = f"the manifest of bundle {manifest.id}, form {listed_as!r} of its decoder"
            source = manifest.entry(forms[DEFAULT_FORM].file).sha256
            forms[name] = _form(name, listed[listed_as], where, source)
            manifest.entry(forms[name].file)
    return forms


def _form(name: str, described: Any, where: str, source: str | None = None) -> BundledForm:
    """A form that is current if it was made from the file with the SHA-256 ``source``; None for the default form."""
    if not isinstance(described, dict) or not isinstance(described.get("file"), str):
        raise BundleError(f"{where}: expected an object with a 'file'")
    precision, ops = described.get("precision", "float32"), described.get("ops", "plain")
    for key, value, known in (("precision", precision, get_args(Precision)), ("ops", ops, get_args(Ops))):
        if value not in known:
            raise BundleError(f"{where}: {key!r} is {str(value)[:80]!r}, expected {' or '.join(known)}")
    return BundledForm(name, described["file"], precision, ops, source in (None, described.get("source")))
