"""Write docs/images/demo_page.jpg: python clients/web/e2e/screenshots.py URL

URL is a running `edgegrain serve`. The page is driven as in the end-to-end test (drive.mjs; it needs Chromium, Node and
`npm ci` in clients/web) with the demonstration photograph; the wide and the phone-sized window stand side by side.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
HEIGHT, GAP, PAPER = 1100, 24, (226, 222, 212)


def main() -> int:
    """Drive the page, put the pictures together, write the file."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    photograph = ROOT / "edgegrain" / "demo" / "astronaut.jpg"
    with tempfile.TemporaryDirectory() as folder:
        script = Path(__file__).with_name("drive.mjs")
        subprocess.run(["node", script, "--url", sys.argv[1], "--picture", photograph, "--out", folder], check=True)
        windows = [Image.open(Path(folder) / f"page-{name}.png").convert("RGB") for name in ("wide", "phone")]
    windows = [
        picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT), Image.Resampling.LANCZOS)
        for picture in windows
    ]
    sheet = Image.new("RGB", (sum(picture.width for picture in windows) + 3 * GAP, HEIGHT + 2 * GAP), PAPER)
    left = GAP
    for picture in windows:
        sheet.paste(picture, (left, GAP))
        left += picture.width + GAP
    path = ROOT / "docs" / "images" / "demo_page.jpg"
    sheet.save(path, quality=88, optimize=True)
    print(f"{path}, {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
