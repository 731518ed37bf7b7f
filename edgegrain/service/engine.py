"""The computations of a worker process: batches of payloads to picture files, picture files to payloads.

The only file of the service that runs networks; pictures are compressed, and scenes restored, by the functions of the
SDK. A payload is parsed a second time here: the process that accepted the request sends its bytes through a pipe, and a
worker does not rely on checks made in another process.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from codec_contract.bundle.find import strength_of
from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.errors import BundleError, DeviceMemoryError, EdgegrainError, ImageError, ServiceError
from codec_contract.fit import MAX_PHOTO_PIXELS, Fit, Size, unfit_restored
from codec_contract.payload import Header, parse_header, parse_payload
from codec_contract.pixels import Rgb
from codec_contract.scene import MAX_FACES, is_scene
from edge_encoder.preprocessing import load_picture
from edgegrain.pictures.file_formats import MAX_SIDES
from sdk.codec import Codec
from sdk.faces import DOMAIN, finder
from sdk.generated_mark import marked
from sdk.open_bundle import FormChoice, OpenBundle, RunningDecoder
from sdk.payload import Payload, Scene, check_claims, enlargement, restored_size
from sdk.rate_control import compress_within
from sdk.scenes import compress_scene_within, restore_scene, scene_size
from server_decoder.decoder_session import Device

logger = logging.getLogger(__name__)

QUALITY = 90
"""Default quality of WebP and JPEG."""

Outcome = bytes | EdgegrainError
"""Result of one item: the bytes of a picture file, payload, scene or JSON document, or the item's error."""

FacesChoice = Literal["largest", "all", "scene"]
"""Faces of a picture to compress: the largest to a payload, all to a payload each, or all to one scene."""


@dataclass(frozen=True)
class RestoreOptions:
    """Options for restoring one payload.

    Attributes:
        size: ``"original"``, ``"native"`` for the decoder's own resolution, or the longest side in pixels.
        format: ``"png"``, ``"webp"`` or ``"jpeg"``.
        quality: quality of WebP and JPEG, 1 to 100.
        seed: seed of the noise, for decoders that take noise; the same for all items of a batch.
        strength: for decoders with this control; None for the bundle's default. May differ between items of a batch.
        mark: write into the file that the picture is generated.
    """

    size: Size = "original"
    format: str = "png"
    quality: int = QUALITY
    seed: int = 0
    strength: float | None = None
    mark: bool = True


@dataclass(frozen=True)
class CompressOptions:
    """Options for compressing one picture.

    Attributes:
        fit, align, require_face: as for `sdk.compress`, with ``faces="largest"``.
        background: colour behind transparent pixels, three levels.
        faces: the faces to compress.
        max_bytes: largest payload or scene; not with ``faces="all"``.
        fallbacks: ids of the bundles to try next, in order, if the result exceeds ``max_bytes``.
    """

    fit: Fit | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    align: bool = True
    require_face: bool = False
    faces: FacesChoice = "largest"
    max_bytes: int | None = None
    fallbacks: Sequence[str] = ()


def require_servable(manifest: Manifest) -> None:
    """Raise `BundleError` for a bundle of photographs in tiles: the engine's batches hold squares of one size."""
    if manifest.tile_overlap is not None:
        raise BundleError(
            f"bundle {manifest.id} takes photographs of any size, in tiles; the service works with bundles of one "
            "square. Use edgegrain compress, restore and batch, or sdk.Codec, for this one")


def read_claims(data: bytes) -> Header | Scene:
    """The checked header of a payload, or the checked scene; `PayloadError` if the bytes are neither."""
    return Scene(data) if is_scene(data) else parse_header(data)


def check_result(claims: Header | Scene, manifest: Manifest, options: RestoreOptions, max_pixels: int) -> int:
    """Check the claims of a payload or scene against the bundle, and the size of its picture against the limits.

    Returns:
        Pixels of the picture, at least those of the square that the networks make for it.
    """
    if isinstance(claims, Scene):
        for face in claims.faces:
            check_claims(face.header, manifest)
        side = manifest.hr
        width, height = scene_size(claims, manifest.hr, options.size, max_pixels)
    else:
        check_claims(claims, manifest)
        side = enlargement(claims, manifest, options.size) * manifest.hr
        width, height = restored_size(claims, manifest, options.size)
    if width * height > max_pixels:
        raise ImageError(
            f"the picture would have {width} x {height} pixels, more than the limit of {max_pixels}; ask for "
            "size=native or fewer pixels")
    longest = MAX_SIDES[options.format]
    if max(width, height) > longest:
        raise ImageError(
            f"the picture would have {width} x {height} pixels, the sides of a {options.format.upper()} file have at "
            f"most {longest}; ask for image/png or size=native")
    return max(width * height, side * side)


def check_faces(scene: Scene, manifest: Manifest, size: Size, most: int) -> None:
    """Raise `ImageError` for a scene with more than ``most`` faces, of which those that are enlarged count twice."""
    original, sides = scene.original_size, manifest.sides[1:]
    scale = max(scene_size(scene, manifest.hr, size, 1 << 62)) / max(original)
    enlarged = sum(face.header.square is not None and face.header.square.side * scale > manifest.hr
                   for face in scene.faces) if sides else 0
    if len(scene.faces) + enlarged > most:
        counted = f", of which {enlarged} are enlarged and count twice" if enlarged else ""
        raise ImageError(
            f"the scene has {len(scene.faces)} faces{counted}, more than the {most} that are restored here in one "
            f"request; {'ask for size=native or restore' if enlarged else 'restore'} it with the SDK")


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


class ServedCodec(Codec):
    """A codec; the engine also runs its networks itself, in batches."""

    @property
    def opened(self) -> OpenBundle:
        return self._open


class Engine:
    """A codec of every served bundle, opened on one device."""

    def __init__(
        self, folders: Sequence[str | Path], *, device: Device = "cpu", threads: int | None = None,
        batch_sizes: Sequence[int] = (1,), max_pixels: int = 1 << 24, max_photo_pixels: int = MAX_PHOTO_PIXELS,
        max_scene_faces: int = MAX_FACES,
        decoder_form: FormChoice = "auto",
    ) -> None:
        """Open the bundles; every file's hash is checked before it is parsed.

        Args:
            folders: folders of the bundles.
            device: device of the decoders; encoders always run on the CPU, where they are exact.
            threads: threads of a network on the CPU; None for all cores.
            batch_sizes: ascending; batches are padded to the next of these, so that only shapes that were warmed up
                are run.
            max_pixels: largest picture that is restored.
            max_photo_pixels: largest picture that is compressed.
            max_scene_faces: most faces of a scene that is made.
            decoder_form: of every bundle; by default the one for the device.
        """
        self._sizes = tuple(batch_sizes)
        self._max_pixels = max_pixels
        self._max_photo_pixels = max_photo_pixels
        self._max_scene_faces = max_scene_faces
        self._codecs: dict[str, ServedCodec] = {}
        for folder in folders:
            require_servable(load_manifest(folder))
            codec = ServedCodec(folder, device, threads, form=decoder_form)
            codec.opened.open()
            self._codecs[codec.bundle.id] = codec

    @property
    def decoders(self) -> dict[str, RunningDecoder]:
        """Bundle -> the decoder that restores its payloads."""
        return {name: codec.running_decoder for name, codec in self._codecs.items()}

    def warm_up(self) -> list[tuple[str, str, int, float]]:
        """Run every decoder, enlarger and encoder, code one payload for each bundle, and search a picture for faces.

        On CUDA every batch size is run, which selects kernels and captures graphs. On a CPU one picture loads
        everything; the first batch of another size only allocates its memory.

        Returns:
            Verb, bundle, enlargement and seconds of a picture of each kind.
        """
        taken = []
        for name, codec in self._codecs.items():
            bundle = codec.opened
            side, lr, sizes = bundle.manifest.hr, bundle.manifest.lr, self._sizes[:1]
            if bundle.decoder.device == "cuda":
                sizes = self._sizes
                if bundle.decoder.lr_size is not None:
                    bundle.decoder.warm_up(sizes)  # keeps their buffers; they are replayed as graphs from now on
            for size in sizes:
                start = time.perf_counter()
                self._decode(bundle, np.full((size, lr, lr, 3), 128, np.uint8), [RestoreOptions()] * size)
                decoding = (time.perf_counter() - start) / size
            taken.append(("restore", name, 1, decoding))
            for larger in bundle.manifest.sides[1:]:
                start = time.perf_counter()
                bundle.enlarge(np.full((side, side, 3), 128, np.uint8), larger // side)
                taken.append(("restore", name, larger // side, decoding + time.perf_counter() - start))
            start = time.perf_counter()
            grey = np.full((side, side, 3), 128, np.uint8)
            if bundle.manifest.domain == DOMAIN:
                finder().find(grey)
            payload = codec.compress(grey, align=False)
            taken.append(("compress", name, 1, time.perf_counter() - start))
            self._unpack(codec, payload, RestoreOptions(), Stages())
        return taken

    def restore(
        self, bundle_id: str, payloads: Sequence[bytes], options: Sequence[RestoreOptions], stages: Stages
    ) -> list[Outcome]:
        """Restore payloads and scenes to picture files, in order; a failed item does not affect the others.

        All options must have the same seed: a batch is decoded with one. Scenes are restored one by one.
        """
        codec = self._codecs[bundle_id]
        unpacked = [_attempt(self._scene if is_scene(payload) else self._unpack, codec, payload, wanted, stages)
                    for payload, wanted in zip(payloads, options, strict=True)]
        outcomes: list[Outcome] = [b"" if isinstance(item, tuple) else item for item in unpacked]
        good = [index for index, item in enumerate(unpacked) if isinstance(item, tuple)]
        if good:
            with stages.measure("decode"):
                hr = _attempt(self._decode, codec.opened, np.stack([unpacked[index][0] for index in good]),
                              [options[index] for index in good])
            # One at a time: enlarged squares and pictures of the original's size are large.
            for position, index in enumerate(good):
                outcomes[index] = hr if isinstance(hr, EdgegrainError) else _attempt(
                    self._finish, codec.opened, hr[position], unpacked[index][1], options[index], stages)
        return outcomes

    def compress(
        self, bundle_id: str, pictures: Sequence[bytes], options: Sequence[CompressOptions], stages: Stages
    ) -> list[Outcome]:
        """Compress picture files, in order, to what their options ask for; a failed item does not affect the others."""
        # One at a time: decoded pictures are large, and the encoder takes a fraction of the time of reading.
        return [_attempt(self._compress, bundle_id, data, wanted, stages)
                for data, wanted in zip(pictures, options, strict=True)]

    def _compress(self, bundle_id: str, data: bytes, options: CompressOptions, stages: Stages) -> bytes:
        """The payload, the scene, or the JSON document with all faces of a picture file."""
        codecs = [self._codecs[name] for name in (bundle_id, *options.fallbacks)]
        with stages.measure("read"):
            rgb = load_picture(data, background=options.background, max_pixels=self._max_photo_pixels)
        with stages.measure("encode"):
            if options.faces == "all":
                return _faces_document(codecs[0].bundle.id, (rgb.shape[1], rgb.shape[0]), codecs[0].compress_faces(rgb))
            if options.faces == "scene":
                return compress_scene_within(
                    codecs, rgb, max_bytes=options.max_bytes, most_faces=self._max_scene_faces)
            return compress_within(codecs, rgb, options.fit, max_bytes=options.max_bytes, align=options.align,
                                   require_face=options.require_face)

    def _unpack(self, codec: ServedCodec, data: bytes, options: RestoreOptions, stages: Stages) -> tuple[Rgb, Header]:
        """The LR, uint8 [lr, lr, 3], and the header of a payload; all claims are checked before its body is decoded."""
        bundle = codec.opened
        with stages.measure("unpack"):
            payload = parse_payload(data)
            check_result(payload.header, bundle.manifest, options, self._max_pixels)
            strength_of(bundle.manifest, options.strength)
            return bundle.unpack(payload), payload.header

    def _scene(self, codec: ServedCodec, data: bytes, options: RestoreOptions, stages: Stages) -> bytes:
        """The picture file of a scene."""
        with stages.measure("unpack"):
            scene = Scene(data)
            check_result(scene, codec.opened.manifest, options, self._max_pixels)
        with stages.measure("decode"):
            picture = restore_scene(codec, scene, size=options.size, max_pixels=self._max_pixels,
                                    strength=options.strength, mark=options.mark)
        with stages.measure("write"):
            return _file(picture, options)

    def _finish(
        self, bundle: OpenBundle, square: Rgb, header: Header, options: RestoreOptions, stages: Stages
    ) -> bytes:
        """The picture file of a decoded square, uint8 [hr, hr, 3], enlarged if its size asks for it."""
        factor = enlargement(header, bundle.manifest, options.size)
        if factor > 1:
            with stages.measure("enlarge"):
                square = bundle.enlarge(square, factor)
        with stages.measure("write"):
            picture = Image.fromarray(unfit_restored(
                square, header, options.size, enlargement=factor, max_pixels=self._max_pixels))
            return _file(marked(picture, bundle.manifest, options.mark), options)

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


def _faces_document(bundle: str, original_size: tuple[int, int], payloads: Sequence[Payload]) -> bytes:
    """The JSON document with all faces of a picture (docs/service.md)."""
    faces = [{"payload": base64.b64encode(payload).decode(), "bytes": len(payload),
              "square": payload.header.square and dataclasses.asdict(payload.header.square)} for payload in payloads]
    return json.dumps({"bundle": bundle, "original_size": original_size, "faces": faces}).encode()


def _file(picture: Image.Image, options: RestoreOptions) -> bytes:
    # Photographs have no repetitions, so run lengths after PNG's filters compress as well as zlib's search, in a
    # quarter of the time. WebP's method 2 takes half the time of its default for 1.5 % more bytes.
    settings = {"png": {"compress_type": Image.RLE}, "webp": {"quality": options.quality, "method": 2},
                "jpeg": {"quality": options.quality, "subsampling": 0}}[options.format]
    stream = io.BytesIO()
    picture.save(stream, options.format, **settings)
    return stream.getvalue()
