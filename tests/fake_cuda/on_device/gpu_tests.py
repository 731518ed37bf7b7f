"""A pytest plugin: tests that need a GPU run on the fake device, with the emulated kernels."""

import os
from pathlib import Path

import torch

from server_decoder.cuda_ops import library
from tests.fake_cuda.environment import OPS

torch.cuda.is_available = lambda: True
library.BUILT = Path(os.environ[OPS])
for _path in library.BUILT.iterdir():
    _path.touch()  # their fixture rebuilds a library that is older than its sources
