"""Adding a form of its decoder to a bundle: the same function, exported for a device."""

from __future__ import annotations

import hashlib

from codec_contract.bundle.decoders import BundledForm, decoder_forms
from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import ExistsError, ExportError
from export.bundle.additions import add_files, writable_bundle
from export.bundle.manifest_record import read_record
from export.decoder.command import ExportedDecoder
from export.decoder.decoder_options import DecoderOptions, Noise
from export.decoder.sources import DecoderSource, decoder_hash


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

    Raises:
        ExportError: the bundle's decoder is another one than the source, the noise is not constant, or the bundle's
            folder is read-only, or in the cache of the Hugging Face Hub.
        ExistsError: the bundle has this form, and ``force`` is false.
        BundleError: there is no such bundle, or its manifest is wrong.
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

    Raises:
        OSError: the folder cannot be written.
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
