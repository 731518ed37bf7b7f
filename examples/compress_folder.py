"""Compress all pictures of a folder with one codec shared by several threads.

python examples/compress_folder.py photos/ payloads/
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sdk

THREADS = 4


def main(pictures: Path, payloads: Path) -> None:
    payloads.mkdir(parents=True, exist_ok=True)
    codec = sdk.Codec("faces", threads=1)  # one thread per picture, several pictures in parallel

    def compress(path: Path) -> str:
        try:
            payload = codec.compress(path)
        except sdk.ImageError as error:
            return f"{path.name}: skipped, {error}"
        payload.save(payloads / f"{path.name}.grain", force=True)  # there may be an a.jpg and an a.png
        return f"{path.name}: {len(payload)} bytes"

    with ThreadPoolExecutor(THREADS) as pool:
        for line in pool.map(compress, sorted(path for path in pictures.iterdir() if path.is_file())):
            print(line)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
