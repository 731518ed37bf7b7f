"""An IRN's weights as one safetensors file, its configuration in the header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from codec_contract.errors import ModelError
from server_decoder.irn.network import IRN, IRNConfig
from server_decoder.weight_file import read_header, read_weights, write_weights

WEIGHTS = "irn.safetensors"
"""The file's name in a run and in a folder of the zoo."""
_CONFIG, _TRAINING = "irn", "training"


def save_irn(model: IRN, path: str | Path, *, training: Mapping[str, Any] | None = None,
             dtype: torch.dtype = torch.float16, force: bool = False) -> Path:
    """Write a network.

    Args:
        model: the network.
        path: of the new file.
        training: what `read_training` is to tell: plain JSON values.
        dtype: of the stored weights.
        force: replace the file if it exists.

    Raises:
        ModelError: a weight does not fit ``dtype``.
        FileExistsError: the file exists and ``force`` is false.
    """
    metadata = {_CONFIG: json.dumps(model.config.as_dict()), _TRAINING: json.dumps(dict(training or {}))}
    return write_weights(path, model.state_dict(), metadata, dtype=dtype, force=force)


def load_irn(path: str | Path) -> IRN:
    """The network that `save_irn` wrote, its weights in float32.

    Raises:
        ModelError: the file is no such file, or its weights do not fit its configuration.
    """
    try:
        model = IRN(IRNConfig.from_dict(json.loads(read_header(path)[_CONFIG])))
        model.load_state_dict(read_weights(path))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} holds no IRN ({type(error).__name__}: {error})") from error
    return model.eval()


def read_training(path: str | Path) -> dict[str, Any]:
    """What a file tells about its training; nothing where it does not.

    Raises:
        ModelError: the file is no such file.
    """
    try:
        return dict(json.loads(read_header(path).get(_TRAINING, "{}")))
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise ModelError(f"{path} holds no IRN ({type(error).__name__}: {error})") from error


def digest(model: IRN) -> bytes:
    """SHA-256 over configuration and weights, 32 bytes: what an LR contract names in place of an integer encoder."""
    total = hashlib.sha256(json.dumps(model.config.as_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes())
    return total.digest()
