"""`compress`, `restore` and `inspect`: functions on codecs that are opened once and cached."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from codec_contract.bundle.find import Control, Quality, bundles_to_try, controls_of, find_bundle, too_few_bytes
from codec_contract.bundle.hub import SCHEME
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.fit import MAX_PHOTO_PIXELS, MAX_PIXELS, Fit, Size
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import CODING_DEFLATE, CODING_RANGE, CODING_RAW, decode_body
from edge_encoder.contract_id import check_contract_id
from edge_encoder.preprocessing import WHITE, Colour, PictureSource, load_picture
from sdk.codec import Codec
from sdk.faces import Fitted
from sdk.inputs import PayloadSource, RestoreSource, read_payload, read_restore_source
from sdk.installed_bundles import installed_manifests, manifest_for, require_manifest_for
from sdk.payload import Payload, Scene, check_claims, coder_tables
from sdk.scenes import compress_scene_within
from server_decoder.providers import Device

_opening = threading.Lock()


def compress(
    picture: PictureSource,
    bundle: str | Path = "faces",
    fit: Fit | None = None,
    *,
    background: Colour = WHITE,
    max_pixels: int = MAX_PHOTO_PIXELS,
    align: bool = True,
    require_face: bool = False,
    quality: Quality | None = None,
    max_bytes: int | None = None,
) -> Payload:
    """Compress a photograph to a payload of some hundred bytes.

    A bundle of faces, such as the default one, finds the largest face and encodes the square around it that portraits
    have in FFHQ, at any angle; the payload stores where the square lies, so `paste` can put the face back. A picture
    that is already framed so is encoded whole. Bundles of other domains encode the whole picture.

    Args:
        picture: a path, an open binary file or its bytes, a PIL picture, or a uint8 or uint16 array ``[H, W]``,
            ``[H, W, 3]`` RGB or ``[H, W, 4]`` RGBA; OpenCV's BGR is not noticed. Any orientation, colour mode
            (docs/exact_square.md has the rule); but with colour or alpha, JPEG 2000 files and uncompressed planar TIFFs
            have at most 8 bits per channel, and HDR is refused. A PIL picture that you have turned must not keep the
            orientation of its EXIF: ``PIL.ImageOps.exif_transpose`` turns it and removes that.
        bundle: id, alias or folder of the bundle, or ``hf://owner/name@revision``; both sides need the same one.
        fit: encode the whole picture instead of its face: ``"pad"`` keeps it and its aspect, ``"stretch"`` fills the
            square, ``"crop"`` takes the centre square. The payload stores the fit, and `restore` undoes it.
        background: colour behind transparent pixels.
        max_pixels: largest picture that is read.
        align: False encodes the whole picture, as ``fit="pad"`` does. A bundle of faces restores only pictures well
            that one face fills.
        require_face: refuse a face that is too small, turned away or cut off (`find_faces`).
        quality: ``"tiny"``, ``"small"``, ``"medium"`` or ``"large"`` takes this rate of the installed bundles for the
            same kind of pictures as ``bundle`` (docs/qualities.md). None takes the rate of ``bundle`` itself.
        max_bytes: largest payload: the best quality that fits is taken, up to ``quality`` if that is given.

    Raises:
        ImageError: the picture cannot be read, or is refused; it shows no face, or not the required one; or no payload
            of it has ``max_bytes`` or fewer.
        BundleError: there is no such bundle or quality, or it is damaged.
        DeviceMemoryError: there is too little memory to decode the picture.
    """
    codecs = _codecs(bundle, quality, max_bytes)
    return compress_within(codecs, quality, max_bytes, picture, fit, background, max_pixels, align, require_face)


def compress_faces(
    picture: PictureSource,
    bundle: str | Path = "faces",
    *,
    background: Colour = WHITE,
    max_pixels: int = MAX_PHOTO_PIXELS,
    quality: Quality | None = None,
    max_bytes: int | None = None,
) -> list[Payload]:
    """Compress every face of a photograph, of at least 32 pixels from the forehead to the chin; the largest first.

    Args:
        picture, bundle, background, max_pixels, quality: as for `compress`.
        max_bytes: largest payload of a face: each has the best quality that fits.

    Raises:
        ImageError: the picture cannot be read, or shows no such face; no payload of one has ``max_bytes`` or fewer; or
            the bundle is not one of faces.
        BundleError: there is no such bundle or quality, or it is damaged.
    """
    codecs = _codecs(bundle, quality, max_bytes)
    return compress_faces_within(codecs, quality, max_bytes, picture, background, max_pixels)


def compress_scene(
    picture: PictureSource,
    bundle: str | Path = "faces",
    *,
    max_bytes: int | None = None,
    background: Colour = WHITE,
    max_pixels: int = MAX_PHOTO_PIXELS,
    quality: Quality | None = None,
) -> Scene:
    """Compress a photograph: all its faces, up to 64, and a background; `restore` gives the whole photograph.

    Args:
        picture, bundle, background, max_pixels, quality: as for `compress`.
        max_bytes: largest scene: the faces have the best rate that leaves the background a quarter, or else the last;
            the background gets the rest. By default the background is a blur of a few dozen bytes.

    Raises:
        ImageError: as `compress_faces`; or the faces alone exceed ``max_bytes``.
        BundleError: there is no such bundle or quality, or it is damaged.
    """
    codecs = _codecs(bundle, quality, max_bytes)
    return compress_scene_within(codecs, quality, max_bytes, picture, background, max_pixels)


def restore(
    payload: RestoreSource,
    bundle: str | Path | None = None,
    *,
    size: Size = "original",
    device: Device = "cpu",
    max_pixels: int = MAX_PIXELS,
    seed: int | None = None,
    strength: float | None = None,
    mark: bool = True,
) -> Image.Image:
    """Restore the picture of a payload, the photograph of a scene, or the picture of a bare LR.

    Args:
        payload: a `Payload` or `Scene`, its bytes or text, or the file or path of these; or an LR: uint8
            ``[lr, lr, 3]``, a PNG, a PIL picture, opaque. An LR does not store the original's size; its picture is the
            decoder's square. Its levels are rounded as in a payload. Give the str of a client to `Payload.from_text`:
            here it could be a path.
        bundle: id, alias, folder or ``hf://owner/name@revision``; None takes the installed bundle that the payload
            names, for an LR the default bundle.
        size: ``"original"`` gives the original's size and aspect (for ``fit="crop"`` those of the centre square, for
            an aligned face those of its square); ``"native"`` gives the aspect at the decoder's resolution; a number
            of pixels gives it with this longest side. Above the decoder's resolution the bundle's enlarger is used,
            if it has one: for ``"original"`` at the smallest of `BundleInfo.sides` that covers the original, at the
            largest for originals beyond it.
        device: ``"cpu"`` or ``"cuda"``; there is no fall-back to the other one.
        max_pixels: refuse payloads that claim a larger original, or a larger picture of a ``size`` in pixels; ignored
            with ``size="native"``.
        seed: for bundles with that control (``photos-x4``): seed of the faint detail that the LR does not determine.
            None for the likeliest picture.
        strength: for bundles with that control (GCFSR): how much detail is hallucinated, as the factor, 4 to 64, by
            which the picture is assumed to have been reduced. None for the bundle's own factor.
        mark: return a `MarkedPicture`, whose `save` writes into the file that it is generated
            (docs/generated_marks.md).

    Returns:
        An RGB picture.

    Raises:
        PayloadError: the payload is truncated, corrupt, or of a bundle that is not installed.
        ImageError: the LR is of another size or type than the bundle's, or the original exceeds ``max_pixels``; the
            bundle has no such control, or the seed or strength is out of range; or it does not restore at ``size``.
        BundleError: there is no such bundle, or it is damaged.
        DeviceError: the device is not available; a `DeviceMemoryError` if there is too little memory.
    """
    source = read_restore_source(payload)
    if bundle is None and isinstance(source, (Payload, Scene)):
        first = source.faces[0] if isinstance(source, Scene) else source
        folder = require_manifest_for(first.header).folder.resolve()
    else:
        folder = _folder("faces" if bundle is None else bundle)
    return _codec(folder, device).restore(
        source, size=size, max_pixels=max_pixels, seed=seed, strength=strength, mark=mark
    )


_CODINGS = {CODING_RAW: "raw", CODING_RANGE: "range", CODING_DEFLATE: "deflate"}


@dataclass(frozen=True)
class PayloadInfo:
    """Result of `inspect`; every value was checked.

    Attributes:
        bytes: length of the payload.
        version: version of the payload format.
        coding: ``"range"``, ``"deflate"`` or ``"raw"``.
        contract_id: the beginning of the LR contract id it was made under: four hex digits, of version 1 eight.
        bundle: id of the installed bundle it belongs to; None if no installed one has that contract.
        lr_size: (width, height) of the LR it holds.
        original_size: (width, height) of the original picture.
        fit: ``"pad"``, ``"stretch"``, ``"crop"`` or ``"align"``.
        body_checked: True if the coded body was checked too, which needs a raw body or the bundle's tables.
        square: the part of the original that an aligned payload shows; None for the other fits.
        controls: options of restoring it, by name; empty if its bundle is not installed.
        sides: sides of the squares that its bundle restores, in pixels (`BundleInfo.sides`); empty if it is not
            installed.
        quality: name of its rate, if it has one and its bundle is installed.
    """

    bytes: int
    version: int
    coding: str
    contract_id: str
    bundle: str | None
    lr_size: tuple[int, int]
    original_size: tuple[int, int]
    fit: str
    body_checked: bool
    square: OrientedSquare | None = None
    controls: Mapping[str, Control] = field(default_factory=dict)
    sides: tuple[int, ...] = ()
    quality: str | None = None


def inspect(payload: PayloadSource) -> PayloadInfo:
    """Check a payload completely, in any form that `restore` takes; no neural network runs.

    Length, CRC and every claim of the header are checked. If the bundle it belongs to is installed, the size of the LR
    is checked too, and that the body is exactly what the coder writes for this LR (except for deflated bodies).

    Raises:
        PayloadError: the payload is damaged.
        BundleError: the bundle it belongs to is damaged.
    """
    checked = read_payload(payload)
    header = checked.header
    manifest = manifest_for(header)
    coding = len(checked), header.version, _CODINGS[header.coding], header.contract_id.hex()
    shown = header.lr_size, header.original_size, header.fit
    if manifest is None:
        return PayloadInfo(*coding, None, *shown, header.coding == CODING_RAW, header.square)
    rate = check_claims(header, manifest)
    decode_body(checked.parsed, coder_tables(manifest, rate))
    known = controls_of(manifest), manifest.sides, rate.quality
    return PayloadInfo(*coding, manifest.id, *shown, True, header.square, *known)


def bundles_for(bundle: str | Path, quality: str | None = None, max_bytes: int | None = None) -> list[Manifest]:
    """The installed bundles to try for a picture, best quality first; arguments as for `compress`."""
    base = load_manifest(find_bundle(bundle, check=check_contract_id))
    if quality is None and max_bytes is None:
        return [base]  # the others are not read
    return bundles_to_try(base, list(installed_manifests()), quality, max_bytes)


def compress_within(
    codecs: Sequence[Codec], quality: str | None, max_bytes: int | None, *picture: Any, **options: Any
) -> Payload:
    """Compress with the first of the codecs, best first, whose payload fits; further arguments as for `Codec.fit`."""
    inputs: dict[tuple[int, bool], Fitted] = {}  # the picture is decoded and aligned once for each kind of input

    def fitted(codec: Codec) -> Fitted:
        kind = codec.bundle.hr, bool(codec.bundle.sides)
        if kind not in inputs:
            inputs[kind] = codec.fit(*picture, **options)
        return inputs[kind]

    return _first_that_fits(codecs, quality, max_bytes, fitted)


def compress_faces_within(
    codecs: Sequence[Codec],
    quality: str | None,
    max_bytes: int | None,
    picture: PictureSource,
    background: Colour = WHITE,
    max_pixels: int = MAX_PHOTO_PIXELS,
) -> list[Payload]:
    """Compress every face of a photograph, each with the first of the codecs, best first, whose payload fits."""
    rgb = load_picture(picture, background=background, max_pixels=max_pixels)
    faces = {hr: list(codec.fit_faces(rgb)) for hr, codec in {codec.bundle.hr: codec for codec in codecs}.items()}

    def compress_face(index: int) -> Payload:
        return _first_that_fits(codecs, quality, max_bytes, lambda codec: faces[codec.bundle.hr][index])

    return list(map(compress_face, range(len(faces[codecs[0].bundle.hr]))))


def _first_that_fits(
    codecs: Sequence[Codec], quality: str | None, max_bytes: int | None, fitted: Callable[[Codec], Fitted]
) -> Payload:
    sizes = []
    for codec in codecs:
        payload = codec.compress_fitted(fitted(codec), quality, max_bytes)
        if max_bytes is None or len(payload) <= max_bytes:
            return payload
        sizes.append(len(payload))
    raise too_few_bytes(max_bytes or 0, min(sizes), quality=codecs[-1].bundle.qualities[-1])


def _codecs(bundle: str | Path, quality: Quality | None, max_bytes: int | None) -> list[Codec]:
    """Opened codecs of the bundles to try, best quality first."""
    folder = _folder(bundle)
    if quality is None and max_bytes is None:
        return [_codec(folder)]
    return [_codec(manifest.folder.resolve()) for manifest in bundles_for(folder, quality, max_bytes)]


def _folder(bundle: str | Path) -> Path:
    find = _hub_folder if str(bundle).startswith(SCHEME) else find_bundle
    return find(str(bundle)).resolve()


_hub_folder = functools.lru_cache(maxsize=8)(functools.partial(find_bundle, check=check_contract_id))  # asked once


def _codec(folder: Path, device: Device = "cpu") -> Codec:
    with _opening:  # so that two threads do not open the same bundle twice
        return _kept_codec(folder, device)


_kept_codec = functools.lru_cache(maxsize=8)(Codec)
