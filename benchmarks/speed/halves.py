"""Compare a decoder in float16 with float32, with torch's own kernels of a device: at least 50 dB, and no overflow.

    python benchmarks/speed/halves.py --device cuda                       # the default bundle
    python benchmarks/speed/halves.py --config grain-smoke --device cpu   # random weights

The LRs are those of a portrait and its mirror image, and one of extreme levels that no encoder produces. Prints the
figures as JSON; the exit code is 1 if a limit is missed. On a CPU, where float16 is slow, the default bundle takes
minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys

import numpy as np
import torch
from machine import PORTRAIT, ROOT

sys.path.insert(0, str(ROOT))

from codec_contract.fit import fit_picture
from codec_contract.quantization import dequantize
from edge_encoder.integer_network import run_reference
from edge_encoder.preprocessing import load_picture
from export.decoder.command import HALF_PSNR
from export.decoder.sources import DecoderSource, find_decoder, random_decoder
from server_decoder.inference import served_decoder


@torch.no_grad()
def measure(source: DecoderSource, device: str) -> dict[str, float | bool | str]:
    """PSNR of float16 against float32 in dB (peak 2) on real LRs, and a check that an extreme LR gives finite ones."""
    picture = fit_picture(load_picture(PORTRAIT), source.network.hr)
    lrs = run_reference(source.network, np.stack([picture, picture[:, ::-1]]))
    extreme = np.random.default_rng(0).integers(0, 2, (1, *lrs.shape[1:]), np.uint8) * np.uint8(255)
    real, wild = (torch.from_numpy(np.ascontiguousarray(dequantize(lr.astype(np.float32)).transpose(0, 3, 1, 2)))
                  .to(device) for lr in (lrs, extreme))
    half = served_decoder(source.decoder.to(device), torch.float16)
    error = (half(real) - source.decoder(real)).square().mean().item()
    return {"decoder": source.name, "device": device, "psnr": round(10 * math.log10(4 / max(error, 4e-20)), 1),
            "finite": bool(half(wild).isfinite().all())}


def main() -> None:
    """Measure and print; fails if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="faces", help="name or folder of a bundle")
    parser.add_argument("--config", help="a configuration with random weights instead")
    parser.add_argument("--device", default="cuda", help="cpu or cuda")
    arguments = parser.parse_args()
    source = random_decoder(arguments.config) if arguments.config else find_decoder(arguments.bundle)
    result = measure(source, arguments.device)
    print(json.dumps(result))
    if not (result["finite"] and float(result["psnr"]) >= HALF_PSNR):
        sys.exit(f"{source.name} in float16 misses {HALF_PSNR:g} dB or overflows")


if __name__ == "__main__":
    main()
