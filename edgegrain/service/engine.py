"""The computations of a worker process: batches of payloads to picture files, picture files to payloads.

The only file of the service that runs networks; it opens bundles with `sdk.open_bundle.OpenBundle`. A payload is parsed
a second time here: the process that accepted the request sends its bytes through a pipe, and a worker does not rely on
checks made in another process.
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
from PIL import Image

from codec_contract.bundle.controls import strength_of
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import DeviceMemoryError, EdgegrainError, ServiceError
from codec_contract.fit import fit_picture, unfit_restored
from codec_contract.payload import Header, parse_payload
from codec_contract.rgb import Rgb
from edge_encoder.preprocessing import load_picture
from edgegrain.service.engine_options import CompressOptions, Outcome, RestoreOptions, require_servable
from edgegrain.service.result_limits import check_result
from sdk.decoder_form import FormChoice, RunningDecoder
from sdk.generated_mark import marked
from sdk.open_bundle import OpenBundle
from sdk.payload_claims import enlargement
from server_decoder.decoder_session import Device

logger = logging.getLogger(__name__)


class Stages:
    """Stopwatch for the stages of a batch, in seconds."""

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
    """All served bundles, opened on one device."""

    def __init__(
        self, folders: Sequence[str | Path], *, device: Device = "cpu", threads: int | None = None,
        batch_sizes: Sequence[int] = (1,), max_pixels: int = 1 << 24, decoder_form: FormChoice = "auto",
    ) -> None:
        """Open the bundles; every file's hash is checked before it is parsed.

        Args:
            folders: folders of the bundles.
            device: device of the decoders; encoders always run on the CPU, where they are exact.
            threads: threads of a network on the CPU; None for all cores.
            batch_sizes: ascending; batches are padded to the next of these, so that only shapes that were warmed up
                are run.
            max_pixels: largest picture that is read or made.
            decoder_form: of every bundle; by default the one for the device.

        Raises:
            BundleError: a bundle is damaged, or this release does not serve its kind.
            DeviceError: the device is not available.
        """
        self._sizes = tuple(batch_sizes)
        self._max_pixels = max_pixels
        self._bundles: dict[str, OpenBundle] = {}
        for manifest in map(load_manifest, folders):
            require_servable(manifest)
            bundle = OpenBundle(manifest, device, threads, form=decoder_form)
            bundle.open()
            self._bundles[manifest.id] = bundle

    @property
    def decoders(self) -> dict[str, RunningDecoder]:
        """Bundle -> the decoder that restores its payloads."""
        return {name: bundle.running_decoder for name, bundle in self._bundles.items()}

    def warm_up(self) -> list[tuple[str, str, int, float, int]]:
        """Run every decoder, enlarger and encoder, and code one payload for each bundle.

        On CUDA every batch size is run, which selects kernels and captures graphs. On a CPU one picture loads
        everything; the first batch of another size only allocates its memory.

        Returns:
            Verb, bundle, number of pictures, seconds and enlargement of every batch.
        """
        taken = []
        for name, bundle in self._bundles.items():
            side, lr, sizes = bundle.manifest.hr, bundle.manifest.lr, self._sizes[:1]
            if bundle.decoder.device == "cuda":
                sizes = self._sizes
                if bundle.decoder.lr_size is not None:
                    bundle.decoder.warm_up(sizes)  # keeps their buffers; they are replayed as graphs from now on
            for size in sizes:
                start = time.perf_counter()
                self._decode(bundle, np.full((size, lr, lr, 3), 128, np.uint8), [RestoreOptions()] * size)
                taken.append(("restore", name, size, time.perf_counter() - start, 1))
            decoding = taken[-1][3] / sizes[-1]
            for larger in bundle.manifest.sides[1:]:
                start = time.perf_counter()
                bundle.enlarge(np.full((side, side, 3), 128, np.uint8), larger // side)
                taken.append(("restore", name, 1, decoding + time.perf_counter() - start, larger // side))
            start = time.perf_counter()
            encoded = bundle.encode(np.full((1, side, side, 3), 128, np.uint8))[0]
            payload = bundle.pack(encoded, (side, side))
            taken.append(("compress", name, 1, time.perf_counter() - start, 1))
            self._unpack(bundle, payload, RestoreOptions())
        return taken

    def restore(
        self, bundle_id: str, payloads: Sequence[bytes], options: Sequence[RestoreOptions], stages: Stages
    ) -> list[Outcome]:
        """Restore payloads to picture files, in order; a failed item does not affect the others.

        All options must have the same seed: a batch is decoded with one.
        """
        bundle = self._bundles[bundle_id]
        with stages.measure("unpack"):
            unpacked = [_attempt(self._unpack, bundle, payload, wanted)
                        for payload, wanted in zip(payloads, options, strict=True)]
        good = [index for index, item in enumerate(unpacked) if not isinstance(item, EdgegrainError)]
        outcomes: list[Outcome] = [item if isinstance(item, EdgegrainError) else b"" for item in unpacked]
        if not good:
            return outcomes
        with stages.measure("decode"):
            lrs = np.stack([unpacked[index][0] for index in good])
            hr = _attempt(self._decode, bundle, lrs, [options[index] for index in good])
        if isinstance(hr, EdgegrainError):
            for index in good:
                outcomes[index] = hr
            return outcomes
        # One at a time: enlarged squares and pictures of the original's size are large.
        for square, index in zip(hr, good, strict=True):
            outcomes[index] = _attempt(self._finish, bundle, square, unpacked[index][1], options[index], stages)
        return outcomes

    def compress(
        self, bundle_id: str, pictures: Sequence[bytes], options: Sequence[CompressOptions], stages: Stages
    ) -> list[Outcome]:
        """Compress picture files to payloads, in order; a failed item does not affect the others."""
        bundle = self._bundles[bundle_id]
        outcomes: list[Outcome] = [b""] * len(pictures)
        # One at a time: decoded pictures are large, and the encoder takes a fraction of the time of reading.
        for index, (data, wanted) in enumerate(zip(pictures, options, strict=True)):
            with stages.measure("read"):
                read = _attempt(_read, data, wanted, bundle.manifest.hr, self._max_pixels)
            if isinstance(read, EdgegrainError):
                outcomes[index] = read
                continue
            fitted, original = read
            with stages.measure("encode"):
                outcomes[index] = _attempt(_encode, bundle, fitted, original, wanted.fit)
        return outcomes

    def _unpack(self, bundle: OpenBundle, data: bytes, options: RestoreOptions) -> tuple[Rgb, Header]:
        """The LR, uint8 [lr, lr, 3], and the header of a payload; all claims are checked before its body is decoded."""
        payload = parse_payload(data)
        check_result(payload.header, bundle.manifest, options, self._max_pixels)
        strength_of(bundle.manifest, options.strength)
        return bundle.unpack(payload), payload.header

    def _finish(
        self, bundle: OpenBundle, square: Rgb, header: Header, options: RestoreOptions, stages: Stages
    ) -> bytes:
        """The picture file of a decoded square, uint8 [hr, hr, 3], enlarged if its size asks for it."""
        factor = enlargement(header, bundle.manifest, options.size)
        if factor > 1:
            with stages.measure("enlarge"):
                square = bundle.enlarge(square, factor)
        with stages.measure("write"):
            return _write(square, header, options, factor, bundle.manifest, self._max_pixels)

    def _decode(self, bundle: OpenBundle, lrs: Rgb, options: Sequence[RestoreOptions]) -> Rgb:
        """LRs, uint8 [n, lr, lr, 3], to squares, uint8 [n, hr, hr, 3], in a batch of a size that was warmed up."""
        count = len(lrs)
        padding = [0] * (next((size for size in self._sizes if size >= count), count) - count)  # copies of the first
        strengths = [wanted.strength for wanted in (*options, *(options[index] for index in padding))]
        squares = bundle.decode(np.concatenate([lrs, lrs[padding]]), seed=options[0].seed, strengths=strengths)
        return squares[:count]


def _attempt(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of ``work``, or its error as a value, so that it concerns this item only."""
    try:
        return work(*arguments)
    except EdgegrainError as error:
        return error
    except MemoryError:
        return DeviceMemoryError("there was not enough memory for this request")
    except Exception:  # a defect here or in a library that this item triggers; the batch goes on
        logger.exception("an item failed")
        return ServiceError("an item failed with an unexpected error; see the log")


def _encode(bundle: OpenBundle, fitted: Rgb, original_size: tuple[int, int], fit: str) -> bytes:
    """The payload of an encoder's square."""
    return bundle.pack(bundle.encode(fitted[None])[0], original_size, fit)


def _read(data: bytes, options: CompressOptions, hr: int, max_pixels: int) -> tuple[Rgb, tuple[int, int]]:
    """The encoder's square and the original (width, height)."""
    rgb = load_picture(data, background=options.background, max_pixels=max_pixels)
    return fit_picture(rgb, hr, options.fit), (rgb.shape[1], rgb.shape[0])


def _write(
    square: Rgb, header: Header, options: RestoreOptions, factor: int, manifest: Manifest, max_pixels: int
) -> bytes:
    """The picture file of a decoded square that was enlarged by ``factor``."""
    picture = Image.fromarray(
        unfit_restored(square, header, options.size, enlargement=factor, max_pixels=max_pixels))
    picture = marked(picture, manifest, options.mark)
    stream = io.BytesIO()
    picture.save(stream, options.format, **_save_options(options))
    return stream.getvalue()


def _save_options(options: RestoreOptions) -> Mapping[str, int]:
    # Photographs have no repetitions, so run lengths after PNG's filters compress as well as zlib's search, in a
    # quarter of the time. WebP's method 2 takes half the time of its default for 1.5 % more bytes.
    if options.format == "png":
        return {"compress_type": Image.RLE}
    return {"quality": options.quality, **({"subsampling": 0} if options.format == "jpeg" else {"method": 2})}
