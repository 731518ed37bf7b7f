"""`Codec`: compress and restore with one bundle on one device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from codec_contract.bundle.find import find_bundle, strength_of
from codec_contract.bundle.manifest import DEFAULT_DECODER, load_manifest
from codec_contract.errors import ImageError
from codec_contract.fit import (
    MAX_PHOTO_PIXELS,
    MAX_PIXELS,
    Fit,
    Size,
    check_fit,
    check_size,
    fit_picture,
    unfit_picture,
    unfit_restored,
)
from codec_contract.lr_coder.coder_tables import rounded
from codec_contract.payload import FIT_PAD, MAX_LARGE_LR_PIXELS, Header
from codec_contract.pixels import Rgb
from edge_encoder.contract_check import check_contract_id
from edge_encoder.faces.detection import LEAST_PIXELS
from edge_encoder.preprocessing import WHITE, Colour, PictureSource, check_max_pixels, load_picture
from sdk.faces import DOMAIN, Fitted, finder, fit_face, fit_faces
from sdk.generated_mark import marked
from sdk.inputs import RestoreSource, batches, position_in_batch, read_restore_source, with_strengths
from sdk.installed_bundles import BundleInfo, bundle_info
from sdk.open_bundle import FormChoice, OpenBundle, RunningDecoder
from sdk.payload import Payload, Scene, enlargement, restored_size
from sdk.scenes import compress_scene_within, restore_scene
from sdk.tiles import decode_tiles, encode_tiles
from server_decoder.decoder_session import Device


class Codec:
    """A bundle opened on a device. Encoder and decoder are opened when first needed and shared by all threads.

    Example:
        codec = sdk.Codec("faces", threads=2)
        payloads = codec.compress_batch(["anna.jpg", "ben.png"])
        pictures = codec.restore_batch(payloads)

    Attributes:
        bundle: description of the bundle.
        device: the decoder's device, ``"cpu"`` or ``"cuda"``. The encoder always runs on the CPU, where its arithmetic
            is exact.
        threads: threads per picture on the CPU; None for all cores.
    """

    def __init__(
        self,
        bundle: str | Path = "faces",
        device: Device = "cpu",
        threads: int | None = None,
        *,
        decoder: str = DEFAULT_DECODER,
        form: FormChoice = "auto",
    ) -> None:
        """Check the bundle's manifest and the device; no network is loaded yet.

        Args:
            bundle: id, alias or folder of a bundle, or ``hf://owner/name@revision`` for one of the Hugging Face Hub.
            device: ``"cpu"`` or ``"cuda"``.
            threads: 1 to 4096, or None.
            decoder: name of one of the bundle's decoders (docs/bundles.md).
            form: ``"auto"`` takes the decoder's form for CUDA on device ``"cuda"``, if the bundle has one and the
                library of its fused ops is there; ``"default"`` takes the file that runs everywhere; ``"cuda"`` insists
                on the form for CUDA, also on the CPU.

        Raises:
            BundleError: there is no such bundle or decoder, it cannot be downloaded, or its manifest is wrong.
            DeviceError: the device is unknown or its execution provider is not installed, or ``threads`` is out of
                range.
        """
        manifest = load_manifest(find_bundle(bundle, check=check_contract_id)).with_decoder(decoder)
        self._open = OpenBundle(manifest, device, threads, form=form)
        self._manifest = self._open.manifest
        self.bundle: BundleInfo = bundle_info(self._manifest)
        self.device = device
        self.threads = threads

    def compress(
        self,
        picture: PictureSource,
        fit: Fit | None = None,
        *,
        background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
        align: bool = True,
        require_face: bool = False,
    ) -> Payload:
        """Compress one picture; arguments and errors as `sdk.compress`."""
        return self.compress_fitted(self.fit(picture, fit, background, max_pixels, align, require_face))

    def compress_faces(
        self, picture: PictureSource, *, background: Colour = WHITE, max_pixels: int = MAX_PHOTO_PIXELS
    ) -> list[Payload]:
        """Compress every face of a photograph; arguments and errors as `sdk.compress_faces`."""
        rgb = load_picture(picture, background=background, max_pixels=max_pixels)
        return [self.compress_fitted(fitted) for fitted in self.fit_faces(rgb)]

    def compress_scene(
        self, picture: PictureSource, *, max_bytes: int | None = None, background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
    ) -> Scene:
        """Compress all faces of a photograph and its background; arguments and errors as `sdk.compress_scene`."""
        return compress_scene_within([self], picture, max_bytes=max_bytes, background=background, max_pixels=max_pixels)

    def fit(
        self, picture: PictureSource, fit: Fit | None = None, background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS, align: bool = True, require_face: bool = False,
    ) -> Fitted:
        """The encoder's input: its square, or for a tiled bundle the whole picture, of any size.

        `compress_fitted` of this codec, and of others with inputs of the same size (`BundleInfo.hr`), takes it.

        Raises:
            ImageError: as `sdk.compress`; or the bundle is tiled, and ``fit`` is given, or the picture is too large.
        """
        if fit is not None:
            check_fit(fit)
        if not isinstance(align, (bool, np.bool_)):
            raise ImageError(f"align is True or False, got {align!r}")
        aligned = bool(align) and fit is None and self._manifest.domain == DOMAIN and not self._tiled
        if require_face and not aligned:
            raise ImageError("require_face checks the face that is cut out of a photograph; leave it out with a fit, "
                             "with align=False, and with bundles of other domains")
        if self._tiled and fit not in (None, FIT_PAD):
            raise ImageError(f"bundle {self._manifest.id} takes pictures of any size as they are; leave fit out")
        rgb = load_picture(picture, background=background, max_pixels=max_pixels)
        if self._tiled:
            size = rgb.shape[1], rgb.shape[0]
            if math.prod(self._manifest.lr_size(size)) > MAX_LARGE_LR_PIXELS:
                raise ImageError(
                    f"the picture has {size[0]} x {size[1]} pixels, bundle {self._manifest.id} takes up to "
                    f"{MAX_LARGE_LR_PIXELS * self._manifest.factor**2}; reduce it, or take a bundle of a larger factor")
            return Fitted(rgb, size, FIT_PAD)
        if aligned:
            return fit_face(rgb, self._manifest.hr, require=require_face)
        whole = FIT_PAD if fit is None else fit
        return Fitted(fit_picture(rgb, self._manifest.hr, whole), (rgb.shape[1], rgb.shape[0]), whole)

    def fit_faces(
        self, rgb: Rgb, *, framed_whole: bool = True, least: float = LEAST_PIXELS
    ) -> Iterator[Fitted]:
        """The encoder's squares for all faces of a picture, uint8 ``[H, W, 3]``, as `sdk.compress_faces` takes them.

        Args:
            rgb: the picture.
            framed_whole: take a picture that is framed as in FFHQ whole, as `compress` does.
            least: smallest face, in pixels from the forehead to the chin.

        Raises:
            ImageError: there is no face of that size, or the bundle is of another domain.
        """
        if self._tiled or self._manifest.domain != DOMAIN:
            raise ImageError(f"bundle {self._manifest.id} is for {self._manifest.domain}, not for faces of photographs")
        return fit_faces(rgb, self._manifest.hr, framed_whole=framed_whole, least=least)

    def compress_fitted(self, fitted: Fitted) -> Payload:
        """The payload of a picture that `fit` prepared, maybe of another codec with inputs of the same size."""
        if self._tiled:
            return self.pack(encode_tiles(self._open.encoder, self._manifest, fitted.rgb), fitted)
        return self.pack(self._open.encode(fitted.rgb[None])[0], fitted)

    def pack(self, lr: Rgb, fitted: Fitted) -> Payload:
        """The payload of an LR of this bundle's size, uint8 ``[h, w, 3]``, for a picture that `fit` prepared; its
        levels are rounded as the bundle's payloads store them."""
        lr = self._round(lr)
        return Payload(self._open.pack(lr, fitted.original_size, fitted.fit, fitted.square), lr=lr)

    def compress_batch(
        self,
        pictures: Iterable[PictureSource],
        fit: Fit | None = None,
        *,
        background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
        align: bool = True,
        require_face: bool = False,
    ) -> list[Payload]:
        """Compress pictures of any sizes, in order; the payloads equal those of `compress`.

        Raises:
            EdgegrainError: as `compress`; the message begins with the position of the picture, counted from 0.
        """
        payloads = []
        for first, group in batches(pictures):
            if self._tiled:
                for index, picture in enumerate(group, first):
                    with position_in_batch("picture", index):
                        payloads.append(self.compress(
                            picture, fit, background=background, max_pixels=max_pixels, align=align,
                            require_face=require_face))
                continue
            prepared = []
            for index, picture in enumerate(group, first):
                with position_in_batch("picture", index):
                    prepared.append(self.fit(picture, fit, background, max_pixels, align, require_face))
            lrs = self._open.encode(np.stack([fitted.rgb for fitted in prepared]))
            payloads += [self.pack(lr, fitted) for lr, fitted in zip(lrs, prepared, strict=True)]
        return payloads

    def restore(
        self, payload: RestoreSource, *, size: Size = "original", max_pixels: int = MAX_PIXELS, seed: int | None = None,
        strength: float | None = None, mark: bool = True,
    ) -> Image.Image:
        """Restore one payload or bare LR with this bundle; arguments and errors as `sdk.restore`.

        Raises:
            PayloadError: among others, the payload belongs to another bundle.
        """
        strength, source = strength_of(self._manifest, strength), read_restore_source(payload)
        if seed is not None and not self._tiled:
            raise ImageError(f"bundle {self._manifest.id} has no control 'seed'; restore without a seed")
        if isinstance(source, Scene):
            return restore_scene(self, source, size=size, max_pixels=max_pixels, strength=strength, mark=mark)
        lr, header = self._unpack(source, size, max_pixels)
        if self._tiled:
            hr = decode_tiles(self._open.decoder, self._manifest, lr, seed)
            height, width = hr.shape[:2] if header is None else (header.original_height, header.original_width)
            return marked(Image.fromarray(np.ascontiguousarray(hr[:height, :width])), self.bundle, mark, seed)
        hr = self._open.decode(lr[None], strengths=[strength])[0]
        return marked(self._picture(hr, header, size, max_pixels), self.bundle, mark)

    def restore_batch(
        self,
        payloads: Iterable[RestoreSource],
        *,
        size: Size = "original",
        max_pixels: int = MAX_PIXELS,
        strength: float | Sequence[float | None] | None = None,
        mark: bool = True,
    ) -> list[Image.Image]:
        """Restore payloads or bare LRs, in order.

        Args:
            payloads: of this bundle, or LRs of its size.
            size: as for `restore`.
            max_pixels: as for `restore`.
            strength: one for all payloads, or one for each.
            mark: as for `restore`.

        Raises:
            EdgegrainError: as `restore`; the message begins with the position of the payload, counted from 0. An
                `ImageError` too if the number of strengths is not that of the payloads.
        """
        pictures = []
        for first, group in batches(with_strengths(payloads, strength)):
            sources, unpacked, strengths = [], [], []
            for index, (payload, wanted) in enumerate(group, first):
                with position_in_batch("payload", index):
                    sources.append(read_restore_source(payload))
                    strengths.append(strength_of(self._manifest, wanted))
            if self._tiled or any(isinstance(source, Scene) for source in sources):
                for index, (source, wanted) in enumerate(zip(sources, strengths, strict=True), first):
                    with position_in_batch("payload", index):
                        pictures.append(self.restore(
                            source, size=size, max_pixels=max_pixels, strength=wanted, mark=mark))
                continue
            for index, source in enumerate(sources, first):
                if not isinstance(source, Scene):
                    with position_in_batch("payload", index):
                        unpacked.append(self._unpack(source, size, max_pixels))
            decoded = self._open.decode(np.stack([lr for lr, _ in unpacked]), strengths=strengths)
            pictures += [
                marked(self._picture(hr, header, size, max_pixels), self.bundle, mark)
                for hr, (_, header) in zip(decoded, unpacked, strict=True)]
        return pictures

    def can_restore(self, payload: Payload) -> bool:
        """True for payloads of this bundle's LR contract."""
        return payload.header.is_of(self._manifest.lr_contract_id)

    def warm_up(self) -> None:
        """Compress and restore a grey picture, so that the first real one does not wait for the networks to load."""
        side = self._manifest.hr
        if self.device == "cuda" and not self._tiled:
            self._open.decoder.warm_up()  # keeps buffers, and a CUDA graph, for single pictures
        grey = np.full((side, side, 3), 128, np.uint8)
        if self._manifest.domain == DOMAIN:
            finder().find(grey)
        self.restore(self.compress(grey, align=False))

    @property
    def running_decoder(self) -> RunningDecoder:
        """The file, precision, ops and provider that restore pictures; opens the decoder.

        Raises:
            BundleError, DeviceError: the decoder cannot be opened.
        """
        return self._open.running_decoder

    def __repr__(self) -> str:
        return f"Codec(bundle={self.bundle.id!r}, device={self.device!r}, threads={self.threads})"

    @property
    def _tiled(self) -> bool:
        """True for bundles of photographs of any size, whose networks run tile by tile."""
        return self._manifest.tile_overlap is not None

    def _round(self, lr: Rgb) -> Rgb:
        """The LR's levels as a payload holds them: multiples of the bundle's step."""
        return rounded(lr, self._open.tables.step)

    def _unpack(self, received: Payload | Rgb, size: Size, max_pixels: int) -> tuple[Rgb, Header | None]:
        """The LR, uint8 [lr, lr, 3], and the header of a payload; every refusal comes before a network runs."""
        size = check_size(size)
        max_pixels = check_max_pixels(max_pixels)
        enlargement(received.header if isinstance(received, Payload) else None, self._manifest, size)
        if isinstance(received, Payload):
            header = received.header
            width, height = restored_size(header, self._manifest, size)
            if isinstance(size, int):
                _check_pixels(width, height, max_pixels)
            elif (self._tiled or size == "original") and width * height > max_pixels:
                advice = "" if self._tiled else "ask for size='native' (--size native) or "
                raise ImageError(
                    f"the payload claims {'an original' if header.cut is None else 'a part'} of {width} x {height} "
                    f"pixels, more than {max_pixels}; {advice}raise max_pixels (--max-megapixels)")
            return self._open.unpack(received.parsed), header
        if self._tiled:
            if received.shape[0] * received.shape[1] * self._manifest.factor**2 > max_pixels:
                raise ImageError(f"the picture would have more than {max_pixels} pixels; raise max_pixels "
                                 "(--max-megapixels)")
            return self._round(received), None
        lr = self._manifest.lr
        if received.shape != (lr, lr, 3):
            raise ImageError(
                f"bundle {self._manifest.id} takes LRs of {lr} x {lr}, got {received.shape[1]} x {received.shape[0]}; "
                "name the bundle it was made with")
        if isinstance(size, int):
            _check_pixels(size, size, max_pixels)
        return self._round(received), None

    def _picture(self, hr: Rgb, header: Header | None, size: Size, max_pixels: int) -> Image.Image:
        """The picture of a decoded square, uint8 [hr, hr, 3], enlarged if its size asks for it."""
        size = check_size(size)
        factor = enlargement(header, self._manifest, size)
        square = self._open.enlarge(hr, factor)
        if header is not None:
            square = unfit_restored(square, header, size, enlargement=factor, max_pixels=max_pixels)
        elif isinstance(size, int):
            square = unfit_picture(square, (size, size), size=size, enlargement=factor, max_pixels=max_pixels)
        return Image.fromarray(square)


def _check_pixels(width: int, height: int, most: int) -> None:
    """Raise `ImageError` for a size in pixels that makes a picture of more than ``most``."""
    if width * height > most:
        raise ImageError(f"the picture would have {width} x {height} pixels, more than {most}; ask for a smaller size "
                         "or raise max_pixels (--max-megapixels)")
