"""Weight files of enlargers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from server_decoder.super_resolution.network import SuperResolution, SuperResolutionConfig
from server_decoder.weight_file import WeightKind, fill_network, read_config, read_record, save_network

WEIGHTS = "super_resolution.safetensors"
"""Name of the file in the folder of a run."""
_KIND = WeightKind("super-resolution network", "super_resolution", SuperResolutionConfig.from_dict)
_TRAINING = "training"


def save_super_resolution(model: SuperResolution, path: str | Path, *, training: Mapping[str, Any] | None = None,
                          dtype: torch.dtype = torch.float16, compact: bool = False, force: bool = False) -> Path:
    """Write a network.

    Args:
        model: the network.
        path: of the new file.
        training: read back by `read_training`; plain JSON values.
        dtype: of the stored weights.
        compact: store the large ones as int8 (`write_weights`).
        force: replace the file if it exists.
    """
    return save_network(path, _KIND, model.config.as_dict(), model.state_dict(), dtype=dtype, compact=compact,
                        force=force, records={_TRAINING: dict(training or {})})


def load_super_resolution(path: str | Path) -> SuperResolution:
    """The network that `save_super_resolution` wrote, its weights in float32.

    Args:
        path: the file, or the folder of a run.
    """
    path = weights_path(path)
    model = SuperResolution(read_config(path, _KIND))
    fill_network(model, path, _KIND)
    return model.eval()


def read_training(path: str | Path) -> dict[str, Any]:
    """The training record in a file's header; empty if there is none."""
    return dict(read_record(weights_path(path), _KIND, _TRAINING, {}))


def holds_super_resolution(path: str | Path) -> bool:
    """True for a file, and for a folder with a ``super_resolution.safetensors``."""
    return weights_path(path).is_file()


def weights_path(path: str | Path) -> Path:
    """The weight file, given by itself or by the folder of a run."""
    return Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
