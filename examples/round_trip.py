"""Compress a picture, view the LR, restore the picture.

python examples/round_trip.py me.jpg out/
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import sdk


def main(picture: Path, out: Path) -> None:
    payload = sdk.compress(picture)
    restored = sdk.restore(payload)

    out.mkdir(parents=True, exist_ok=True)
    payload.save(out / "picture.grain", force=True)
    restored.save(out / "restored.png")
    # The LR is a viewable small picture of 16 x 16 pixels.
    Image.fromarray(payload.lr).resize((256, 256), Image.Resampling.NEAREST).save(out / "lr.png")

    ratio = picture.stat().st_size / len(payload)
    print(f"{picture.name}: {picture.stat().st_size} bytes -> {len(payload)} bytes, {ratio:.0f} times smaller")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
