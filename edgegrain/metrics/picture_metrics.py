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
REGIONS = {"eyes": ("left eye", "right eye"), "mouth": ("mouth",)}  # name -> boxes whose scores are averaged
SIDE = 0.25  # side of a box, as a fraction of the picture's: 64 pixels of 256
# Standard deviations (x, y) of the weight around each centre, as fractions of the side.
_SPREADS = {"left eye": (0.078, 0.051), "right eye": (0.078, 0.051), "mouth": (0.102, 0.055)}
CELLS = 8  # cells of a row and of a column
# From linear sRGB.
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)  # D65


def boxes(side: int) -> dict[str, tuple[int, int, int]]:
    """Name -> (left, top, size) of the boxes in a square picture of that side, in pixels."""
    size = round(SIDE * side)
    return {name: (round(x * side - size / 2), round(y * side - size / 2), size) for name, (x, y) in CENTRES.items()}


def squares(picture: Tensor) -> Tensor:
    """The boxes of pictures ``[B, 3, S, S]``, ``[3 B, 3, S / 4, S / 4]``: all left eyes, all right eyes, all mouths."""
    places = boxes(picture.shape[-1]).values()
    return torch.cat([picture[..., top : top + size, left : left + size] for left, top, size in places])


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


FEATURE_SIZE = 256  # side of the square that KID's feature network sees, and of the crops of larger pictures
LEAST_SIDE = 31  # smallest side of pictures: of smaller ones AlexNet's pooling leaves nothing
REGION_SIZE = 128
"""Side to which the boxes of eyes and mouth are brought for VGG16; twice their size in pictures of 256."""


@dataclass(frozen=True)
class Scores:
    """Distances of a picture from its original, lower is better if not stated; None for a score that was not measured.

    Those of identity, eyes and mouth are only meaningful for square frames aligned like FFHQ's.
    """

    psnr: float  # dB, higher is better; inf for equal pictures
    ssim: float  # at most 1, higher is better
    lpips_alex: float  # perceptual distance, 0 to about 1
    lpips_vgg: float | None = None  # the same with VGG16's features
    identity: float | None = None  # distance of dlib's face descriptors; below 0.6 is the same person to dlib
    dists: float | None = None  # similarity of structure and texture, 0 to about 1
    identity_mobileface: float | None = None  # one minus the cosine of MobileFace's descriptors
    lpips_eyes: float | None = None  # LPIPS-VGG of the boxes around both eyes, mean
    lpips_mouth: float | None = None
    chroma_eyes: float | None = None  # colour error of the same boxes
    chroma_mouth: float | None = None
    grid_2: float | None = None  # by how many dB the spectrum's peaks of period 2 are higher than the original's
    grid_4: float | None = None
    grid_8: float | None = None
    grid_16: float | None = None


class PictureMetrics:
    """The metric networks, opened once; ``faces``: pictures are aligned faces, whose identity is measured too."""

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
    """One original, uint8 ``[H, W, 3]``, with its features, which are computed once; ``features`` are those for KID."""

    @torch.inference_mode()
    def __init__(self, metrics: PictureMetrics, original: Rgb) -> None:
        self.original, self._metrics, batch = original, metrics, unit_batch(original).to(metrics.device)
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
        alex, batch = self._metrics.alex, unit_batch(picture).to(self._metrics.device)
        return alex.distance(alex.features(batch), self._alex).item()

    @torch.inference_mode()
    def quick_scores(self, picture: Rgb) -> Scores:
        """All scores of a uint8 ``[H, W, 3]`` except those of VGG16, which takes ten times as long as the others."""
        scores = Scores(psnr(picture, self.original), ssim(picture, self.original), self.lpips_alex(picture))
        found = self._face_descriptors(unit_batch(picture).to(self._metrics.device))
        if found is None or self._descriptors is None:
            return scores
        (dlib, mobileface), (dlib_of_original, mobileface_of_original) = found, self._descriptors
        distance = (dlib - dlib_of_original).pow(2).sum().sqrt().item()
        cosine = (mobileface * mobileface_of_original).sum().item()
        return replace(scores, identity=distance, identity_mobileface=1 - cosine)

    @torch.inference_mode()
    def scores(self, picture: Rgb) -> tuple[Scores, FeatureSets]:
        """All scores of a uint8 ``[H, W, 3]``, and its features for KID."""
        vgg, dists, batch = self._metrics.vgg, self._metrics.dists, unit_batch(picture).to(self._metrics.device)
        activations, regions = vgg.activations(batch), self._regions(batch)
        found = {
            "lpips_vgg": vgg.distance(normalize(activations), self._vgg).item(),
            "dists": max(0.0, dists.distance(dists.features(batch), self._dists).item()),
        }
        if regions is not None and self._of_regions is not None:
            boxes, features = self._of_regions
            distances, errors = vgg.distance(normalize(regions[1]), features), chroma_error(regions[0], boxes)
            for region, indices in _BOXES_OF.items():
                found[f"lpips_{region}"] = distances[indices].mean().item()
                found[f"chroma_{region}"] = errors[indices].mean().item()
        if self._peaks is not None:
            found |= {f"grid_{period}": height for period, height in added_peaks(picture, self._peaks).items()}
        return replace(self.quick_scores(picture), **found), self._kid_features(batch, activations, regions)

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
