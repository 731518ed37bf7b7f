"""Controls: the inputs that a bundle's decoder takes in addition to the LR, with their ranges and defaults."""

from __future__ import annotations

import numbers
import sys
from dataclasses import dataclass

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import BundleError, ImageError

SEED, STRENGTH = "seed", "strength"
MAX_SEED = 2**32 - 1
SMALLEST_STRENGTH, LARGEST_STRENGTH = 4.0, 64.0
"""The factors s that GCFSR was trained for ([GCFSR] 4)."""


@dataclass(frozen=True)
class Control:
    """A numeric control.

    Attributes:
        least: lower end of its range, included.
        most: upper end of its range, included.
        default: value used if none is given; None if the default picture needs no number.
    """

    least: float
    most: float
    default: float | None

    def __str__(self) -> str:
        usual = "" if self.default is None else f", {self.default:g} if not given"
        return f"{self.least:.10g} to {self.most:.10g}{usual}"


def controls_of(manifest: Manifest) -> dict[str, Control]:
    """The controls of a bundle by name, as far as this release knows them."""
    named = manifest.decoder.get("controls", ())
    if not isinstance(named, (list, tuple)):
        raise BundleError(f"the manifest of bundle {manifest.id} is wrong: decoder.controls is a list of names, got "
                          f"{named!r}")
    found = {}
    if SEED in named:
        found[SEED] = Control(0, MAX_SEED, None)
    if STRENGTH in named:
        found[STRENGTH] = _strength(manifest)
    return found


def strength_of(manifest: Manifest, wanted: float | None) -> float | None:
    """The strength of a restored picture: ``wanted``, or the bundle's default; None for decoders without this control.
    """
    control = controls_of(manifest).get(STRENGTH)
    if control is None:
        if wanted is not None:
            raise ImageError(f"bundle {manifest.id} has no control 'strength'; restore without one, or take a bundle "
                             "of GCFSR")
        return None
    if wanted is None:
        return control.default
    number = isinstance(wanted, numbers.Real) and not isinstance(wanted, bool)
    if not number or not control.least <= wanted <= control.most:
        raise ImageError(f"the strength of bundle {manifest.id} is a number from {control.least:g} to "
                         f"{control.most:g}, got {wanted!r}")
    return float(wanted)


def _strength(manifest: Manifest) -> Control:
    described = manifest.decoder.get(STRENGTH, {})  # the default for older bundles, whose manifests do not describe it
    described = described if isinstance(described, dict) else {"range": None}
    limits = described.get("range", [SMALLEST_STRENGTH, LARGEST_STRENGTH])
    values = [*(limits if isinstance(limits, list) else ()), described.get("default", manifest.hr / manifest.lr)]
    finite = all(isinstance(value, (int, float)) and abs(value) <= sys.float_info.max for value in values)
    if len(values) != 3 or not finite or not 0 < values[0] <= values[2] <= values[1]:
        raise BundleError(f"the manifest of bundle {manifest.id} describes no strength: expected "
                          '"strength": {"range": [LEAST, MOST], "default": NUMBER} with the default in the range')
    return Control(float(values[0]), float(values[1]), float(values[2]))
