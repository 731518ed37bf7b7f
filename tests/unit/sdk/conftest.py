"""The SDK's tests run on tiny bundles in place of the installed ones."""

import numpy as np
import pytest
from PIL import Image

from tests.pretended_cuda import pretended_cuda
from tests.tiny_bundle import tiny_bundles, tiny_face_bundles, tiny_face_root, tiny_root

__all__ = ["pretended_cuda", "tiny_bundles", "tiny_face_bundles", "tiny_face_root", "tiny_root"]


@pytest.fixture(scope="session")
def group(portrait: np.ndarray) -> np.ndarray:
    """The portrait twice in a larger picture: turned by 15 degrees, and smaller."""
    picture = Image.new("RGB", (900, 600), (110, 130, 120))
    turned = Image.fromarray(portrait).convert("RGBA").rotate(-15, Image.Resampling.BICUBIC, expand=True)
    picture.paste(turned, (80, 150), turned)
    picture.paste(Image.fromarray(portrait).resize((160, 160), Image.Resampling.LANCZOS), (620, 60))
    return np.asarray(picture)
