"""Faces of photographs as training pictures: the square that FFHQ cuts out around the largest face."""

from __future__ import annotations

import numpy as np

from codec_contract.errors import ImageError
from codec_contract.exact_square import cut_square
from edge_encoder.faces.alignment import ffhq_square
from edge_encoder.preprocessing import load_picture
from edgegrain.pictures.stored_pictures import StoredPicture, open_picture
from sdk.faces import finder


class AlignedFaces:
    """Reads aligned faces; pictures without one are left out and listed.

    Attributes:
        without_face: names of the pictures in which no face was found.
        too_small: names of those whose square has fewer pixels than the stored one. Enlarged, they would teach a
            decoder to blur.
    """

    def __init__(self) -> None:
        self.without_face: list[str] = []
        self.too_small: list[str] = []

    def __call__(self, picture: StoredPicture, size: int) -> np.ndarray | None:
        """The aligned face of a picture, uint8 ``[size, size, 3]``; None if the picture is left out.

        Raises:
            ImageError: the file cannot be read as a picture.
        """
        with open_picture(picture) as image:
            rgb = load_picture(image)
        try:
            square = next(ffhq_square(face.points, (rgb.shape[1], rgb.shape[0])) for face in finder().find(rgb))
        except (StopIteration, ImageError):
            self.without_face.append(picture.name)
            return None
        if square.side < size:
            self.too_small.append(picture.name)
            return None
        return cut_square(rgb, square, size)
