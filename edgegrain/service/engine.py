"""What a worker process computes: batches of payloads to picture files, pictures to payloads.

The only file of the service that opens networks, and the only one of the server's half that imports the phone's: the
service encodes for clients that have no encoder, and undoes the fit that the phone's half defines.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_contract.bundle.controls import strength_of
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import BundleError, DeviceError, EdgegrainError, ServiceError
from codec_contract.fit import PREPROCESSING, fit_picture, unfit_restored
from codec_contract.lr_coder.coder import CoderTables
from codec_contract.payload import Header, decode_payload, encode_payload, parse_header
from edge_encoder.encoder_session import EncoderSession
from edge_encoder.preprocessing import load_picture
from edgegrain.service.engine_options import CompressOptions, RestoreOptions
from edgegrain.service.payload_claims import check_claims
from server_decoder.decoder_session import DecoderSession, Device

logger = logging.getLogger(__name__)

Outcome = bytes | EdgegrainError
"""What became of one item of a batch."""


class Stages:
    """Seconds that a batch spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


class Engine:
    """Every served bundle, opened on one device."""

    def __init__(
        self, folders: Sequence[str | Path], *, device: Device = "cpu", threads: int | None = None,
        batch_sizes: Sequence[int] = (1,), max_pixels: int = 1 << 24,
    ) -> None:
        """Open the bundles; every file's hash is checked before it is parsed.

        Args:
            folders: of the bundles.
            device: where decoders run; encoders always run on the CPU, where they are exact.
            threads: of a network on the CPU; None for all cores.
            batch_sizes: ascending; batches are filled up to the next of these, so that only shapes that were warmed
                up are ever run.
            max_pixels: of pictures that are read and made.

        Raises:
            BundleError: a bundle is damaged, or of another kind than this release serves.
            DeviceError: the device is not available.
        """
        self._sizes = tuple(batch_sizes)
        self._max_pixels = max_pixels
        manifests = [load_manifest(folder) for folder in folders]
        self._bundles = {manifest.id: _OpenBundle(manifest, device, threads) for manifest in manifests}

    def warm_up(self) -> None:
        """Run every network on every batch size once, and code one payload."""
        for bundle in self._bundles.values():
            side, lr = bundle.manifest.hr, bundle.manifest.lr
            if bundle.decoder.device == "cuda" and bundle.decoder.lr_size is not None:
                bundle.decoder.warm_up(self._sizes)  # keeps their buffers, and replays them as graphs from now on
            for size in self._sizes:
                bundle.decode(np.full((size, lr, lr, 3), 128, np.uint8), [RestoreOptions()] * size, self._sizes)
            encoded = bundle.encoder.encode(np.full((1, side, side, 3), 128, np.uint8))[0]
            bundle.unpack(bundle.pack(encoded, (side, side), "pad"), RestoreOptions(), self._max_pixels)

    def restore(
        self, bundle_id: str, payloads: Sequence[bytes], options: Sequence[RestoreOptions], stages: Stages
    ) -> list[Outcome]:
        """Payloads to picture files, in order; one that fails does not touch the others. Their seeds are equal."""
        bundle = self._bundles[bundle_id]
        with stages.measure("unpack"):
            unpacked = [_attempt(bundle.unpack, payload, wanted, self._max_pixels)
                        for payload, wanted in zip(payloads, options, strict=True)]
        good = [index for index, item in enumerate(unpacked) if not isinstance(item, EdgegrainError)]
        outcomes: list[Outcome] = [item if isinstance(item, EdgegrainError) else b"" for item in unpacked]
        if not good:
            return outcomes
        with stages.measure("decode"):
            lrs = np.stack([unpacked[index][0] for index in good])
            hr = _attempt(bundle.decode, lrs, [options[index] for index in good], self._sizes)
        if isinstance(hr, EdgegrainError):
            for index in good:
                outcomes[index] = hr
            return outcomes
        with stages.measure("write"):
            for picture, index in zip(hr, good, strict=True):
                outcomes[index] = _attempt(_write, picture, unpacked[index][1], options[index], self._max_pixels)
        return outcomes

    def compress(
        self, bundle_id: str, pictures: Sequence[bytes], options: Sequence[CompressOptions], stages: Stages
    ) -> list[Outcome]:
        """Picture files to payloads, in order; one that fails does not touch the others."""
        bundle = self._bundles[bundle_id]
        outcomes: list[Outcome] = [b""] * len(pictures)
        # One after the other: decoded pictures are large, the encoder takes a fraction of the time that reading does.
        for index, (data, wanted) in enumerate(zip(pictures, options, strict=True)):
            with stages.measure("read"):
                read = _attempt(_read, data, wanted, bundle.manifest.hr, self._max_pixels)
            if isinstance(read, EdgegrainError):
                outcomes[index] = read
                continue
            fitted, original = read
            with stages.measure("encode"):
                outcomes[index] = _attempt(bundle.encode, fitted, original, wanted.fit)
        return outcomes


class _OpenBundle:
    """A bundle with its networks and tables."""

    def __init__(self, manifest: Manifest, device: Device, threads: int | None) -> None:
        for name in ("resize", "pad"):
            if manifest.preprocessing.get(name) != PREPROCESSING[name]:
                raise BundleError(
                    f"bundle {manifest.id} prepares pictures with {name} {manifest.preprocessing.get(name)!r}, this "
                    f"release knows {PREPROCESSING[name]!r}; update edgegrain")
        decoder = manifest.decoder.get("file")
        if not isinstance(decoder, str):
            raise BundleError(f"the manifest of bundle {manifest.id} names no decoder file")
        self.manifest = manifest
        self.tables = CoderTables.from_json(manifest.open_file("coder.json"))
        self.encoder = EncoderSession(manifest.open_file("encoder.onnx"), threads)
        self.strength = strength_of(manifest, None)
        self.decoder = DecoderSession(manifest.open_file(decoder), device, threads, strength=self.strength)
        if (self.encoder.hr, self.encoder.lr) != (manifest.hr, manifest.lr):
            raise BundleError(
                f"the encoder of bundle {manifest.id} goes from {self.encoder.hr} to {self.encoder.lr} pixels, its "
                f"manifest says {manifest.hr} to {manifest.lr}")

    def unpack(
        self, payload: bytes, options: RestoreOptions, max_pixels: int
    ) -> tuple[npt.NDArray[np.uint8], Header]:
        """The LR, uint8 [lr, lr, 3], and the header of a payload, its claims checked before its body is decoded."""
        check_claims(parse_header(payload), self.manifest, options.size, options.format, max_pixels)
        strength_of(self.manifest, options.strength)
        return decode_payload(payload, contract_id=self.manifest.lr_contract_id, tables=self.tables)

    def encode(self, fitted: npt.NDArray[np.uint8], original_size: tuple[int, int], fit: str) -> bytes:
        """The payload of an encoder's square."""
        return self.pack(self.encoder.encode(fitted[None])[0], original_size, fit)

    def pack(self, lr: npt.NDArray[np.uint8], original_size: tuple[int, int], fit: str) -> bytes:
        return encode_payload(
            lr, contract_id=self.manifest.lr_contract_id, tables=self.tables, original_size=original_size, fit=fit)

    def decode(
        self, lr: npt.NDArray[np.uint8], options: Sequence[RestoreOptions], sizes: Sequence[int]
    ) -> npt.NDArray[np.uint8]:
        """LRs, uint8 [n, lr, lr, 3], to squares, uint8 [n, hr, hr, 3], in a batch of a size that was warmed up."""
        count = len(lr)
        filled = next((size for size in sizes if size >= count), count)
        filling = [0] * (filled - count)  # pictures that only fill the batch are copies of the first
        strengths = None if self.strength is None else [
            self.strength if wanted.strength is None else wanted.strength
            for wanted in (*options, *(options[index] for index in filling))]
        hr = self.decoder.decode(np.concatenate([lr, lr[filling]]), options[0].seed, strength=strengths)[:count]
        side = self.manifest.hr
        if hr.shape[1:] != (side, side, 3):
            raise BundleError(
                f"the decoder of bundle {self.manifest.id} made pictures of {list(hr.shape[1:])}, its manifest says "
                f"[{side}, {side}, 3]")
        return hr


def _attempt(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or the error as a value: an item's trouble is its own."""
    try:
        return work(*arguments)
    except EdgegrainError as error:
        return error
    except MemoryError:
        return DeviceError("there was not enough memory for this request")
    except Exception:  # a defect of ours, or of a library that hostile input found: this item's, not the batch's
        logger.exception("an item failed")
        return ServiceError("an item failed in a way that was not foreseen; the log says more")


def _read(
    data: bytes, options: CompressOptions, hr: int, max_pixels: int
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """The encoder's square and the original (width, height)."""
    rgb = load_picture(data, background=options.background, max_pixels=max_pixels)
    return fit_picture(rgb, hr, options.fit), (rgb.shape[1], rgb.shape[0])


def _write(hr: npt.NDArray[np.uint8], header: Header, options: RestoreOptions, max_pixels: int) -> bytes:
    """The picture file of a decoded square."""
    picture = Image.fromarray(unfit_restored(hr, header, options.size, max_pixels=max_pixels))
    stream = io.BytesIO()
    picture.save(stream, options.format, **_save_options(options))
    return stream.getvalue()


def _save_options(options: RestoreOptions) -> Mapping[str, int]:
    # Photographs have no repetitions: run lengths after PNG's filters pack them as well as zlib's search does, in a
    # quarter of the time. WebP's method 2 takes half the time of its default for 1.5 % more bytes.
    if options.format == "png":
        return {"compress_type": Image.RLE}
    return {"quality": options.quality, **({"subsampling": 0} if options.format == "jpeg" else {"method": 2})}
