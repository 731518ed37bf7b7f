"""A GRAIN model's trained weights as one safetensors file: no frozen prior, the configuration in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from codec_contract.errors import ModelError
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.weight_file import read_header, read_weights, write_weights

_CONFIG = "grain"
_HISTORY = "history"

History = Sequence[Mapping[str, Any]]
"""The stages that made the weights, ``{"stage": ..., "pictures": ...}`` each."""


def save_trained(model: Grain, path: str | Path, *, history: History = (), dtype: torch.dtype = torch.float16,
                 compact: bool = False, force: bool = False) -> Path:
    """Write what was trained: everything but the prior, which every reader has or can fetch.

    Args:
        model: the decoder.
        path: of the new file.
        history: what `read_history` is to tell.
        dtype: of the stored weights.
        compact: store the large ones as int8 (`write_weights`).
        force: replace the file if it exists.

    Raises:
        ModelError: a weight does not fit ``dtype``.
        FileExistsError: the file exists and ``force`` is false.
    """
    metadata = {_CONFIG: json.dumps(model.config.as_dict()), _HISTORY: json.dumps(list(history))}
    return write_weights(path, model.trained_state(), metadata, dtype=dtype, compact=compact, force=force)


def read_config(path: str | Path) -> GrainConfig:
    """The configuration in a file's header.

    Raises:
        ModelError: the file is no such file.
    """
    try:
        return GrainConfig.from_dict(json.loads(read_header(path)[_CONFIG]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} holds no trained GRAIN model ({type(error).__name__}: {error})") from error


def read_history(path: str | Path) -> tuple[dict[str, Any], ...]:
    """The stages that a file's header tells of; none where it does not.

    Raises:
        ModelError: the file is no such file.
    """
    try:
        return tuple(json.loads(read_header(path).get(_HISTORY, "[]")))
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise ModelError(f"{path} holds no trained GRAIN model ({type(error).__name__}: {error})") from error


def load_trained(path: str | Path, prior: GenerativePrior | None = None) -> Grain:
    """The model whose weights `save_trained` wrote, with the given generator (random weights when None).

    Raises:
        ModelError: the file is no such file, its weights do not fit its configuration, or the prior is another.
    """
    config = read_config(path)
    try:
        model = Grain(config, prior)
    except ValueError as error:
        raise ModelError(f"{path} describes a model whose parts do not fit: {error}") from error
    model.load_trained_state(read_weights(path))
    return model.eval()
