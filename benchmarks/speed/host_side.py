"""Time of the host's part of a decode: from the buffer that the device's result was copied into, to the picture.

    python benchmarks/speed/host_side.py --side 1024

A decoder whose graph quantizes leaves a copy of the levels to the host; one in float32 also quantization and the change
from channels-first to channels-last. The device, and the copy from it, are not measured.
"""

from __future__ import annotations

import argparse

import numpy as np
from measurement import (
    measured_on,
    median_seconds,
)

from codec_contract.quantization import pictures_of


def main() -> None:
    """Print the two times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024, help="side of the pictures, in pixels")
    parser.add_argument("--batch", type=int, default=1, help="pictures per batch")
    parser.add_argument("--seconds", type=float, default=3, help="time for each measurement")
    options = parser.parse_args()
    shape = options.batch, 3, options.side, options.side
    values = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    levels = pictures_of(values)
    ways = {
        "float32, quantized on the host": lambda: pictures_of(values.copy()),
        "uint8, quantized in the graph": levels.copy,
    }
    print(measured_on())
    for (name, run), size in zip(ways.items(), (values.nbytes, levels.nbytes), strict=True):
        milliseconds = 1000 * median_seconds(run, options.seconds) / options.batch
        print(f"{name}: {milliseconds:.2f} ms a picture, {size / options.batch / 1e6:.1f} MB from the device")


if __name__ == "__main__":
    main()
