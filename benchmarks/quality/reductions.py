"""Compare the exact bicubic reduction with Pillow's, factor by factor.

    python benchmarks/quality/reductions.py --data FACES
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

from codec_contract.rgb import Rgb
from edge_encoder.integer_network import IntegerNetwork, run_reference
from edgegrain.cli.output import errors_to_exit_codes
from edgegrain.papers.face_sr.bicubic_network import SMALLEST_LR, bicubic_network
from edgegrain.pictures.stored_pictures import original_of
from export.proof.proof_inputs import find_pictures

FACTORS = (4, 8, 16, 32, 64)


def compare_with_pillow(network: IntegerNetwork, pictures: Sequence[Rgb]) -> tuple[int, float]:
    """Largest difference in levels between a reduction and Pillow's bicubic one (width first), and the share of bytes
    that differ.

    Args:
        network: from ``hr`` to ``lr``.
        pictures: uint8 ``[hr, hr, 3]`` each.
    """
    lr = network.lr
    steps = []
    for rgb in pictures:
        narrow = Image.fromarray(rgb).resize((lr, network.hr), Image.Resampling.BICUBIC)
        theirs = np.asarray(narrow.resize((lr, lr), Image.Resampling.BICUBIC)).astype(np.int16)
        steps.append(np.abs(run_reference(network, rgb[None])[0] - theirs))
    return int(np.max(steps)), float((np.stack(steps) > 0).mean())


@errors_to_exit_codes()
def main(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of pictures.")],
    hr: Annotated[int, typer.Option(min=64, help="Side that their centre squares are resized to.")] = 256,
) -> None:
    """Compare the exact bicubic reduction with Pillow's."""
    squares = [original_of(path, hr) for path in find_pictures(data)]
    for factor in FACTORS:
        if hr % factor == 0 and hr // factor >= SMALLEST_LR:
            largest, share = compare_with_pillow(bicubic_network(hr, hr // factor), squares)
            typer.echo(f"factor {factor}: {share:.1%} of {len(squares)} pictures' LR bytes differ from Pillow's, "
                       f"by at most {largest}")


if __name__ == "__main__":
    typer.run(main)
