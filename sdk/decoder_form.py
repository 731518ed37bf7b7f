"""Choice of a decoder's form for a device, and the description of a decoder that runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from codec_contract.bundle.decoders import DEFAULT_FORM, BundledForm, decoder_forms
from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import BundleError, DeviceError
from server_decoder.cuda_ops.library import find_library, require_cuda_kernels
from server_decoder.decoder_session import DecoderSession

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
    """The form of a bundle's decoder to run on a device, and the reason if that is not the form for it.

    Raises:
        BundleError: ``choice`` is unknown, or the manifest describes a form wrongly, or does not have the one that
            ``choice`` names, or only one that is out of date.
    """
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
