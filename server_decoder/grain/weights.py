"""Weight files of GRAIN: everything that was trained, without the frozen prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from codec_contract.errors import ModelError
from server_decoder import weight_file
from server_decoder.generative_prior import GenerativePrior
from server_decoder.grain.grain import Grain, GrainConfig
from server_decoder.weight_file import WeightKind, read_record, read_weights, save_network

_KIND = WeightKind("trained GRAIN model", "grain", GrainConfig.from_dict)
_HISTORY = "history"

History = Sequence[Mapping[str, Any]]
"""The stages that made the weights, ``{"stage": ..., "pictures": ...}`` each."""


def save_trained(model: Grain, path: str | Path, *, history: History = (), dtype: torch.dtype = torch.float16,
                 compact: bool = False, force: bool = False) -> Path:
    """Write everything that was trained; the prior, which readers have or can download, is left out.

    Args:
        model: the decoder.
        path: of the new file.
        history: read back by `read_history`.
        dtype: of the stored weights.
        compact: store the large ones as int8 (`write_weights`).
        force: replace the file if it exists.

    Raises:
        ModelError: a weight does not fit ``dtype``.
        FileExistsError: the file exists and ``force`` is false.
    """
    return save_network(path, _KIND, model.config.as_dict(), model.trained_state(), records={_HISTORY: list(history)},
                        dtype=dtype, compact=compact, force=force)


def read_config(path: str | Path) -> GrainConfig:
    """The configuration in a file's header.

    Raises:
        ModelError: the file holds no trained GRAIN.
    """
    return weight_file.read_config(path, _KIND)


def read_history(path: str | Path) -> tuple[dict[str, Any], ...]:
    """The stages in a file's header; none if it has no such entry.

    Raises:
        ModelError: the file cannot be read.
    """
    return tuple(read_record(path, _KIND, _HISTORY, []))


def load_trained(path: str | Path, prior: GenerativePrior | None = None) -> Grain:
    """The model whose weights `save_trained` wrote, with the given generator (random weights when None).

    Raises:
        ModelError: the file holds no trained GRAIN, its weights do not fit its configuration, or the prior is another.
    """
    config = read_config(path)
    try:
        model = Grain(config, prior)
    except ValueError as error:
        raise ModelError(f"{path} describes a model whose parts do not fit: {error}") from error
    with _KIND.reading(path):
        model.load_trained_state(read_weights(path))
    return model.eval()
