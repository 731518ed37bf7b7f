"""`OpenBundle`: a bundle's networks and coder tables, ready to use; the SDK and the service share this class."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from codec_contract.bundle.find import strength_of
from codec_contract.bundle.manifest import ENCODER_ONNX, BundledForm, Manifest, Rate, decoder_forms, default_form
from codec_contract.errors import BundleError, DeviceError
from codec_contract.fit import PREPROCESSING
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.pixels import Rgb
from edge_encoder.encoder_session import EncoderSession
from sdk.payload import coder_tables
from server_decoder.cuda_ops.library import find_library, require_cuda_kernels
from server_decoder.decoder_session import STEP, DecoderSession
from server_decoder.enlarger_session import EnlargerSession
from server_decoder.providers import CudaOptions, Device, can_run_int8, require_provider

logger = logging.getLogger(__name__)

T = TypeVar("T")
FormChoice = Literal["auto", "default", "fused", "int8"]
"""``"auto"``: the device's form, on CPUs int8, if it can run, else the default one; the others by name, or an error."""


@dataclass(frozen=True)
class RunningDecoder:
    """The decoder that a session runs.

    Attributes:
        file: its name in the bundle.
        precision: type that its convolutions compute in, ``"float32"``, ``"float16"`` or ``"int8"``.
        ops: ``"fused"`` if it runs on the library of fused ops, else ``"plain"``.
        device: ``"cpu"`` or ``"cuda"``.
        provider: ONNX Runtime's execution provider.
        graphs: true if batch sizes that were warmed up are replayed as CUDA graphs.
        reason: why CUDA does not run the bundle's form for it; "" if it does, and on the CPU.
    """

    file: str
    precision: str
    ops: str
    device: str
    provider: str
    graphs: bool
    reason: str = ""

    def __str__(self) -> str:
        graphs = "" if self.device == "cpu" else ", CUDA graphs" if self.graphs else ", no CUDA graphs"
        return f"{self.file}, {self.precision}, {self.ops} ops, {self.provider}{graphs}"


def choose_form(manifest: Manifest, device: str, choice: FormChoice = "auto") -> tuple[BundledForm, str]:
    """The form of a bundle's decoder to run on a device, and the reason if CUDA does not run the one for it."""
    forms = decoder_forms(manifest)
    wanted = choice if choice != "auto" else "fused" if device == "cuda" else "int8"
    options = "--precision int8" if wanted == "int8" else "--precision float16 --ops fused"
    making = f"make it with 'edgegrain export decoder {options} --bundle {manifest.folder} --into {manifest.folder}'"
    reason = ""
    if wanted not in forms:
        reason = f"the bundle has none; {making}"
    elif not forms[wanted].current:
        reason = f"{forms[wanted].file} was made from another decoder than the bundle's; {making}"
    elif wanted == "int8" and (device != "cpu" or not can_run_int8()):
        reason = "the form int8 needs a CPU and ONNX Runtime 1.24 or newer"
    if choice != "auto":
        if choice not in forms:
            known = ", ".join(forms)
            raise BundleError(f"bundle {manifest.id} has no form {choice!r} of its decoder, only: {known}; {making}")
        if reason:
            raise BundleError(reason)
        return forms[choice], ""
    if device != "cuda":
        return forms["default" if reason else "int8"], ""
    if "fused" not in forms and manifest.codec != "grain":  # other families have none
        return forms["default"], ""
    if not reason and forms["fused"].ops == "fused":
        try:
            require_cuda_kernels(find_library())
        except DeviceError as error:
            reason = str(error)
    return forms["default" if reason else "fused"], reason


class OpenBundle:
    """A bundle on a device. Each part is opened when it is first used, then shared by all threads.

    Every file's SHA-256 is checked before the file is parsed. Encoders run on the CPU, where they are exact.
    """

    def __init__(
        self, manifest: Manifest, device: Device = "cpu", threads: int | None = None, *, form: FormChoice = "auto"
    ) -> None:
        """Check the preprocessing and the device; no file of the bundle is opened yet."""
        known = PREPROCESSING if manifest.tile_overlap is None else {"pad": "edge"}
        for name in ("resize", "pad"):
            if (found := manifest.preprocessing.get(name)) != known.get(name):
                advice = f"this release knows {known.get(name)!r}; update edgegrain"
                raise BundleError(f"bundle {manifest.id} prepares pictures with {name} {found!r}, {advice}")
        if device != "cpu":  # the CPU is always there; the check would load ONNX Runtime
            require_provider(device)
        if form not in get_args(FormChoice):
            raise BundleError(f"a form is one of {', '.join(get_args(FormChoice))}, got {form!r}")
        self.manifest, self.device, self.threads, self.form = manifest, device, threads, form
        self.graphs = True  # false: the decoder replays no CUDA graphs
        self.default_strength = strength_of(manifest, None)
        self._opening = threading.RLock()
        self._parts: dict[object, Any] = {}

    def _once(self, key: object, make: Callable[[], T]) -> T:
        """The part of this key, made by the first call."""
        with self._opening:
            if key not in self._parts:
                self._parts[key] = make()
            part: T = self._parts[key]
            return part

    def open(self) -> None:
        """Open every part now."""
        _ = self.tables, self.encoder, self.decoder
        if self.manifest.enlarger is not None:
            _ = self.enlarger

    @property
    def tables(self) -> CoderTables:
        """The coder tables of the bundle's own rate."""
        return self.tables_of(self.manifest.own_rate)

    def tables_of(self, rate: Rate) -> CoderTables:
        """The coder tables of a rate."""
        return self._once(rate.coder, lambda: coder_tables(self.manifest, rate))

    @property
    def encoder(self) -> EncoderSession:
        """The encoder."""
        return self._once("encoder", lambda: EncoderSession(self.manifest.open_file(ENCODER_ONNX), self.threads))

    @property
    def decoder(self) -> DecoderSession:
        """The decoder."""
        return self._running_decoder(self.form)[0]

    @property
    def running_decoder(self) -> RunningDecoder:
        """The file, precision, ops and provider that `decoder` runs."""
        decoder, running = self._running_decoder(self.form)
        return replace(running, graphs=decoder.graphs)  # false after a warm-up that could not capture them

    def _running_decoder(self, choice: FormChoice) -> tuple[DecoderSession, RunningDecoder]:
        return self._once(("decoder", choice), lambda: self._open_decoder(choice))

    def _open_decoder(self, choice: FormChoice) -> tuple[DecoderSession, RunningDecoder]:
        manifest, (form, reason) = self.manifest, choose_form(self.manifest, self.device, choice)
        if reason:
            what = f"{form.file} in {form.precision}"
            logger.warning("bundle %s runs %s on CUDA, not a decoder for CUDA: %s", manifest.id, what, reason)
        model, held = manifest.open_file(form.file), default_form(manifest).file
        options: Any = {"step": self.tables.step if manifest.further_rates else None, "strength": self.default_strength}
        options["weights"] = (held, manifest.open_file(held)) if form.name == "int8" else None
        session = DecoderSession(model, self.device, self.threads, cuda=CudaOptions(graphs=self.graphs), **options)
        ops, provider = "fused" if session.fused else "plain", session.providers[0]
        running = RunningDecoder(form.file, form.precision, ops, session.device, provider, session.graphs, reason)
        logger.info("bundle %s decodes with %s", manifest.id, running)
        return session, running

    @property
    def _enlarges_in_int8(self) -> bool:
        """True if the decoder that runs is in int8, and the enlarger has a form for what that restores."""
        form, _ = choose_form(self.manifest, self.device, self.form)
        return form.name == "int8" and self.manifest.enlarger is not None and self.manifest.enlarger.int8_files != ()

    @property
    def enlarger(self) -> EnlargerSession:
        """The enlarger."""
        return self._once("enlarger", self._open_enlarger)

    def _open_enlarger(self) -> EnlargerSession:
        if (enlarger := self.manifest.enlarger) is None:
            raise BundleError(f"bundle {self.manifest.id} has no enlarger")
        files = [self.manifest.open_file(name) for name in enlarger.files]
        models, weights = files, list[bytes]()
        if self._enlarges_in_int8:
            models, weights = [self.manifest.open_file(name) for name in enlarger.int8_files], files
        return EnlargerSession(models, self.manifest.hr, self.device, self.threads, weights)

    def decode(
        self,
        lrs: Rgb,
        steps: Sequence[int] | None = None,
        strengths: Sequence[float | None] | None = None,
        to_enlarge: bool = False,
    ) -> Rgb:
        """Decode LRs, uint8 ``[N, lr, lr, 3]``, to squares, uint8 ``[N, hr, hr, 3]``, those of grey faces to grey ones.
        Squares ``to_enlarge`` are float32's if the enlarger is: it would take int8's rounding for texture."""
        strength = None
        if (default := self.default_strength) is not None:
            strength = [default if wanted is None else wanted for wanted in strengths or [None] * len(lrs)]
        decoder, running = self._running_decoder(self.form)
        if to_enlarge and self.form == "auto" and running.precision == "int8" and not self._enlarges_in_int8:
            decoder, _ = self._running_decoder("default")
        levels = [self.tables.step] * len(lrs) if steps is None else steps
        told = [self.manifest.told_step(step) for step in levels] if STEP in decoder.controls else None
        squares = decoder.decode(lrs, strength=strength, step=told)
        grey = [is_grey(lr, self.manifest.domain, step) for lr, step in zip(lrs, levels, strict=True)]
        if any(grey):
            squares = np.stack(
                [as_grey(square) if wanted else square for square, wanted in zip(squares, grey, strict=True)]
            )
        return squares

    def enlarge(self, squares: Rgb, factor: int) -> Rgb:
        """Enlarge squares, uint8 ``[N, hr, hr, 3]``, to ``[N, factor * hr, factor * hr, 3]``; grey ones stay grey."""
        enlarged = self.enlarger.enlarge(squares, factor)
        for index, square in enumerate(squares):
            if without_colour(square):
                enlarged[index] = as_grey(enlarged[index])
        return enlarged


# Grey pictures of faces: encoders keep a little of the detail in the LR's colours, so a grey picture's LR has some.
_CELLS = 4
"""Cells in each direction; their means hold little of the colours that stand for detail."""
GREY_LIMITS = {16: 2.3, 32: 3.0}
"""LR side -> root mean square of the cells' chroma, in levels of Cb and Cr, up to which a picture of a face was grey:
of 560 faces turned grey, 0 to 2.1 % are above; of those with a fifth of their saturation, 0.2 to 2.5 % are below."""
GREY_STEP = 27
"""The rounding of levels adds this part of their step; in steps of 56, 3 of 60 grey faces are above."""
_LUMA = np.array([0.299, 0.587, 0.114])


def is_grey(lr: Rgb, domain: str, step: int) -> bool:
    """True if an LR, uint8 ``[side, side, 3]`` with levels in steps, is most likely that of a grey face."""
    side = len(lr)
    if domain != "faces" or (limit := GREY_LIMITS.get(side)) is None:
        return False
    cells = lr.reshape(_CELLS, side // _CELLS, _CELLS, side // _CELLS, 3).mean((1, 3))
    luma = cells @ _LUMA
    chroma = ((cells[..., 2] - luma) / 1.772) ** 2 + ((cells[..., 0] - luma) / 1.402) ** 2  # Cb² + Cr²
    return bool(chroma.mean() <= limit**2 + (step / GREY_STEP) ** 2)


def as_grey(square: Rgb) -> Rgb:
    """A picture, uint8 ``[H, W, 3]``, with its luma in every channel."""
    luma: npt.NDArray[np.uint8] = np.rint(square @ _LUMA).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def without_colour(square: Rgb) -> bool:
    """True if the channels of a picture are equal."""
    return bool((square == square[..., :1]).all())
