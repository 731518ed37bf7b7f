"""Compare a decoder in float16 with float32, with torch's own kernels of a device: at least 50 dB, and no overflow.

    python benchmarks/speed/halves.py --device cuda                       # the default bundle; needs onnx
    python benchmarks/speed/halves.py --packed gpu_host_pack/NAME         # written by pack.py; does not need onnx
    python benchmarks/speed/halves.py --config grain-smoke --device cpu   # random weights

The LRs are those of a portrait and its mirror image, for a pack random ones, and one of extreme levels that no encoder
produces. Prints the figures as JSON; the exit code is 1 if a limit is missed. On a CPU, where float16 is slow, the
default bundle takes minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from machine import PORTRAIT, ROOT

sys.path.insert(0, str(ROOT))

import pack
from decoder import lr_batch

from codec_contract.quantization import network_input
from export.decoder.decoder_options import HALF_PSNR
from export.decoder.served import served_decoder

if TYPE_CHECKING:
    from server_decoder.grain.grain import Grain
    from server_decoder.grain.rrdb_decoder import RRDBDecoder


@torch.no_grad()
def measure(name: str, decoder: Grain | RRDBDecoder, lrs: np.ndarray, device: str) -> dict[str, float | bool | str]:
    """PSNR of float16 against float32 in dB (peak 2) on LRs, uint8 ``[N, h, w, 3]``, and a check that an extreme LR
    gives finite values."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    extreme = np.random.default_rng(0).integers(0, 2, (1, *lrs.shape[1:]), np.uint8) * np.uint8(255)
    usual, wild = (torch.from_numpy(network_input(lr)).to(device) for lr in (lrs, extreme))
    decoder = decoder.to(device)
    half = served_decoder(decoder, half=True)
    error = (half(usual) - decoder(usual)).square().mean().item()
    return {"decoder": name, "device": device, "psnr": round(10 * math.log10(4 / max(error, 4e-20)), 1),
            "finite": bool(half(wild).isfinite().all())}


def packed_decoder(folder: Path) -> tuple[str, Grain | RRDBDecoder, np.ndarray]:
    """Name, decoder and LRs of a pack."""
    with tempfile.TemporaryDirectory(prefix="edgegrain-halves-") as work:
        pack.copy_filled(folder, Path(work))
        return pack.read_table(Path(work))["name"], pack.load(Path(work)), lr_batch(Path(work), 2)


def found_decoder(bundle: str, config: str) -> tuple[str, Grain | RRDBDecoder, np.ndarray]:
    """Name and decoder of a bundle or, if given, of a configuration, and its LRs of the portrait."""
    from codec_contract.fit import fit_picture
    from edge_encoder.preprocessing import load_picture
    from export.decoder.sources import find_decoder, random_decoder

    source = random_decoder(config) if config else find_decoder(bundle)
    picture = fit_picture(load_picture(PORTRAIT), source.network.hr)
    return source.name, source.decoder, source.encode(np.stack([picture, picture[:, ::-1]]))


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="faces", help="name or folder of a bundle")
    parser.add_argument("--config", default="", help="a configuration with random weights instead")
    parser.add_argument("--packed", type=Path, help="instead of both: a folder written by benchmarks/speed/pack.py")
    parser.add_argument("--device", default="cuda", help="cpu or cuda")
    options = parser.parse_args()
    name, decoder, lrs = (packed_decoder(options.packed) if options.packed
                          else found_decoder(options.bundle, options.config))
    result = measure(name, decoder, lrs, options.device)
    missed = not (result["finite"] and float(result["psnr"]) >= HALF_PSNR)
    if missed:
        print(f"{name} in float16 misses {HALF_PSNR:g} dB or overflows", file=sys.stderr)
    print(json.dumps(result))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
