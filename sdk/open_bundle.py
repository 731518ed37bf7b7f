"""`OpenBundle`: a bundle's networks and coder tables, ready to use; the SDK and the service share this class."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from codec_contract.bundle.decoders import DEFAULT_FORM, BundledForm, decoder_forms
from codec_contract.bundle.find import strength_of
from codec_contract.bundle.manifest import ENCODER_ONNX, Manifest
from codec_contract.errors import BundleError, DeviceError
from codec_contract.fit import PREPROCESSING
from codec_contract.lr_coder.coder_tables import CoderTables, rounded
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import FIT_PAD, ParsedPayload, encode_payload
from codec_contract.pixels import Rgb
from edge_encoder.encoder_session import EncoderSession
from sdk.payload import coder_tables, decode_payload_lr
from sdk.tiles import PAD as TILE_PAD
from server_decoder.cuda_ops.library import find_library, require_cuda_kernels
from server_decoder.decoder_session import DecoderSession, Device, require_provider
from server_decoder.super_resolution.enlarger_session import EnlargerSession

logger = logging.getLogger(__name__)

MAX_THREADS = 4096
"""Most threads per picture: more than any machine has cores."""
FormChoice = Literal["auto", "default", "cuda"]
"""``"auto"``: the device's form if it can run, else the default one; the others by name, or an error."""
CUDA_FORM = "cuda"


@dataclass(frozen=True)
class RunningDecoder:
    """The decoder that a session runs.

    Attributes:
        file: its name in the bundle.
        precision: type that its convolutions compute in, ``"float32"`` or ``"float16"``.
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
    """The form of a bundle's decoder to run on a device, and the reason if that is not the form for it."""
    forms = decoder_forms(manifest)
    if choice == "auto":
        if device != "cuda" or (CUDA_FORM not in forms and manifest.codec != "grain"):  # other families have none
            return forms[DEFAULT_FORM], ""
        reason = _reason_against(forms.get(CUDA_FORM), manifest)
        return forms[DEFAULT_FORM if reason else CUDA_FORM], reason
    if choice not in get_args(FormChoice):
        raise BundleError(f"unknown form {str(choice)[:80]!r}, expected {', '.join(get_args(FormChoice))}")
    if choice not in forms:
        raise BundleError(f"bundle {manifest.id} has no form {choice!r} of its decoder, only: "
                          f"{', '.join(forms)}; {_making(manifest)}")
    if not forms[choice].current:
        raise BundleError(_stale(forms[choice], manifest))
    return forms[choice], ""


def describe(form: BundledForm, session: DecoderSession, reason: str = "") -> RunningDecoder:
    """Describe the decoder that a session runs.

    Args:
        form: the form that was loaded.
        session: the session that runs it.
        reason: the second result of `choose_form`.
    """
    ops = "fused" if session.fused else "plain"
    return RunningDecoder(form.file, form.precision, ops, session.device, session.providers[0], session.graphs, reason)


def _reason_against(form: BundledForm | None, manifest: Manifest) -> str:
    """The reason why the form for CUDA cannot run; "" if it can."""
    if form is None:
        return f"the bundle has none; {_making(manifest)}"
    if not form.current:
        return _stale(form, manifest)
    if form.ops == "fused":
        try:
            require_cuda_kernels(find_library())
        except DeviceError as error:
            return str(error)
    return ""


def _stale(form: BundledForm, manifest: Manifest) -> str:
    return f"{form.file} was made from another decoder than the bundle's; {_making(manifest)}"


def _making(manifest: Manifest) -> str:
    return ("make it with 'edgegrain export decoder --precision float16 --ops fused "
            f"--bundle {manifest.folder} --into {manifest.folder}'")


class OpenBundle:
    """A bundle on a device. Each part is opened when it is first used, then shared by all threads.

    Every file's SHA-256 is checked before the file is parsed.

    Attributes:
        manifest: of the bundle.
        device: the decoder's device, ``"cpu"`` or ``"cuda"``. The encoder always runs on the CPU, where its arithmetic
            is exact.
        threads: threads per picture on the CPU; None for all cores.
        form: choice of the decoder's form.
        default_strength: strength of pictures restored without one; None for decoders without this control.
    """

    def __init__(self, manifest: Manifest, device: Device = "cpu", threads: int | None = None, *,
                 form: FormChoice = "auto") -> None:
        """Check the preprocessing and the device; no file of the bundle is opened yet.

        Args:
            manifest: of the bundle.
            device: of the decoder.
            threads: 1 to `MAX_THREADS`, or None.
            form: of the decoder; by default the one for the device.
        """
        known = PREPROCESSING if manifest.tile_overlap is None else {"pad": TILE_PAD}
        for name in ("resize", "pad"):
            if manifest.preprocessing.get(name) != known.get(name):
                raise BundleError(
                    f"bundle {manifest.id} prepares pictures with {name} {manifest.preprocessing.get(name)!r}, this "
                    f"release knows {known.get(name)!r}; update edgegrain")
        if threads is not None and not (hasattr(threads, "__index__") and 1 <= threads <= MAX_THREADS):
            raise DeviceError(f"threads must be an integer from 1 to {MAX_THREADS}, or None; got {threads!r}")
        if device != "cpu":  # the CPU is always there; the check would load ONNX Runtime
            require_provider(device)
        self.manifest = manifest
        self.device = device
        self.threads = threads
        self.form: FormChoice = form
        self.default_strength = strength_of(manifest, None)
        self._opening = threading.Lock()
        self._tables: CoderTables | None = None
        self._encoder: EncoderSession | None = None
        self._decoder: DecoderSession | None = None
        self._running: RunningDecoder | None = None
        self._enlarger: EnlargerSession | None = None

    def open(self) -> None:
        """Open every part now; errors as `tables`, `encoder`, `decoder` and `enlarger`."""
        _ = self.tables, self.encoder, self.decoder
        if self.manifest.enlarger is not None:
            _ = self.enlarger

    @property
    def tables(self) -> CoderTables:
        """The coder tables; `BundleError` if their file is missing, altered or malformed."""
        with self._opening:
            if self._tables is None:
                self._tables = coder_tables(self.manifest)
            return self._tables

    @property
    def encoder(self) -> EncoderSession:
        """The encoder."""
        with self._opening:
            if self._encoder is None:
                encoder = EncoderSession(self.manifest.open_file(ENCODER_ONNX), self.threads)
                if (encoder.hr, encoder.lr) != (self.manifest.hr, self.manifest.lr):
                    raise BundleError(
                        f"the encoder of bundle {self.manifest.id} goes from {encoder.hr} to {encoder.lr} pixels, its "
                        f"manifest says {self.manifest.hr} to {self.manifest.lr}")
                self._encoder = encoder
            return self._encoder

    @property
    def decoder(self) -> DecoderSession:
        """The decoder."""
        with self._opening:
            if self._decoder is None:
                form, reason = choose_form(self.manifest, self.device, self.form)
                if reason:
                    logger.warning("bundle %s runs %s in %s on CUDA, not a decoder for CUDA: %s", self.manifest.id,
                                   form.file, form.precision, reason)
                self._decoder = DecoderSession(
                    self.manifest.open_file(form.file), self.device, self.threads, strength=self.default_strength)
                self._running = describe(form, self._decoder, reason)
                logger.info("bundle %s decodes with %s", self.manifest.id, self._running)
            return self._decoder

    @property
    def running_decoder(self) -> RunningDecoder:
        """The file, precision, ops and provider that `decoder` runs; errors as there."""
        graphs = self.decoder.graphs  # false after a warm-up that could not capture them
        assert self._running is not None  # set together with the decoder
        return replace(self._running, graphs=graphs)

    @property
    def enlarger(self) -> EnlargerSession:
        """The enlarger."""
        with self._opening:
            if self._enlarger is None:
                described = self.manifest.enlarger
                if described is None:
                    raise BundleError(f"bundle {self.manifest.id} has no enlarger")
                self._enlarger = EnlargerSession([self.manifest.open_file(file) for file in described.files],
                                                 self.manifest.hr, self.device, self.threads)
            return self._enlarger

    def encode(self, squares: Rgb) -> Rgb:
        """Encode squares, uint8 ``[N, hr, hr, 3]``, to LRs as payloads store them, uint8 ``[N, lr, lr, 3]``."""
        return rounded(self.encoder.encode(squares), self.tables.step)

    def decode(self, lrs: Rgb, *, seed: int = 0, strengths: Sequence[float | None] | None = None) -> Rgb:
        """Decode LRs, uint8 ``[N, lr, lr, 3]``, to squares, uint8 ``[N, hr, hr, 3]``.

        Args:
            lrs: the LRs.
            seed: seed of the noise, for decoders that take noise.
            strengths: one for every LR; None, as a whole or for an LR, is the default. Ignored without this control.
        """
        strength = None
        if (default := self.default_strength) is not None:
            strength = [default if wanted is None else wanted for wanted in strengths or [None] * len(lrs)]
        squares = self.decoder.decode(lrs, seed, strength=strength)
        side = self.manifest.hr
        if squares.shape[1:] != (side, side, 3):
            raise BundleError(
                f"the decoder of bundle {self.manifest.id} made pictures of {list(squares.shape[1:])}, its manifest "
                f"says [{side}, {side}, 3]")
        return squares

    def enlarge(self, square: Rgb, factor: int) -> Rgb:
        """Enlarge a restored square, uint8 ``[hr, hr, 3]`` -> ``[factor * hr, factor * hr, 3]``; 1 changes nothing."""
        return square if factor == 1 else self.enlarger.enlarge(square[None], factor)[0]

    def pack(
        self, lr: Rgb, original_size: tuple[int, int], fit: str = FIT_PAD, square: OrientedSquare | None = None
    ) -> bytes:
        """Pack an LR into a payload of this bundle; arguments and errors as `encode_payload`."""
        return encode_payload(lr, contract_id=self.manifest.lr_contract_id, tables=self.tables,
                              original_size=original_size, fit=fit, square=square)

    def unpack(self, payload: ParsedPayload) -> Rgb:
        """Decode a payload's body to the LR, uint8 ``[lr, lr, 3]``; the claims are checked first."""
        return decode_payload_lr(payload, self.manifest, self.tables)
