"""Models of a bundle hold their weights: ONNX Runtime reads no other file for them."""

from __future__ import annotations

import os
from typing import Any


def refuse_external_weights(options: Any) -> None:
    """Make sessions fail for models whose weights lie in other files.

    A tensor of an ONNX model can name a file and a range of bytes in it. For a model that is loaded from memory ONNX
    Runtime resolves the name in the current directory, so that a model from elsewhere could put the bytes of a user's
    file into LRs or pictures.

    Args:
        options: ``onnxruntime.SessionOptions``.
    """
    # The folder in which the names are resolved, since ONNX Runtime 1.21; nothing lies below this one.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
