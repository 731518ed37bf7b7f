"""Trained weights of GLEAN and GCFSR as safetensors files, the configuration in the header.

GLEAN's bank is frozen and not in the file: the header names its hash, and a reader brings the bank.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from codec_contract.errors import ModelError
from server_decoder.face_sr.gcfsr import GCFSR, GCFSRConfig
from server_decoder.face_sr.gcfsr import KIND as GCFSR_KIND
from server_decoder.face_sr.glean import GLEAN, GLEANConfig
from server_decoder.face_sr.glean import KIND as GLEAN_KIND
from server_decoder.generative_prior import GenerativePrior, digest
from server_decoder.weight_file import read_header, read_weights, write_weights

GLEAN_WEIGHTS = "glean.safetensors"
GCFSR_WEIGHTS = "gcfsr.safetensors"
"""The files' names in a run and in a folder of the zoo."""
_CONFIG, _TRAINING, _BANK = "config", "training", "bank_sha256"
_PRIOR = "prior."
_CONFIGS: dict[str, type[GLEANConfig] | type[GCFSRConfig]] = {GLEAN_KIND: GLEANConfig, GCFSR_KIND: GCFSRConfig}
_BROKEN = (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError)


def trained_state(network: GLEAN | GCFSR) -> dict[str, Tensor]:
    """The state dict without GLEAN's bank."""
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(_PRIOR)}


def save_glean(network: GLEAN, path: str | Path, *, training: Mapping[str, Any] | None = None,
               dtype: torch.dtype = torch.float16, compact: bool = False, force: bool = False) -> Path:
    """Write a GLEAN without its bank, whose hash the header names.

    Args:
        network: to write.
        path: of the new file.
        training: what `read_training` is to tell: plain JSON values.
        dtype: of the stored weights.
        compact: store the large ones as int8 (`write_weights`).
        force: replace the file if it exists.

    Raises:
        ModelError: a weight does not fit ``dtype``.
        FileExistsError: the file exists and ``force`` is false.
    """
    header = _header(network, training) | {_BANK: digest(network.prior)}
    return write_weights(path, trained_state(network), header, dtype=dtype, compact=compact, force=force)


def load_glean(path: str | Path, prior: GenerativePrior) -> GLEAN:
    """The network that `save_glean` wrote around its bank, weights in float32, in evaluation mode.

    Args:
        path: the file.
        prior: the bank, as `read_config(path).prior` describes it.

    Raises:
        ModelError: the file is no such file, its weights do not fit its configuration, or the bank is another.
    """
    try:
        header = read_header(path)
        config = GLEANConfig.from_dict(_described(header, GLEAN_KIND))
        bank = header[_BANK]
    except _BROKEN as error:
        raise ModelError(f"{path} holds no GLEAN ({type(error).__name__}: {error})") from error
    if digest(prior) != bank:
        raise ModelError(f"{path} was trained with the bank of SHA-256 {bank[:16]}..., the one given has "
                         f"{digest(prior)[:16]}...; bring the generator that it describes, cut and rounded alike")
    network = GLEAN(config, prior)
    _fill(network, path, "GLEAN")
    return network.eval()


def save_gcfsr(network: GCFSR, path: str | Path, *, training: Mapping[str, Any] | None = None,
               dtype: torch.dtype = torch.float16, compact: bool = False, force: bool = False) -> Path:
    """Write a GCFSR. Arguments and errors as in `save_glean`."""
    return write_weights(path, trained_state(network), _header(network, training), dtype=dtype, compact=compact,
                         force=force)


def load_gcfsr(path: str | Path) -> GCFSR:
    """The network that `save_gcfsr` wrote, weights in float32, in evaluation mode.

    Raises:
        ModelError: the file is no such file, or its weights do not fit its configuration.
    """
    try:
        network = GCFSR(GCFSRConfig.from_dict(_described(read_header(path), GCFSR_KIND)))
    except _BROKEN as error:
        raise ModelError(f"{path} holds no GCFSR ({type(error).__name__}: {error})") from error
    _fill(network, path, "GCFSR")
    return network.eval()


def read_config(path: str | Path) -> GLEANConfig | GCFSRConfig:
    """The configuration in a file's header, which tells the kind of network too.

    Raises:
        ModelError: the file is no such file.
    """
    try:
        fields = json.loads(read_header(path)[_CONFIG])
        return _CONFIGS[fields["kind"]].from_dict(fields)
    except _BROKEN as error:
        raise ModelError(f"{path} holds neither a GLEAN nor a GCFSR ({type(error).__name__}: {error})") from error


def read_training(path: str | Path) -> dict[str, Any]:
    """What a file tells about its training; nothing where it does not.

    Raises:
        ModelError: the file is no such file.
    """
    try:
        return dict(json.loads(read_header(path).get(_TRAINING, "{}")))
    except _BROKEN as error:
        raise ModelError(f"{path} holds neither a GLEAN nor a GCFSR ({type(error).__name__}: {error})") from error


def _header(network: GLEAN | GCFSR, training: Mapping[str, Any] | None) -> dict[str, str]:
    return {_CONFIG: json.dumps(network.config.as_dict()), _TRAINING: json.dumps(dict(training or {}))}


def _described(header: Mapping[str, str], kind: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(header[_CONFIG])
    if fields["kind"] != kind:
        raise ValueError(f"it holds a {fields['kind']}, expected a {kind}")
    return fields


def _fill(network: GLEAN | GCFSR, path: str | Path, name: str) -> None:
    """Load every trained weight of a file; a missing, unknown or misshapen one is an error."""
    try:
        state = read_weights(path)
        missing, unknown = network.load_state_dict(state, strict=False)
    except _BROKEN as error:
        raise ModelError(f"{path} holds no {name} ({type(error).__name__}: {error})") from error
    missing = [key for key in missing if not key.startswith(_PRIOR)]
    unknown += [key for key in state if key.startswith(_PRIOR)]
    if missing or unknown:
        raise ModelError(f"{path} holds another {name} than its header says: missing {missing[:3]}, "
                         f"unknown {unknown[:3]}")
