"""The decoders of a bundle: which pictures they restore, and in which files.

A bundle has one decoder or several, all for the payloads of its LR contract: ``decoder`` of the manifest is the default
one, ``decoders`` holds the others by name. Each has a file that runs everywhere, and may have *forms*: the same
function in other files, exported for a device (``forms``, by the device's name). A form names the SHA-256 of the file
it was made from, so it is out of date once that file is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import BundleError

Precision = Literal["float32", "float16"]
Ops = Literal["plain", "fused"]

DEFAULT_FORM = "default"
"""The file that runs everywhere."""
FORMS = ("cuda",)
"""Forms that a manifest may list, in addition to the default one."""


@dataclass(frozen=True)
class BundledForm:
    """One file of a decoder.

    Attributes:
        name: ``"default"``, or the device it was exported for.
        file: its name in the bundle.
        precision: type that its convolutions compute in.
        ops: ``"fused"`` if it needs the library of fused ops (docs/cuda_ops.md).
        current: false if it was made from another default file than the bundle's.
    """

    name: str
    file: str
    precision: Precision
    ops: Ops
    current: bool = True


def default_form(manifest: Manifest) -> BundledForm:
    """The form that runs everywhere; `BundleError` if the manifest names no file or describes it wrongly."""
    where = f"the manifest of bundle {manifest.id}"
    if not isinstance(manifest.decoder.get("file"), str):
        raise BundleError(f"{where} names no decoder file")
    return _form(DEFAULT_FORM, manifest.decoder, where)


def decoder_forms(manifest: Manifest) -> dict[str, BundledForm]:
    """The forms of a bundle's decoder by name, the default one first; those that this release does not know are left
    out.
    """
    default = default_form(manifest)
    listed = manifest.decoder.get("forms", {})
    if not isinstance(listed, dict):
        raise BundleError(f"the manifest of bundle {manifest.id}: 'forms' must be an object")
    forms = {DEFAULT_FORM: default}
    for name in FORMS:
        if name in listed:
            where = f"the manifest of bundle {manifest.id}, form {name!r} of its decoder"
            described = listed[name]
            if not isinstance(described, dict) or not isinstance(described.get("file"), str):
                raise BundleError(f"{where}: expected an object with a 'file'")
            manifest.entry(described["file"])
            current = described.get("source") == manifest.entry(default.file).sha256
            forms[name] = _form(name, described, where, current)
    return forms


def _form(name: str, described: Mapping[str, Any], where: str, current: bool = True) -> BundledForm:
    precision, ops = described.get("precision", "float32"), described.get("ops", "plain")
    for field, value, known in (("precision", precision, get_args(Precision)), ("ops", ops, get_args(Ops))):
        if value not in known:
            raise BundleError(f"{where}: {field!r} is {str(value)[:80]!r}, expected {' or '.join(known)}")
    return BundledForm(name, described["file"], cast(Precision, precision), cast(Ops, ops), current)
