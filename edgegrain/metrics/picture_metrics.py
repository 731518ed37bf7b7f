"""All full-reference scores of uint8 pictures, computed by one set of metric networks; boxes of eyes and mouth.

The error of colours in these boxes, without brightness, tells how far the hue and saturation of an iris or of lips are
from the original's. Both pictures are reduced to 8 x 8 cells, so that texture and small displacements do not count; a
cell of a box around an eye is about as large as the iris. The error is the mean Euclidean distance of the cells' a* and
b* in CIELAB (CIE 1976, D65 white); equal brightness provided, a distance of 2.3 is just noticeable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from codec_contract.errors import DeviceError
from codec_contract.pixels import Rgb, network_input
from edgegrain.metrics.identity import FaceIdentity, MobileFace
from edgegrain.metrics.kid import Features, FeatureSets
from edgegrain.metrics.lpips import DISTS, LPIPS, normalize
from edgegrain.metrics.pixel_scores import added_peaks, has_peaks, periodic_peaks, psnr, ssim

CENTRES = {"left eye": (0.377, 0.469), "right eye": (0.623, 0.469), "mouth": (0.502, 0.725)}
"""Name -> mean position (x, y) in faces aligned as in FFHQ, as fractions of the side (facexlib's mean points)."""
REGIONS = {"eyes": ("left eye", "right eye"), "mouth": ("mouth",)}
"""Name -> boxes whose scores are averaged."""
SIDE = 0.25
"""Side of a box, as a fraction of the picture's: 64 pixels of 256."""
# Standard deviations (x, y) of the weight around each centre, as fractions of the side.
_SPREADS = {"left eye": (0.078, 0.051), "right eye": (0.078, 0.051), "mouth": (0.102, 0.055)}
CELLS = 8
"""Cells of a row and of a column."""
# From linear sRGB.
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)  # D65


def boxes(side: int) -> dict[str, tuple[int, int, int]]:
    """Name -> (left, top, size) of the boxes in a square picture of that side, in pixels."""
    size = round(SIDE * side)
    return {name: (round(x * side - size / 2), round(y * side - size / 2), size) for name, (x, y) in CENTRES.items()}


def squares(picture: Tensor) -> Tensor:
    """The boxes of pictures ``[B, 3, S, S]``, ``[3 B, 3, S / 4, S / 4]``: all left eyes, all right eyes, all mouths."""
    return torch.cat(
        [picture[..., top : top + size, left : left + size] for left, top, size in boxes(picture.shape[-1]).values()]
    )


def enlarged_regions(picture: Tensor) -> Tensor:
    """Both eyes and the mouth of pictures ``[B, 3, S, S]``, enlarged bilinearly: ``[3 B, 3, S / 2, S / 2]``."""
    return F.interpolate(squares(picture), scale_factor=2, mode="bilinear", align_corners=False)


def region_weights(size: int, gain: float) -> Tensor:
    """Weights ``[1, 1, size, size]`` with mean 1: ``1 + gain`` at eyes and mouth relative to 1 far from them."""
    rows, columns = (np.mgrid[0:size, 0:size] + 0.5) / size
    weights = np.ones((size, size))
    for name, (x, y) in CENTRES.items():
        width, height = _SPREADS[name]
        weights += gain * np.exp(-(((columns - x) / width) ** 2) - ((rows - y) / height) ** 2)
    return torch.from_numpy(weights / weights.mean()).float()[None, None]


def chroma_error(picture: Tensor, target: Tensor) -> Tensor:
    """Errors ``[B]`` between pictures ``[B, 3, H, W]`` in [-1, 1]."""
    return chroma_difference(picture.double(), target.double(), CELLS).pow(2).sum(1).sqrt().mean((1, 2))


def chroma_difference(picture: Tensor, target: Tensor, cells: int) -> Tensor:
    """Differences of a* and b* in ``cells`` × ``cells`` areas, ``[B, 2, cells, cells]``; pictures as `chroma_error`."""
    return _cell_chroma(picture, cells) - _cell_chroma(target, cells)


def _cell_chroma(picture: Tensor, cells: int) -> Tensor:
    """a* and b* of the cells, ``[B, 2, cells, cells]``."""
    value = (picture + 1) / 2
    # No negative number under a power: its gradient would be no number, although `where` takes the other branch.
    linear = torch.where(value <= 0.04045, value / 12.92, ((value.clamp_min(0.04) + 0.055) / 1.055) ** 2.4)
    linear = F.adaptive_avg_pool2d(linear, cells)
    # Products instead of a matrix product, which autocast would compute in bfloat16.
    xyz = (linear[:, None] * linear.new_tensor(_XYZ)[..., None, None]).sum(2) / linear.new_tensor(_WHITE)[:, None, None]
    f = torch.where(xyz > (6 / 29) ** 3, xyz.clamp_min(1e-9) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack([500 * (x - y), 200 * (y - z)], 1)


def mean_saturation(picture: Tensor) -> Tensor:
    """Mean saturation of HSV, ``[B]``, 0...1, of pictures ``[B, 3, h, w]`` in [-1, 1]; black has 0."""
    levels = (picture + 1) / 2
    largest = levels.amax(1)
    return ((largest - levels.amin(1)) / largest.clamp_min(1 / 255)).mean((1, 2))


FEATURE_SIZE = 256
"""Side of the square that KID's feature network sees, and of the crops of larger pictures."""
LEAST_SIDE = 31
"""Smallest side of pictures: of smaller ones AlexNet's pooling leaves nothing."""
REGION_SIZE = 128
"""Side to which the boxes of eyes and mouth are brought for VGG16; twice their size in pictures of 256."""


@dataclass(frozen=True)
class Scores:
    """Distances of a picture from its original; None for a score that was not measured.

    Attributes:
        psnr: dB, higher is better; inf for equal pictures.
        ssim: at most 1, higher is better.
        lpips_alex: perceptual distance, 0 to about 1, lower is better.
        lpips_vgg: the same with VGG16's features.
        identity: distance of dlib's face descriptors, lower is better; below 0.6 is the same person to dlib. Only
            meaningful for square frames aligned like FFHQ's.
        dists: similarity of structure and texture, 0 to about 1, lower is better.
        identity_mobileface: one minus the cosine of MobileFace's descriptors, lower is better; only meaningful for the
            same frames.
        lpips_eyes: LPIPS-VGG of the boxes around both eyes (`edgegrain.metrics.pixel_scores`), mean; same frames.
        lpips_mouth: of the box around the mouth.
        chroma_eyes: colour error of the same boxes (`edgegrain.metrics.pixel_scores`), lower is better.
        chroma_mouth: of the mouth.
        grid_2: by how many dB the spectrum's peaks of period 2 are higher than the original's
            (`edgegrain.metrics.pixel_scores`), lower is better; None for pictures of an unsuitable size.
        grid_4: of period 4.
        grid_8: of period 8.
        grid_16: of period 16.
    """

    psnr: float
    ssim: float
    lpips_alex: float
    lpips_vgg: float | None = None
    identity: float | None = None
    dists: float | None = None
    identity_mobileface: float | None = None
    lpips_eyes: float | None = None
    lpips_mouth: float | None = None
    chroma_eyes: float | None = None
    chroma_mouth: float | None = None
    grid_2: float | None = None
    grid_4: float | None = None
    grid_8: float | None = None
    grid_16: float | None = None


class PictureMetrics:
    """The metric networks, opened once.

    Args:
        weights: folder with the weight files of LPIPS and the identity networks.
        device: ``"cpu"`` or ``"cuda"``.
        faces: true for aligned faces, whose identity distance is measured too.
    """

    def __init__(self, weights: str | Path, *, device: str = "cpu", faces: bool = True) -> None:
        if device != "cpu" and not torch.cuda.is_available():
            raise DeviceError(f"the metrics cannot run on {device}: torch finds no GPU; use --device cpu")
        self.device = torch.device(device)
        if device != "cpu":  # scores are those of float32, within rounding of the CPU's
            torch.backends.cudnn.allow_tf32 = False
        self.alex = LPIPS(weights, "alex").to(self.device)
        self.vgg = LPIPS(weights, "vgg").to(self.device)
        self.dists = DISTS(self.vgg).to(self.device)
        self.identity = FaceIdentity(weights).to(self.device) if faces else None
        self.mobileface = MobileFace(weights) if faces else None

    def against(self, original: Rgb) -> Reference:
        """The reference that pictures are scored against, from uint8 ``[H, W, 3]`` with sides from `LEAST_SIDE` on."""
        return Reference(self, original)


class Reference:
    """One original with its features, which are computed once.

    Attributes:
        original: uint8 ``[H, W, 3]``.
        features: the original's features for KID; of crops for pictures of a multiple of 256 pixels, of eyes and mouth
            for faces only.
    """

    @torch.inference_mode()
    def __init__(self, metrics: PictureMetrics, original: Rgb) -> None:
        self.original = original
        self._metrics = metrics
        batch = self._batch(original)
        self._alex = metrics.alex.features(batch)
        activations = metrics.vgg.activations(batch)
        self._vgg = normalize(activations)
        self._dists = metrics.dists.features(batch)
        self._descriptors = self._face_descriptors(batch)
        self._peaks = periodic_peaks(original) if has_peaks(original) else None
        regions = self._regions(batch)
        self._of_regions = None if regions is None else (regions[0], normalize(regions[1]))
        self.features = self._kid_features(batch, activations, regions)

    @torch.inference_mode()
    def lpips_alex(self, picture: Rgb) -> float:
        """LPIPS-Alex of a uint8 ``[H, W, 3]``."""
        return self._metrics.alex.distance(self._metrics.alex.features(self._batch(picture)), self._alex).item()

    @torch.inference_mode()
    def quick_scores(self, picture: Rgb) -> Scores:
        """All scores of a uint8 ``[H, W, 3]`` except those of VGG16, which takes ten times as long as the others."""
        scores = Scores(psnr(picture, self.original), ssim(picture, self.original), self.lpips_alex(picture))
        found = self._face_descriptors(self._batch(picture))
        if found is None or self._descriptors is None:
            return scores
        (dlib, mobileface), (dlib_of_original, mobileface_of_original) = found, self._descriptors
        return replace(
            scores,
            identity=(dlib - dlib_of_original).pow(2).sum().sqrt().item(),
            identity_mobileface=1 - (mobileface * mobileface_of_original).sum().item(),
        )

    @torch.inference_mode()
    def scores(self, picture: Rgb) -> tuple[Scores, FeatureSets]:
        """All scores of a uint8 ``[H, W, 3]``, and its features for KID."""
        scores = self.quick_scores(picture)
        batch = self._batch(picture)
        activations = self._metrics.vgg.activations(batch)
        distance = self._metrics.vgg.distance(normalize(activations), self._vgg).item()
        dists = max(0.0, self._metrics.dists.distance(self._metrics.dists.features(batch), self._dists).item())
        regions = self._regions(batch)
        scores = replace(scores, lpips_vgg=distance, dists=dists)
        if regions is not None and self._of_regions is not None:
            boxes, features = self._of_regions
            for score, values in (
                ("lpips", self._metrics.vgg.distance(normalize(regions[1]), features)),
                ("chroma", chroma_error(regions[0], boxes)),
            ):
                scores = replace(
                    scores,
                    **{f"{score}_{region}": values[indices].mean().item() for region, indices in _BOXES_OF.items()},
                )
        if self._peaks is not None:
            scores = replace(
                scores, **{f"grid_{period}": height for period, height in added_peaks(picture, self._peaks).items()}
            )
        return scores, self._kid_features(batch, activations, regions)

    def _batch(self, picture: Rgb) -> Tensor:
        return unit_batch(picture).to(self._metrics.device)

    def _face_descriptors(self, batch: Tensor) -> tuple[Tensor, Tensor] | None:
        """Descriptors by dlib's network and by MobileFace; None for domains other than faces."""
        if self._metrics.identity is None or self._metrics.mobileface is None:
            return None
        return self._metrics.identity(batch), self._metrics.mobileface(batch)

    def _regions(self, batch: Tensor) -> tuple[Tensor, list[Tensor]] | None:
        """The boxes of eyes and mouth, and VGG16's activations on them; None for domains other than faces."""
        if self._metrics.identity is None:
            return None
        found = squares(batch)
        return found, self._metrics.vgg.activations(_resized(found, REGION_SIZE))

    def _kid_features(
        self, batch: Tensor, activations: list[Tensor], regions: tuple[Tensor, list[Tensor]] | None
    ) -> FeatureSets:
        """Spatial mean of VGG16's last activations; those for LPIPS are reused if the picture has the right size."""
        found, (height, width) = {}, batch.shape[-2:]
        if (height, width) != (FEATURE_SIZE, FEATURE_SIZE):
            if height % FEATURE_SIZE == 0 and width % FEATURE_SIZE == 0:
                crops = F.adaptive_avg_pool2d(activations[-1], (height // FEATURE_SIZE, width // FEATURE_SIZE))
                found["kid_crops"] = crops[0].flatten(1).T.cpu().numpy()
            activations = self._metrics.vgg.activations(_resized(batch, FEATURE_SIZE))
        found["kid"] = _pooled(activations)
        if regions is not None:
            found |= {f"kid_{region}": _pooled(regions[1])[indices] for region, indices in _BOXES_OF.items()}
        return found


_BOXES_OF = {region: [list(CENTRES).index(name) for name in names] for region, names in REGIONS.items()}


def unit_batch(picture: Rgb) -> Tensor:
    """uint8 ``[H, W, 3]`` -> float32 ``[1, 3, H, W]`` in [-1, 1]."""
    return torch.from_numpy(network_input(picture[None]))


def _resized(batch: Tensor, side: int) -> Tensor:
    return F.interpolate(batch, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)


def _pooled(activations: list[Tensor]) -> Features:
    """Mean over places of the last activations, ``[B, 512]``."""
    return activations[-1].mean((2, 3)).cpu().numpy()
