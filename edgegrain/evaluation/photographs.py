"""Photographs as people have them: the faces that `compress` finds in them, before and after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from codec_contract.errors import ImageError
from codec_contract.exact_square import cut_square
from edge_encoder.preprocessing import load_picture
from edgegrain.metrics.identity import FaceIdentity, MobileFace
from edgegrain.metrics.picture_metrics import unit_batch
from edgegrain.metrics.score_names import OTHER_PERSON
from sdk import Codec, find_faces

EMPTY = "no_faces"
"""Folder of pictures without faces, within that of the photographs."""


@dataclass(frozen=True)
class PhotographScores:
    """Means over the largest faces of photographs.

    Attributes:
        photographs: their number.
        bytes: mean payload.
        identity: mean distance of dlib's descriptors before and after.
        identity_mobileface: the same with MobileFace's.
        above: share of the found faces whose ``identity`` is above `OTHER_PERSON`.
        missed: photographs in which no face was found.
        empty: number of pictures without faces.
        invented: those of them in which a face was found.
    """

    photographs: int
    bytes: float
    identity: float
    identity_mobileface: float
    above: float
    missed: int
    empty: int
    invented: int

@torch.inference_mode()
def evaluate_photographs(
    codec: Codec, photographs: Iterable[Path], empty: Sequence[Path], dlib: FaceIdentity, mobileface: MobileFace
) -> PhotographScores:
    """Compress the largest face of each photograph and compare it with what is restored, at the decoder's size.

    Args:
        codec: of a bundle of faces.
        photographs: with at least one face each.
        empty: pictures without faces.
        dlib, mobileface: the identity networks.
    """
    side, missed = codec.bundle.hr, 0
    sizes: list[int] = []
    distances: list[tuple[float, float]] = []
    for path in photographs:
        rgb = load_picture(path)
        try:
            payload = codec.compress(rgb)
        except ImageError:
            missed += 1
            continue
        square = payload.header.square
        before = codec.fit(rgb, "pad").rgb if square is None else cut_square(rgb, square, side)
        restored = codec.restore(payload, size="native", mark=False).resize((side, side), Image.Resampling.LANCZOS)
        pair = unit_batch(before), unit_batch(np.asarray(restored))
        first, second = map(mobileface, pair)
        sizes.append(len(payload))
        distances.append((dlib.distance(*pair).item(), 1 - (first * second).sum().item()))
    if not distances:
        raise ImageError("no face was found in any of the photographs; choose another folder")
    identity, identity_mobileface = np.array(distances).T
    return PhotographScores(
        len(sizes) + missed, float(np.mean(sizes)), float(identity.mean()), float(identity_mobileface.mean()),
        float((identity > OTHER_PERSON).mean()), missed, len(empty),
        sum(bool(find_faces(path).faces) for path in empty))
