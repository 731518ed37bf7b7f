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
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from codec_contract.errors import BundleError
from codec_contract.lr_coder.coder_tables import MAX_STEP
from codec_contract.payload import CONTRACT_ID_BYTES, Header

MANIFEST: Final = "manifest.json"
CODER_TABLES: Final = "coder.json"
ENCODER_ONNX: Final = "encoder.onnx"
ENCODER_TFLITE: Final = "encoder.tflite"
ENCODER_COREML: Final = "encoder.mlpackage"  # a folder; the manifest lists the files in it
ENCODER_WEIGHTS: Final = "encoder.safetensors"  # the integer network that the three exported encoders are made from
IRN_WEIGHTS: Final = "irn.safetensors"
"""The network of both directions in bundles of IRN, in folders of runs and in the zoo."""
RRDB_ENCODER_WEIGHTS: Final = "rrdb_encoder.safetensors"
"""The float encoder of converted GRAINs, in place of `ENCODER_WEIGHTS`."""
DECODER_ONNX: Final = "decoder.onnx"  # the usual name; the manifest's `decoder.file` says which one a bundle has
GOLDEN: Final = "golden.json"  # inputs of the encoder and the SHA-256 of their LRs
MODEL_CARD: Final = "README.md"
SHARED: Final = "shared"
"""A folder next to those of bundles, with files that several of them have, named by their SHA-256."""

SCHEMA = 1
CODECS = ("grain", "irn", "irn_plus", "glean", "gcfsr")
ENLARGEMENTS = (2, 4)  # factors by which an enlarger enlarges
DEFAULT_DECODER = "default"  # name of the decoder that the manifest's `decoder` describes

BUNDLE_ID = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")
VERSION = re.compile(r"[A-Za-z0-9](?:[-+._]?[A-Za-z0-9]){0,63}")  # a part of file names
_HEX64 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"\w[\w.+ -]*(?:/\w[\w.+ -]*)*")  # cannot climb out of its folder


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 in hex of a file of a bundle."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Enlarger:
    """The network that enlarges restored squares: its ONNX files in the bundle, each of which doubles the sides."""

    files: tuple[str, ...]
    training: Mapping[str, Any] = field(default_factory=dict)  # record of its training; for reports
    int8_files: tuple[str, ...] = ()  # its form in int8, for what a decoder in int8 restored; empty if it has none

    @property
    def factors(self) -> tuple[int, ...]:
        """Factors by which it enlarges, ascending."""
        return ENLARGEMENTS[: len(self.files)]


@dataclass(frozen=True)
class Rate:
    """One LR contract of a bundle: its encoder with coder tables of their own, which have a step of the LR's levels."""

    lr_contract_id: bytes  # 32 bytes
    coder: str = CODER_TABLES  # the file of the tables
    quality: str | None = None  # name of the rate among those of its domain (`codec_contract.bundle.find`)
    finer: bool = False  # levels are finer than the bundle's own, payloads larger

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
    lr_contract_id: bytes  # 32 bytes
    codec: str
    domain: str
    hr: int  # side of the square picture, or tile, that the encoder takes, in pixels
    lr: int  # side of the square LR that it makes
    tile_overlap: int | None
    """Least overlap of neighbouring tiles, in LR pixels; None for bundles of one square picture."""
    encoder: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    decoder: Mapping[str, Any]
    files: Mapping[str, FileEntry]  # by their POSIX path relative to the folder
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    licence: Mapping[str, Any]
    decoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further decoders for the same payloads, by name, described as ``decoder`` is."""
    enlarger: Enlarger | None = None  # the network that enlarges what any of the decoders restores
    quality: str | None = None  # name of its own rate
    further_rates: tuple[Rate, ...] = ()  # with finer or coarser levels, from most to fewest bytes
    finest_step: int | None = None  # finest step of levels that the decoder was trained with, if that is stated

    @property
    def own_rate(self) -> Rate:
        """The rate of ``lr_contract_id`` and ``coder.json``, which payloads have unless another is asked for."""
        return Rate(self.lr_contract_id, quality=self.quality)

    @property
    def rates(self) -> tuple[Rate, ...]:
        """All rates, from most to fewest bytes."""
        return tuple(sorted((self.own_rate, *self.further_rates), key=lambda rate: not rate.finer))

    def rate_of(self, header: Header) -> Rate | None:
        """The rate whose LR contract a payload names; None if it is another bundle's."""
        return next((rate for rate in self.rates if header.is_of(rate.lr_contract_id)), None)

    def told_step(self, step: int) -> int:
        """The step that the decoder is told for levels in this step: never finer than those it was trained with."""
        return max(step, self.finest_step or step)

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
        shared, own = self._shared(name), self.folder.joinpath(*PurePosixPath(name).parts)
        return shared if not own.exists() and shared.is_file() else own

    def _shared(self, name: str) -> Path:
        return self.folder.parent / SHARED / self.entry(name).sha256

    def open_file(self, name: str) -> bytes:
        """Read a listed file, verifying its size and SHA-256."""
        with self._opened(name) as stream:
            data = stream.read()
        self._check(name, len(data), hashlib.sha256(data).hexdigest())
        return data

    def verify_file(self, name: str) -> None:
        """Check size and SHA-256 of a listed file in little memory; errors as `open_file`."""
        with self._opened(name) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            self._check(name, stream.tell(), digest)

    def _opened(self, name: str) -> AbstractContextManager[io.BufferedReader]:
        return _opened(self.path(name), f"{name} of bundle {self.id}", f", and no {self._shared(name)}")

    def _check(self, name: str, size: int, digest: str) -> None:
        entry = self.entry(name)
        if (size, digest) != (entry.size, entry.sha256):
            found, expected = f"{size} bytes and SHA-256 {digest}", f"{entry.size} and {entry.sha256}"
            problem = f"{name} of bundle {self.id} is altered: {self.path(name)} has {found}"
            raise BundleError(f"{problem}, its manifest says {expected}; download the bundle again")


def parse_manifest(data: bytes, folder: Path) -> Manifest:
    """Parse and check the bytes of a ``manifest.json``, of the bundle in ``folder``."""
    where = f"the manifest of bundle {folder.name or folder}"
    try:
        source = json.loads(data)
        if source["schema"] != SCHEMA:
            raise BundleError(f"{where} has schema {source['schema']}, this release reads {SCHEMA}; update edgegrain")
        return _manifest(source, folder)
    except KeyError as error:
        raise BundleError(f"{where} lacks the field {error}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{where} is malformed: {error}") from error


def _manifest(source: Mapping[str, Any], folder: Path) -> Manifest:
    """The manifest; KeyError, ValueError, TypeError or AttributeError if it is malformed."""
    names = ("encoder", "preprocessing", "decoder", "training", "evaluation", "licence")
    objects = {name: source[name] for name in names}
    for name, value in objects.items():
        if not isinstance(value, dict):
            raise TypeError(f"{name!r} is no object")
    if source["codec"] not in CODECS:
        raise ValueError(f"the codec {source['codec']} is unknown, expected one of {', '.join(CODECS)}")
    hr, lr = _whole(source["hr"], 16384), _whole(source["lr"], 256)
    if hr % lr:
        raise ValueError(f"hr {hr} is not a multiple of lr {lr}")
    tile_overlap, enlarger = objects["preprocessing"].get("tile_overlap"), source.get("enlarger")
    finest = source.get("finest_step")
    further = [
        Rate(_contract_id(rate), rate["file"], rate.get("quality"), rate.get("finer") is True)
        for rate in source.get("rates", [])
    ]
    manifest = Manifest(
        folder=folder,
        id=_matching(BUNDLE_ID, "id", source),
        version=_matching(VERSION, "version", source),
        lr_contract_id=_contract_id(source),
        codec=source["codec"],
        domain=source["domain"],
        hr=hr,
        lr=lr,
        tile_overlap=None if tile_overlap is None else _whole(tile_overlap, lr // 2, least=0),
        files={name: FileEntry(entry["size"], entry["sha256"]) for name, entry in source["files"].items()},
        **objects,
        decoders=source.get("decoders", {}),
        enlarger=None if enlarger is None else _enlarger(enlarger),
        quality=source.get("quality"),
        further_rates=tuple(further),
        finest_step=None if finest is None else _whole(finest, MAX_STEP),
    )
    for name in manifest.files:
        _matching(_FILE, "file", {"file": name})
    if len({rate.lr_contract_id[:CONTRACT_ID_BYTES] for rate in manifest.rates}) < len(manifest.rates):
        raise ValueError("two rates have LR contracts that begin alike; payloads could not tell them apart")
    return manifest


def _enlarger(source: Mapping[str, Any]) -> Enlarger:
    int8 = source.get("forms", {}).get(INT8_FORM, {"files": ()})
    enlarger = Enlarger(tuple(source["files"]), source.get("training", {}), tuple(int8["files"]))
    count, form = len(enlarger.files), len(enlarger.int8_files)
    if not 1 <= count <= len(ENLARGEMENTS) or form not in (0, count):
        raise ValueError(f"an enlarger has 1 or {len(ENLARGEMENTS)} files and its form as many, got {count} and {form}")
    return enlarger


def _contract_id(source: Mapping[str, Any]) -> bytes:
    return bytes.fromhex(_matching(_HEX64, "lr_contract_id", source))


def _matching(pattern: re.Pattern[str], name: str, source: Mapping[str, Any]) -> str:
    text: str = source[name]
    if not pattern.fullmatch(text):
        raise ValueError(f"the {name} {text[:80]!r} has not the form {pattern.pattern}")
    return text


def _whole(number: int, most: int, least: int = 1) -> int:
    if type(number) is not int or not least <= number <= most:
        raise ValueError(f"{number!r} is no whole number from {least} to {most}")
    return number


def load_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Read and check the manifest of the bundle in ``folder``; no other file is read."""
    path = Path(folder)
    with _opened(path / MANIFEST, f"the manifest of bundle {path.name or path}") as stream:
        return parse_manifest(stream.read(), path)


def verify_bundle(folder: str | os.PathLike[str]) -> Manifest:
    """Check the manifest, and size and SHA-256 of every listed file, in little memory."""
    manifest = load_manifest(folder)
    for name in manifest.files:
        manifest.verify_file(name)
    return manifest


@contextmanager
def _opened(location: Path, what: str, elsewhere: str = "") -> Iterator[io.BufferedReader]:
    """A file of a bundle; errors of opening and reading it become `BundleError`."""
    try:
        with location.open("rb") as stream:
            yield stream
    except FileNotFoundError:
        raise BundleError(f"{what} is missing: no file {location}{elsewhere}") from None
    except OSError as error:
        raise BundleError(f"{what} cannot be read: {error}") from error


# Forms of a decoder: the same function in several files, one that runs everywhere and those exported for a device. A
# form names the SHA-256 of the file it was made from, so it is out of date once that file is replaced.
DEFAULT_FORM = "default"
FUSED_FORM, INT8_FORM = "fused", "int8"
FORMS = {FUSED_FORM: "cuda", INT8_FORM: "int8"}
"""Forms that a manifest may list, in addition to the default one -> their names in it."""


@dataclass(frozen=True)
class BundledForm:
    """One file of a decoder."""

    name: str  # "default", "fused", or "int8", whose file refers to weights in that of the default form
    file: str
    precision: Literal["float32", "float16", "int8"]  # type that its convolutions compute in
    ops: Literal["plain", "fused"]  # "fused" if it needs the library of fused ops (docs/cuda_ops.md)
    current: bool = True  # False if it was made from another default file than the bundle's


def default_form(manifest: Manifest) -> BundledForm:
    """The form that runs everywhere."""
    return _form(manifest, DEFAULT_FORM, manifest.decoder)


def decoder_forms(manifest: Manifest) -> dict[str, BundledForm]:
    """The known forms of a bundle's decoder by name, the default one first."""
    default, listed = default_form(manifest), manifest.decoder.get("forms", {})
    source = manifest.entry(default.file).sha256
    others = {name: _form(manifest, name, listed[key], source) for name, key in FORMS.items() if key in listed}
    return {DEFAULT_FORM: default, **others}


def _form(manifest: Manifest, name: str, described: Mapping[str, Any], source: str | None = None) -> BundledForm:
    """A form that is current if it was made from the file with the SHA-256 ``source``; None for the default form."""
    if "file" not in described:
        raise BundleError(f"the manifest of bundle {manifest.id} names no file of its decoder's form {name!r}")
    precision, ops = described.get("precision", "float32"), described.get("ops", "plain")
    return BundledForm(name, described["file"], precision, ops, source in (None, described.get("source")))
