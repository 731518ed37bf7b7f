"""Measure how faces are found in photographs, and how well they come back: the figures of docs/faces.md.

    python benchmarks/quality/photographs.py --data EVALUATION --weights WEIGHTS

EVALUATION holds `faces_256` (framed as in FFHQ) and `kodak`, `churches`, `cats`.
"""

import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script: import from the checkout

import sdk
from codec_contract.pixels import Rgb
from edge_encoder.faces.alignment import ffhq_square, is_framed
from edge_encoder.preprocessing import load_picture
from edgegrain.cli.output import errors_to_exit_codes
from edgegrain.metrics.identity import FaceIdentity
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.metrics.score_names import OTHER_PERSON
from edgegrain.pictures.stored_pictures import list_pictures
from sdk.faces import find_faces, finder, fit_face

PASTED = 120  # faces that are pasted into photographs


def pasted(face: Rgb, background: Rgb, centre: tuple[float, float], side: float, degrees: float) -> Rgb:
    """A face, turned clockwise and with a new side, in a photograph."""
    picture = Image.fromarray(background).copy()
    large = Image.fromarray(face).resize((max(1, round(side)),) * 2, Image.Resampling.LANCZOS).convert("RGBA")
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y, half = *centre, large.width / 2
    back = (cos, sin, half - cos * x - sin * y, -sin, cos, half + sin * x - cos * y)
    turned = large.transform(picture.size, Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)
    picture.paste(turned.convert("RGB"), mask=turned.getchannel("A"))
    return np.asarray(picture)


def differences(faces: Sequence[Rgb], backgrounds: Sequence[Rgb], count: int) -> tuple[int, np.ndarray]:
    """Faces that were not found of ``count``, and of the others the differences from the known squares: of the centre
    and the side in sides, of the roll in degrees."""
    random, found = np.random.default_rng(0), []
    pairs = zip(itertools.cycle(faces), itertools.cycle(backgrounds), strict=False)
    for face, background in itertools.islice(pairs, count):
        height, width = background.shape[:2]
        side, degrees = min(width, height) * random.uniform(0.1, 1), random.uniform(-30, 30)
        x, y = (random.uniform(side / 2, length - side / 2) for length in (width, height))
        check = find_faces(pasted(face, background, (x, y), side, degrees))
        square = check.faces[0].square if check.faces else None
        if square is None or (distance := math.hypot(square.x / 4 - x, square.y / 4 - y) / side) > 1 / 3:
            continue
        roll = math.degrees(math.atan2(square.across_y, square.across_x)) - degrees
        found.append((distance, abs(square.side / side - 1), abs((roll + 180) % 360 - 180)))
    return count - len(found), np.array(found)


@torch.inference_mode()
def recognized(
    codec: sdk.Codec, identity: FaceIdentity, faces: Sequence[Rgb], photograph: Callable[[Rgb], Rgb]
) -> float:
    """Share of the faces that are found in their photograph and restored as the same person."""
    same = 0
    for face in faces:
        try:
            restored = codec.restore(codec.compress(photograph(face)), size="native", mark=False)
        except sdk.ImageError:
            continue
        side = face.shape[:2][::-1]
        same += identity.distance(unit_batch(np.asarray(restored.resize(side))), unit_batch(face)).item() < OTHER_PERSON
    return same / len(faces)


@errors_to_exit_codes()
def main(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of the evaluation pictures.")],
    weights: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of the metric weights.")],
) -> None:
    """Measure how faces are found in photographs, and how well they come back."""
    faces = [load_picture(path) for path in list_pictures(data / "faces_256")]
    largest = [(face, found[0]) for face in faces if (found := finder().find(face))]
    sizes = [(face.shape[1], face.shape[0]) for face, _ in largest]
    framed = sum(is_framed(ffhq_square(f.points, size), size) for (_, f), size in zip(largest, sizes, strict=True))
    typer.echo(f"framed faces: found {len(largest)} of {len(faces)}, {framed} encoded whole")
    empty = [load_picture(path) for path in list_pictures(data / "kodak")]
    empty = [rgb for rgb in empty if not finder().find(rgb)]
    missed, found = differences(faces, empty, PASTED)
    typer.echo(
        f"pasted into photographs: found {PASTED - missed} of {PASTED}; mean difference of the centre "
        f"{found[:, 0].mean():.1%} and the side {found[:, 1].mean():.1%}, roll {found[:, 2].mean():.1f} degrees"
    )
    for folder in ("churches", "cats", "kodak"):
        paths = list_pictures(data / folder)
        typer.echo(f"{folder}: a face in {sum(bool(find_faces(path).faces) for path in paths)} of {len(paths)}")

    codec, identity = sdk.Codec("faces", threads=1), FaceIdentity(weights)
    boxes = {id(face): found.detected for face, found in largest}
    some = [face for face in faces[::3] if id(face) in boxes]

    def share(photograph: Callable[[Rgb], Rgb]) -> str:
        return f"{recognized(codec, identity, some, photograph):.0%}"

    def edge(face: Rgb, axis: int, cut: float) -> int:
        return int(boxes[id(face)].centre[axis] + (0.5 - cut) * boxes[id(face)].side)

    def small(face: Rgb, pixels: int) -> Rgb:
        return pasted(face, empty[0], (300, 250), 256 * pixels / boxes[id(face)].side, 0)

    for pixels in (96, 64, 48, 40, 32, 26):
        typer.echo(f"a box of {pixels} pixels: recognized {share(partial(small, pixels=pixels))}")
    for cut in (0.1, 0.2, 0.3, 0.5):
        typer.echo(f"{cut:.0%} beyond the right edge: " + share(lambda face, cut=cut: face[:, : edge(face, 0, cut)]))
        typer.echo(f"{cut:.0%} below the lower edge: " + share(lambda face, cut=cut: face[: edge(face, 1, cut)]))

    large, seconds = pasted(faces[0], np.full((3000, 4000, 3), 90, np.uint8), (1800, 1500), 1500, 5), []
    for _ in range(8):
        start = time.perf_counter()
        fit_face(large, codec.bundle.hr)
        seconds.append(time.perf_counter() - start)
    typer.echo(f"finding and cutting in 12 megapixels, one thread: {1000 * statistics.median(seconds[1:]):.0f} ms")


if __name__ == "__main__":
    typer.run(main)
