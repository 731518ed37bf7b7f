"""Photographs: the largest face before and after, missed and invented faces; the result in words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import sdk
from codec_contract.errors import ImageError
from edgegrain.evaluation.photographs import PhotographScores, evaluate_photographs
from edgegrain.metrics.score_names import photographs_in_words
from tests.tiny_bundle import tiny_face_bundles

__all__ = ["tiny_face_bundles"]


@pytest.fixture
def folder(tmp_path: Path, portrait: np.ndarray, tiny_face_bundles: Path) -> Path:
    """A framed portrait, a photograph with a small one, and a grey picture."""
    Image.fromarray(portrait).save(tmp_path / "framed.png")
    photograph = np.full((400, 500, 3), 130, np.uint8)
    photograph[100:300, 200:400] = np.asarray(Image.fromarray(portrait).resize((200, 200)))
    Image.fromarray(photograph).save(tmp_path / "photograph.png")
    Image.new("RGB", (200, 200), (9, 90, 80)).save(tmp_path / "grey.png")
    return tmp_path


def stand_ins(seen: list[tuple[int, ...]]) -> tuple[SimpleNamespace, object]:
    """Networks that compare means: the distance is the difference of the pictures' means, times ten."""
    def distance(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(before.shape))
        return 10 * (before.mean() - after.mean()).abs()

    def descriptor(batch: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(batch.flatten(1))

    return SimpleNamespace(distance=distance), descriptor


def test_faces_before_and_after(folder: Path) -> None:
    codec, seen = sdk.Codec(), []
    dlib, mobileface = stand_ins(seen)
    paths = [folder / name for name in ("framed.png", "photograph.png", "grey.png")]
    scores = evaluate_photographs(codec, paths, [folder / "grey.png", folder / "framed.png"], dlib, mobileface)
    assert (scores.photographs, scores.missed, scores.empty, scores.invented) == (3, 1, 2, 1)
    assert seen == [(1, 3, 64, 64)] * 2
    assert scores.bytes == np.mean([len(sdk.compress(path)) for path in paths[:2]])
    # The tests' decoder repeats pixels, which keeps the mean and the coarse picture.
    assert 0 <= scores.identity < 0.2 and scores.above == 0 and 0 < scores.identity_mobileface < 0.2


def test_no_face_at_all(folder: Path) -> None:
    with pytest.raises(ImageError, match="no face was found in any of the photographs"):
        evaluate_photographs(sdk.Codec(), [folder / "grey.png"], [], *stand_ins([]))


def test_in_words() -> None:
    scores = PhotographScores(36, 334.4, 0.4313, 0.198, 1 / 36, 2, 38, 1)
    text = photographs_in_words(vars(scores))
    assert "of 36 photographs as people have them, a face was found in 34 (2 missed)" in text
    assert "334 bytes" in text and "0.431 (dlib; 3% above 0.6) and 0.198 (MobileFace)" in text
    assert text.endswith("In 1 of 38 pictures without faces one was found.")
    assert "without faces" not in photographs_in_words({**vars(scores), "empty": 0})
