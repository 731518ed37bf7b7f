"""`Codec`: compress and restore with one bundle on one device."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from codec_contract.bundle.find import SEED, find_bundle, rates_from, strength_of
from codec_contract.bundle.manifest import DEFAULT_DECODER, Rate, load_manifest
from codec_contract.errors import ImageError
from codec_contract.fit import MAX_PHOTO_PIXELS, MAX_PIXELS, Fit, Size, check_fit, fit_picture, unfit_picture
from codec_contract.lr_coder.coder_tables import rounded
from codec_contract.payload import FIT_PAD, MAX_LARGE_LR_PIXELS, Header, decode_body, encode_payload
from codec_contract.pixels import Rgb
from edge_encoder.contract_id import check_contract_id
from edge_encoder.faces.detection import LEAST_PIXELS
from edge_encoder.preprocessing import WHITE, Colour, PictureSource, check_max_pixels, load_picture
from sdk.faces import DOMAIN, Fitted, finder, fit_face, fit_faces
from sdk.generated_mark import marked
from sdk.inputs import RestoreSource, batches, position_in_batch, read_restore_source
from sdk.installed_bundles import BundleInfo, bundle_info
from sdk.open_bundle import FormChoice, OpenBundle, RunningDecoder
from sdk.payload import Payload, Restoration, Scene, check_restoration, check_side, lr_header
from sdk.scenes import compress_scene_within, restore_scene
from sdk.tiles import decode_tiles, encode_tiles
from server_decoder.providers import Device

T = TypeVar("T")
FAR = 1.5
"""A bundle whose last rate takes so many times the limit has none that fits; payloads of 64 x 64 take long to code."""
Measure = Callable[[str], AbstractContextManager[Any]]
"""Measures the time of the block, under the name of a stage."""


class Codec:
    """A bundle opened on a device. Encoder and decoder are opened when first needed and shared by all threads; copies
    in other processes open them again.

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
            threads: per picture on the CPU; None for all cores.
            decoder: name of one of the bundle's decoders (docs/bundles.md).
            form: ``"auto"`` takes the decoder's form for the device, if the bundle has one: fused on ``"cuda"``, if the
                library of its fused ops is there; int8 on CPUs, for pictures that are enlarged only if the enlarger has
                that form too. ``"default"`` takes the file that runs everywhere; ``"fused"`` and ``"int8"`` insist on
                that form.

        Raises:
            BundleError: there is no such bundle or decoder, it cannot be downloaded, or its manifest is wrong.
            DeviceError: the device is unknown or its execution provider is not installed.
        """
        manifest = load_manifest(find_bundle(bundle, check=check_contract_id)).with_decoder(decoder)
        self._open = OpenBundle(manifest, device, threads, form=form)
        self._manifest = self._open.manifest
        self.bundle: BundleInfo = bundle_info(self._manifest)
        self.device = device
        self.threads = threads
        self._open_again: Callable[[], Codec] = functools.partial(
            type(self), bundle, device, threads, decoder=decoder, form=form
        )

    def __reduce__(self) -> tuple[Callable[[], Codec], tuple[()]]:
        """From the same arguments."""
        return self._open_again, ()

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
        """Compress one picture, as `sdk.compress`, at the bundle's own rate."""
        return self.compress_fitted(self.fit(picture, fit, background, max_pixels, align, require_face))

    def compress_faces(
        self, picture: PictureSource, *, background: Colour = WHITE, max_pixels: int = MAX_PHOTO_PIXELS
    ) -> list[Payload]:
        """Compress every face of a photograph, as `sdk.compress_faces`."""
        rgb = load_picture(picture, background=background, max_pixels=max_pixels)
        return [self.compress_fitted(fitted) for fitted in self.fit_faces(rgb)]

    def compress_scene(
        self,
        picture: PictureSource,
        *,
        max_bytes: int | None = None,
        background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
    ) -> Scene:
        """Compress all faces of a photograph and its background, as `sdk.compress_scene`."""
        return compress_scene_within([self], None, max_bytes, picture, background, max_pixels)

    def fit(
        self,
        picture: PictureSource,
        fit: Fit | None = None,
        background: Colour = WHITE,
        max_pixels: int = MAX_PHOTO_PIXELS,
        align: bool = True,
        require_face: bool = False,
    ) -> Fitted:
        """The encoder's input: its square, or for a tiled bundle the whole picture, of any size.

        `compress_fitted` of this codec, and of others with inputs of the same size (`BundleInfo.hr`), takes it.

        Raises:
            ImageError: as `sdk.compress`; or the bundle is tiled, and ``fit`` is given, or the picture is too large.
        """
        if fit is not None:
            check_fit(fit)
        aligned = align and fit is None and self._manifest.domain == DOMAIN and not self._tiled
        if require_face and not aligned:
            advice = "leave it out with a fit, with align=False, and with bundles of other domains"
            raise ImageError(f"require_face checks the face that is cut out of a photograph; {advice}")
        if self._tiled and fit not in (None, FIT_PAD):
            raise ImageError(f"bundle {self._manifest.id} takes pictures of any size as they are; leave fit out")
        rgb = load_picture(picture, background=background, max_pixels=max_pixels)
        size = width, height = rgb.shape[1], rgb.shape[0]
        if self._tiled:
            if math.prod(self._manifest.lr_size(size)) > MAX_LARGE_LR_PIXELS:
                most = (
                    f"{MAX_LARGE_LR_PIXELS * self._manifest.factor**2}; reduce it, or take a bundle of a larger factor"
                )
                raise ImageError(
                    f"the picture has {width} x {height} pixels, bundle {self.bundle.id} takes up to {most}"
                )
            return Fitted(rgb, size, FIT_PAD)
        if aligned:
            return fit_face(rgb, self._manifest.hr, require=require_face)
        whole = FIT_PAD if fit is None else fit
        return Fitted(fit_picture(rgb, self._manifest.hr, whole), size, whole)

    def fit_faces(self, rgb: Rgb, *, framed_whole: bool = True, least: float = LEAST_PIXELS) -> Iterator[Fitted]:
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

    def compress_fitted(self, fitted: Fitted, quality: str | None = None, max_bytes: int | None = None) -> Payload:
        """The payload of a picture that `fit` prepared, maybe of another codec with inputs of the same size.

        It has the bundle's rate of this ``quality``, by default its own; with ``max_bytes`` the best rate that fits, up
        to this quality, or the last."""
        lr = self._lr(fitted)
        *better, last = rates_from(self._manifest, quality, limited=max_bytes is not None)
        payload = self._pack(lr, fitted, last)
        if max_bytes is None or len(payload) > FAR * max_bytes:
            return payload
        payloads = (self._pack(lr, fitted, rate) for rate in better)
        return next((each for each in payloads if len(each) <= max_bytes), payload)

    def _lr(self, fitted: Fitted) -> Rgb:
        """The LR of an input of `fit`, uint8 ``[h, w, 3]``, before its levels are rounded."""
        return next(iter(self._encode([fitted])))

    def pack(self, lr: Rgb, fitted: Fitted, quality: str | None = None) -> Payload:
        """The payload of an LR of this bundle's size, uint8 ``[h, w, 3]``, for a picture that `fit` prepared; its
        levels are rounded as payloads of this ``quality``, by default of the bundle's own rate, store them."""
        return self._pack(lr, fitted, rates_from(self._manifest, quality, limited=False)[0])

    def _pack(self, lr: Rgb, fitted: Fitted, rate: Rate) -> Payload:
        tables, size = self._open.tables_of(rate), fitted.original_size
        lr = rounded(lr, tables.step)
        data = encode_payload(
            lr, contract_id=rate.lr_contract_id, tables=tables, original_size=size, fit=fitted.fit, square=fitted.square
        )
        return Payload(data, lr=lr)

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
        """Compress pictures of any sizes in order, as `sdk.compress`.

        Raises:
            EdgegrainError: as `compress`; the message begins with the position of the picture, counted from 0.
        """
        payloads: list[Payload] = []
        for first, group in batches(pictures):
            prepared = []
            for index, picture in enumerate(group, first):
                with position_in_batch("picture", index):
                    prepared.append(self.fit(picture, fit, background, max_pixels, align, require_face))
                if self._tiled:  # photographs of any size, so one at a time
                    payloads.append(self.compress_fitted(prepared.pop()))
            if prepared:
                payloads += map(self.pack, self._encode(prepared), prepared)
        return payloads

    def restore(
        self,
        payload: RestoreSource,
        *,
        size: Size = "original",
        max_pixels: int = MAX_PIXELS,
        seed: int | None = None,
        strength: float | None = None,
        mark: bool = True,
    ) -> Image.Image:
        """Restore one payload or bare LR with this bundle, as `sdk.restore`.

        Raises:
            PayloadError: among others, the payload belongs to another bundle.
        """
        if seed is not None and SEED not in self.bundle.controls:
            raise ImageError(f"bundle {self.bundle.id} has no control 'seed'; restore without a seed")
        (picture,) = self._restore_each([(payload, size, strength)], max_pixels, mark, seed)
        if isinstance(picture, Exception):
            raise picture
        return picture

    def restore_batch(
        self,
        payloads: Iterable[RestoreSource],
        *,
        size: Size = "original",
        max_pixels: int = MAX_PIXELS,
        strength: float | None = None,
        mark: bool = True,
    ) -> list[Image.Image]:
        """Restore payloads of this bundle, or bare LRs of its size, in order, as `sdk.restore`.

        Raises:
            EdgegrainError: as `restore`; the message begins with the position of the payload, counted from 0.
        """
        pictures = []
        for first, group in batches(payloads):
            items = [(payload, size, strength) for payload in group]
            for index, picture in enumerate(self._restore_each(items, max_pixels, mark), first):
                with position_in_batch("payload", index):
                    if isinstance(picture, Exception):
                        raise picture
                pictures.append(picture)
        return pictures

    def can_restore(self, payload: Payload) -> bool:
        """True for payloads of this bundle's LR contracts."""
        return self._manifest.rate_of(payload.header) is not None

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

    def _encode(self, prepared: Sequence[Fitted]) -> Iterable[Rgb]:
        """The LR of each input of `fit`."""
        if self._tiled:
            return [encode_tiles(self._open.encoder, self._manifest, fitted.rgb) for fitted in prepared]
        return self._open.encoder.encode(np.stack([fitted.rgb for fitted in prepared]))

    def _restore_each(
        self,
        items: Sequence[tuple[RestoreSource, Size, float | None]],
        max_pixels: int,
        mark: bool,
        seed: int | None = None,
        batch_sizes: Sequence[int] = (),
        measure: Measure = nullcontext,
    ) -> Iterator[Image.Image | Exception]:
        """The picture of each source with its size and strength, or its error. LRs are decoded together, padded to the
        next of ``batch_sizes``; then pictures, which may be large, are made one at a time."""
        with measure("unpack"):
            opened = [attempt(self._unpack, *item, max_pixels) for item in items]
        squares: Iterator[Rgb | Exception] = iter(())
        if together := [each for each in opened if isinstance(each, _Unpacked)]:
            with measure("decode"):
                decoded = attempt(self._decode, together, batch_sizes)
            squares = itertools.repeat(decoded) if isinstance(decoded, Exception) else iter(decoded)
        for each, (_, size, strength) in zip(opened, items, strict=True):
            if isinstance(each, _Unpacked):
                yield attempt(self._picture, next(squares), each, mark, seed, measure)
            elif isinstance(each, Scene):
                with measure("decode"):
                    yield attempt(restore_scene, self, each, size, max_pixels, strength, mark)
            else:
                yield each

    def _unpack(self, source: RestoreSource, size: Size, strength: float | None, max_pixels: int) -> _Unpacked | Scene:
        """The LR of a payload, or a scene; every refusal comes before a network runs."""
        strength, received = strength_of(self._manifest, strength), read_restore_source(source)
        if isinstance(received, Scene):
            return received
        header = received.header if isinstance(received, Payload) else lr_header(received, self._manifest)
        size, most = check_side(self._manifest, size), check_max_pixels(max_pixels)
        checked = check_restoration(header, self._manifest, size, most)
        if isinstance(received, Payload):
            tables = self._open.tables_of(checked.rate)
            lr, step = decode_body(received.parsed, tables), tables.step
        else:  # an LR has the rate whose levels it has
            steps = [self._open.tables_of(rate).step for rate in self._manifest.rates]
            step = next(
                (each for each in reversed(steps) if np.array_equal(rounded(received, each), received)), steps[0]
            )
            lr = rounded(received, step)
        return _Unpacked(lr, header, checked, strength, step)

    def _decode(self, unpacked: Sequence[_Unpacked], batch_sizes: Sequence[int]) -> Iterable[Rgb]:
        """The squares of LRs, uint8 [hr, hr, 3]; LRs of a tiled bundle, which has no batches, as they are."""
        if self._tiled:
            return [each.lr for each in unpacked]
        count = len(unpacked)
        padding = [unpacked[0]] * (next((size for size in batch_sizes if size >= count), count) - count)
        together = [*unpacked, *padding]
        lrs, to_enlarge = (
            np.stack([each.lr for each in together]),
            any(each.restored.enlargement > 1 for each in together),
        )
        steps, strengths = [each.step for each in together], [each.strength for each in together]
        return self._open.decode(lrs, steps, strengths, to_enlarge)[:count]

    def _picture(
        self, decoded: Rgb | Exception, unpacked: _Unpacked, mark: bool, seed: int | None, measure: Measure
    ) -> Image.Image:
        """The picture of what `_decode` made, enlarged if its size asks for it."""
        if isinstance(decoded, Exception):
            raise decoded
        square = decoded
        if self._tiled:
            width, height = unpacked.restored.size
            square = decode_tiles(self._open.decoder, self._manifest, square, seed)
            return marked(Image.fromarray(np.ascontiguousarray(square[:height, :width])), self.bundle, mark, seed)
        _, size, factor = unpacked.restored
        if factor > 1:
            with measure("enlarge"):
                square = self._open.enlarge(square[None], factor)[0]
        with measure("write"):
            square = unfit_picture(square, unpacked.header, size, factor)
            return marked(Image.fromarray(square), self.bundle, mark)


class _Unpacked(NamedTuple):
    """An LR to decode, uint8 [h, w, 3], with levels in steps."""

    lr: Rgb
    header: Header
    restored: Restoration
    strength: float | None
    step: int


def attempt(work: Callable[..., T], *arguments: Any, **options: Any) -> T | Exception:
    """The result of ``work``, or its error as a value."""
    try:
        return work(*arguments, **options)
    except Exception as error:
        return error
