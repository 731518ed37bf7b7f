"""The README's picture has a tile for every codec that fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.quality.side_by_side import SIDE, main


def test_it_shows_the_portrait_as_every_codec_has_it(tmp_path: Path) -> None:
    main(tmp_path / "sheet.jpg")
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.width > 6 * SIDE and sheet.height > SIDE
        assert np.asarray(sheet).std() > 30
