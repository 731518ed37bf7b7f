"""Weight files of IRN."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgegrain.papers.irn.network import IRN, IRNConfig
from server_decoder.weight_file import WeightKind, fill_network, read_config, read_record, save_network, state_digest

_KIND = WeightKind("IRN", "irn", IRNConfig.from_dict)
_TRAINING = "training"


def save_irn(model: IRN, path: str | Path, *, training: Mapping[str, Any] | None = None,
             dtype: torch.dtype = torch.float16, force: bool = False) -> Path:
    """Write a network.

    Args:
        model: the network.
        path: of the new file.
        training: read back by `read_training`; plain JSON values.
        dtype: of the stored weights.
        force: replace the file if it exists.

    Raises:
        ModelError: a weight does not fit ``dtype``.
        ExistsError: the file exists and ``force`` is false.
    """
    return save_network(path, _KIND, model.config.as_dict(), model.state_dict(), dtype=dtype, force=force,
                        records={_TRAINING: dict(training or {})})


def load_irn(path: str | Path) -> IRN:
    """The network that `save_irn` wrote, its weights in float32.

    Raises:
        ModelError: the file holds no IRN, or its weights do not fit its configuration.
    """
    model = IRN(read_config(path, _KIND))
    fill_network(model, path, _KIND)
    return model.eval()


def read_training(path: str | Path) -> dict[str, Any]:
    """The training record in a file's header; empty if there is none.

    Raises:
        ModelError: the file cannot be read.
    """
    return dict(read_record(path, _KIND, _TRAINING, {}))


def irn_digest(model: IRN) -> bytes:
    """SHA-256 over configuration and weights, 32 bytes: it identifies the encoder in an LR contract."""
    return state_digest(model.state_dict(), json.dumps(model.config.as_dict(), sort_keys=True))
