"""Weight files of IRN, of IRN-Color and of IRN-Compression's JPEG restorer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from server_decoder.irn.color import IRNColor, IRNColorConfig
from server_decoder.irn.jpeg_restorer import JPEGRestorer, JPEGRestorerConfig
from server_decoder.irn.network import IRN, IRNConfig
from server_decoder.weight_file import WeightKind, fill_network, read_config, read_record, save_network, state_digest

IRN_COLOR_WEIGHTS = "irn_color.safetensors"
JPEG_RESTORER_WEIGHTS = "jpeg_restorer.safetensors"
"""Names of the files in the folders that `edgegrain convert` writes; a rescaler's is that of bundles."""
_KIND = WeightKind("IRN", "irn", IRNConfig.from_dict)
_COLOR = WeightKind("IRN-Color", "irn_color", lambda fields: IRNColorConfig(**fields))
_RESTORER = WeightKind("JPEG restorer of IRN-Compression", "jpeg_restorer",
                       lambda fields: JPEGRestorerConfig(**fields))
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


def save_irn_color(network: IRNColor, path: str | Path, *, training: Mapping[str, Any] | None = None,
                   dtype: torch.dtype = torch.float16, force: bool = False) -> Path:
    """Write an IRN-Color. Arguments and errors as in `save_irn`."""
    return save_network(path, _COLOR, asdict(network.config), network.state_dict(), dtype=dtype, force=force,
                        records={_TRAINING: dict(training or {})})


def load_irn_color(path: str | Path) -> IRNColor:
    """The network that `save_irn_color` wrote, its weights in float32, in evaluation mode.

    Raises:
        ModelError: the file holds no IRN-Color, or its weights do not fit its configuration.
    """
    network = IRNColor(read_config(path, _COLOR))
    fill_network(network, path, _COLOR)
    return network.eval()


def save_jpeg_restorer(network: JPEGRestorer, path: str | Path, *, training: Mapping[str, Any] | None = None,
                       dtype: torch.dtype = torch.float16, force: bool = False) -> Path:
    """Write a JPEG restorer. Arguments and errors as in `save_irn`."""
    return save_network(path, _RESTORER, asdict(network.config), network.state_dict(), dtype=dtype, force=force,
                        records={_TRAINING: dict(training or {})})


def load_jpeg_restorer(path: str | Path) -> JPEGRestorer:
    """The network that `save_jpeg_restorer` wrote, its weights in float32, in evaluation mode.

    Raises:
        ModelError: the file holds no JPEG restorer, or its weights do not fit its configuration.
    """
    network = JPEGRestorer(read_config(path, _RESTORER))
    fill_network(network, path, _RESTORER)
    return network.eval()


def read_training(path: str | Path) -> dict[str, Any]:
    """The training record in a file's header, of any of the three networks; empty if there is none.

    Raises:
        ModelError: the file cannot be read.
    """
    return dict(read_record(path, _KIND, _TRAINING, {}))


def irn_digest(model: IRN) -> bytes:
    """SHA-256 over configuration and weights, 32 bytes: it identifies the encoder in an LR contract."""
    return state_digest(model.state_dict(), json.dumps(model.config.as_dict(), sort_keys=True))
