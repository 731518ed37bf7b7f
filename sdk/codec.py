"""`Codec`: a bundle opened on a device, for many pictures and many threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_contract.bundle.controls import strength_of
from codec_contract.bundle.manifest import load_manifest
from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import BundleError, DeviceError, EdgegrainError, ImageError
from codec_contract.fit import MAX_PIXELS, PREPROCESSING, Fit, Size, unfit_restored
from codec_contract.lr_coder.coder import CoderTables
from codec_contract.payload import FIT_PAD, Header, encode_payload, parse_header
from edge_encoder.encoder_session import EncoderSession
from edge_encoder.preprocessing import WHITE, Colour, Picture, load_picture
from sdk.align_or_fit import Align, Fitted, fit_or_align
from sdk.inputs import Received, read_received
from sdk.known_bundles import BundleInfo, bundle_info
from sdk.payload import Payload, coder_tables, decode_body
from sdk.tiles import PAD as TILE_PAD
from sdk.tiles import decode_tiles, encode_tiles
from server_decoder.decoder_session import DecoderSession, Device, require_provider

ENCODER_FILE = "encoder.onnx"
BATCH = 8
"""Pictures that go through a network together; bounds the memory of a batch of any length."""

Item = TypeVar("Item")


class Codec:
    """Both halves of a bundle. Encoder and decoder are opened when first needed, then shared by all threads.

    Example:
        codec = sdk.Codec("faces", threads=2)
        payloads = codec.compress_batch(["anna.jpg", "ben.png"])
        pictures = codec.restore_batch(payloads)

    Attributes:
        bundle: what the bundle says about itself.
        device: where the decoder runs, ``"cpu"`` or ``"cuda"``. The encoder always runs on the CPU, where its
            arithmetic is exact.
        threads: threads per picture on the CPU; None for all cores.
    """

    def __init__(
        self,
        bundle: str | Path = "faces",
        device: Device = "cpu",
        threads: int | None = None,
    ) -> None:
        """Check the bundle's manifest and that the device exists; nothing is loaded yet.

        Args:
            bundle: id, alias or folder of a bundle.
            device: ``"cpu"`` or ``"cuda"``.
            threads: at least 1, or None.

        Raises:
            BundleError: there is no such bundle, or its manifest is wrong.
            DeviceError: the device is unknown or its execution provider is not installed.
        """
        manifest = load_manifest(find_bundle(bundle))
        known = PREPROCESSING if manifest.tile_overlap is None else {"pad": TILE_PAD}
        for name in ("resize", "pad"):
            if manifest.preprocessing.get(name) != known.get(name):
                raise BundleError(
                    f"bundle {manifest.id} prepares pictures with {name} {manifest.preprocessing.get(name)!r}, this "
                    f"release knows {known.get(name)!r}; update edgegrain"
                )
        if threads is not None and threads < 1:
            raise DeviceError(f"threads must be at least 1, got {threads}")
        if device != "cpu":  # the CPU is always there; asking would load ONNX Runtime
            require_provider(device)
        self.bundle: BundleInfo = bundle_info(manifest)
        self.device = device
        self.threads = threads
        self._manifest = manifest
        self._opening = threading.Lock()
        self._tables: CoderTables | None = None
        self._encoder: EncoderSession | None = None
        self._decoder: DecoderSession | None = None

    def compress(
        self,
        picture: Picture,
        fit: Fit = "pad",
        *,
        background: Colour = WHITE,
        max_pixels: int = MAX_PIXELS,
        align: Align = False,
    ) -> Payload:
        """Compress one picture; arguments and errors as `sdk.compress`."""
        fitted = self._prepare(picture, fit, background, max_pixels, align)
        if self._manifest.tile_overlap is not None:
            return self._pack(encode_tiles(self._open_encoder(), self._manifest, fitted.rgb), fitted)
        return self._pack(self._open_encoder().encode(fitted.rgb[None])[0], fitted)

    def compress_batch(
        self,
        pictures: Iterable[Picture],
        fit: Fit = "pad",
        *,
        background: Colour = WHITE,
        max_pixels: int = MAX_PIXELS,
        align: Align = False,
    ) -> list[Payload]:
        """Compress pictures of any sizes, in order; the payloads equal those of `compress`.

        Raises:
            EdgegrainError: as `compress`; the message begins with the position of the picture, counted from 0.
        """
        payloads = []
        for first, group in _groups(pictures):
            if self._manifest.tile_overlap is not None:
                for index, picture in enumerate(group, first):
                    with _Position("picture", index):
                        payloads.append(self.compress(
                            picture, fit, background=background, max_pixels=max_pixels, align=align))
                continue
            prepared = []
            for index, picture in enumerate(group, first):
                with _Position("picture", index):
                    prepared.append(self._prepare(picture, fit, background, max_pixels, align))
            lrs = self._open_encoder().encode(np.stack([fitted.rgb for fitted in prepared]))
            payloads += [self._pack(lr, fitted) for lr, fitted in zip(lrs, prepared, strict=True)]
        return payloads

    def restore(
        self, payload: Received, *, size: Size = "original", max_pixels: int = MAX_PIXELS, seed: int | None = None,
        strength: float | None = None,
    ) -> Image.Image:
        """Restore one payload or bare LR with this bundle; arguments and errors as `sdk.restore`.

        Raises:
            PayloadError: among others, the payload belongs to another bundle.
        """
        strength = strength_of(self._manifest, strength)
        lr, header = self._unpack(payload, size, max_pixels)
        if self._manifest.tile_overlap is not None:
            hr = decode_tiles(self._open_decoder(), self._manifest, lr, seed)
            height, width = hr.shape[:2] if header is None else (header.original_height, header.original_width)
            return Image.fromarray(np.ascontiguousarray(hr[:height, :width]))
        if seed is not None:
            raise ImageError(f"bundle {self._manifest.id} has nothing random in it; restore without a seed")
        return _picture(self._decode(lr[None], [strength])[0], header, size, max_pixels)

    def restore_batch(
        self,
        payloads: Iterable[Received],
        *,
        size: Size = "original",
        max_pixels: int = MAX_PIXELS,
        strength: float | Sequence[float | None] | None = None,
    ) -> list[Image.Image]:
        """Restore payloads or bare LRs, in order.

        Args:
            payloads: of this bundle, or LRs of its size.
            size, max_pixels: as for `restore`.
            strength: one for all, or one a payload.

        Raises:
            EdgegrainError: as `restore`; the message begins with the position of the payload, counted from 0. An
                `ImageError` too if there are more or fewer strengths than payloads.
        """
        pictures = []
        for first, group in _groups(_with_strengths(payloads, strength)):
            if self._manifest.tile_overlap is not None:
                for index, (payload, wanted) in enumerate(group, first):
                    with _Position("payload", index):
                        pictures.append(self.restore(payload, size=size, max_pixels=max_pixels, strength=wanted))
                continue
            unpacked, strengths = [], []
            for index, (payload, wanted) in enumerate(group, first):
                with _Position("payload", index):
                    strengths.append(strength_of(self._manifest, wanted))
                    unpacked.append(self._unpack(payload, size, max_pixels))
            decoded = self._decode(np.stack([lr for lr, _ in unpacked]), strengths)
            pictures += [
                _picture(hr, header, size, max_pixels) for hr, (_, header) in zip(decoded, unpacked, strict=True)]
        return pictures

    def warm_up(self) -> None:
        """Send a grey picture there and back, so that the first real one does not pay for opening both halves."""
        side = self._manifest.hr
        self.restore(self.compress(np.full((side, side, 3), 128, np.uint8)))

    def __repr__(self) -> str:
        return f"Codec(bundle={self.bundle.id!r}, device={self.device!r}, threads={self.threads})"

    def _prepare(self, picture: Picture, fit: str, background: Colour, max_pixels: int, align: Align) -> Fitted:
        """What the encoder takes: its square, or for tiles the whole picture, of any size."""
        tiles = self._manifest.tile_overlap is not None
        if tiles and (fit != FIT_PAD or align is not False):
            raise ImageError(
                f"bundle {self._manifest.id} takes pictures of any size as they are; leave "
                f"{'align' if fit == FIT_PAD else 'fit'} out")
        rgb = load_picture(picture, background=background, max_pixels=max_pixels)
        if tiles:
            return Fitted(rgb, (rgb.shape[1], rgb.shape[0]), fit)
        return fit_or_align(rgb, self._manifest.hr, fit, align)

    def _pack(self, lr: npt.NDArray[np.uint8], fitted: Fitted) -> Payload:
        data = encode_payload(
            lr, contract_id=self._manifest.lr_contract_id, tables=self._open_tables(),
            original_size=fitted.original_size, fit=fitted.fit, square=fitted.square)
        return Payload(data, lr=lr)

    def _unpack(
        self, source: Received, size: str, max_pixels: int
    ) -> tuple[npt.NDArray[np.uint8], Header | None]:
        """The LR, uint8 [lr, lr, 3], and the header where there is one; refuses before any network runs."""
        if size not in ("original", "native"):
            raise ImageError(f"unknown size {size!r}, expected 'original' or 'native'")
        received = read_received(source)
        if isinstance(received, bytes):
            header = parse_header(received)
            tiles, cut = self._manifest.tile_overlap is not None, header.cut
            width, height = header.original_width, header.original_height
            if cut is not None and not tiles:
                width = height = cut.side
            if (tiles or size == "original") and width * height > max_pixels:
                raise ImageError(
                    f"the payload claims {'an original' if cut is None else 'a part'} of {width} x {height} pixels, "
                    f"more than {max_pixels}; ask for size='native' or raise max_pixels"
                )
            return decode_body(received, self._manifest, self._open_tables()), header
        if self._manifest.tile_overlap is not None:
            if received.shape[0] * received.shape[1] * self._manifest.factor**2 > max_pixels:
                raise ImageError(f"the picture would have more than {max_pixels} pixels; raise max_pixels")
            return received, None
        lr = self._manifest.lr
        if received.shape != (lr, lr, 3):
            raise ImageError(
                f"bundle {self._manifest.id} takes LRs of {lr} x {lr}, got {received.shape[1]} x {received.shape[0]}; "
                "name the bundle it was made with"
            )
        return received, None

    def _decode(
        self, lr: npt.NDArray[np.uint8], strengths: Sequence[float | None]
    ) -> npt.NDArray[np.uint8]:
        given = [strength for strength in strengths if strength is not None]  # all of them, or the bundle takes none
        hr = self._open_decoder().decode(lr, strength=given or None)
        side = self._manifest.hr
        if hr.shape[1:] != (side, side, 3):
            raise BundleError(
                f"the decoder of bundle {self._manifest.id} made pictures of {list(hr.shape[1:])}, its manifest says "
                f"[{side}, {side}, 3]"
            )
        return hr

    def _open_tables(self) -> CoderTables:
        with self._opening:
            if self._tables is None:
                self._tables = coder_tables(self._manifest)
            return self._tables

    def _open_encoder(self) -> EncoderSession:
        with self._opening:
            if self._encoder is None:
                encoder = EncoderSession(self._manifest.open_file(ENCODER_FILE), self.threads)
                if (encoder.hr, encoder.lr) != (self._manifest.hr, self._manifest.lr):
                    raise BundleError(
                        f"the encoder of bundle {self._manifest.id} goes from {encoder.hr} to {encoder.lr} pixels, "
                        f"its manifest says {self._manifest.hr} to {self._manifest.lr}"
                    )
                self._encoder = encoder
            return self._encoder

    def _open_decoder(self) -> DecoderSession:
        with self._opening:
            if self._decoder is None:
                name = self._manifest.decoder.get("file")
                if not isinstance(name, str):
                    raise BundleError(f"the manifest of bundle {self._manifest.id} names no decoder file")
                self._decoder = DecoderSession(self._manifest.open_file(name), self.device, self.threads)
            return self._decoder


def _with_strengths(
    payloads: Iterable[Received], strength: float | Sequence[float | None] | None
) -> Iterable[tuple[Received, float | None]]:
    """Every payload with its strength."""
    if not isinstance(strength, Iterable):
        return zip(payloads, itertools.repeat(strength), strict=False)
    payloads, strengths = list(payloads), list(strength)
    if len(payloads) != len(strengths):
        raise ImageError(f"{len(payloads)} payloads take one strength, or as many; got {len(strengths)}")
    return zip(payloads, strengths, strict=True)


class _Position:
    """Puts the position in a batch in front of the message of an error, keeping its class."""

    def __init__(self, kind: str, index: int) -> None:
        self.place = f"{kind} {index}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EdgegrainError):
            raise type(error)(f"{self.place}: {error}") from error


def _groups(items: Iterable[Item]) -> Iterable[tuple[int, list[Item]]]:
    """(position of the first, up to `BATCH` items), until there are no more."""
    iterator = iter(items)
    for first in itertools.count(0, BATCH):
        group = list(itertools.islice(iterator, BATCH))
        if not group:
            return
        yield first, group


def _picture(
    hr: npt.NDArray[np.uint8], header: Header | None, size: Size, max_pixels: int
) -> Image.Image:
    if header is not None:
        hr = unfit_restored(hr, header, size, max_pixels=max_pixels)
    return Image.fromarray(hr)

