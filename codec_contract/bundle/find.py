"""Find bundles: in a folder, the package, a checkout, on the Hugging Face Hub; by quality; and by their controls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from codec_contract.bundle.hub import SCHEME, Check, find_hub_bundle
from codec_contract.bundle.manifest import BUNDLE_ID, ENCODER_WEIGHTS, MANIFEST, Manifest, Rate
from codec_contract.errors import BundleError, ImageError

DEFAULT_BUNDLE = "faces-256-lr16-small"
ALIASES = {"faces": DEFAULT_BUNDLE}


def bundle_roots() -> tuple[Path, ...]:
    """Folders of installed bundles: the one in the wheel, then the one of a checkout."""
    root = Path(__file__).resolve().parents[2]
    return root / "edgegrain" / "bundles", root / "bundles"


def find_bundle(name_or_path: str | Path = DEFAULT_BUNDLE, *, check: Check | None = None) -> Path:
    """The folder of a bundle, given by its path, name or alias, or ``hf://owner/name@revision`` (`find_hub_bundle`)."""
    if str(name_or_path).startswith(SCHEME):
        return find_hub_bundle(str(name_or_path), check=check)
    path = Path(name_or_path)
    if any((path / name).is_file() for name in (MANIFEST, ENCODER_WEIGHTS)):  # of one being built the second alone
        return path
    name = ALIASES.get(str(name_or_path), str(name_or_path))
    if BUNDLE_ID.fullmatch(name):  # a name cannot climb out of the bundles' folder
        for root in bundle_roots():
            if (root / name).is_dir():
                return root / name
    known = ", ".join(installed_bundles()) or "none"
    what = f"the folder {path} holds no {MANIFEST}" if path.is_dir() else f"there is no bundle {str(name_or_path)!r}"
    raise BundleError(f"{what}; give a bundle's folder or one of the installed bundles: {known}")


def installed_bundles() -> dict[str, Path]:
    """Name -> folder of every bundle of the package or the checkout, sorted by name."""
    manifests = [path for root in reversed(bundle_roots()) for path in root.glob(f"*/{MANIFEST}")]  # the wheel's last
    # A killed process may have left a copy of a bundle under a name that is no id.
    found = {path.parent.name: path.parent for path in manifests if BUNDLE_ID.fullmatch(path.parent.name)}
    return dict(sorted(found.items()))


Quality = Literal["tiny", "small", "medium", "large"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)  # names of the rates, ascending
TYPICAL_BYTES: dict[str, int] = dict(zip(QUALITIES, (161, 337, 795, 2156), strict=True))
"""Mean payload of a face (docs/qualities.md)."""


def bundles_to_try(
    base: Manifest, manifests: Iterable[Manifest], quality: str | None, max_bytes: int | None
) -> list[Manifest]:
    """The bundles of ``base``'s domain for a picture, best first; the first whose payload has at most ``max_bytes``, at
    one of its rates, is taken.

    ``quality`` is the best one to use; without ``max_bytes`` the only one. Without it, ``base`` alone if there is no
    limit or ``base`` has no quality, else every quality.
    """
    if max_bytes is not None:
        check_max_bytes(max_bytes)
    allowed = QUALITIES if quality is None else _up_to(quality)
    if quality is None and (max_bytes is None or base.quality is None):
        return [base]
    known: dict[str, Manifest] = {}  # the first of several with the same quality
    for manifest in (base, *manifests):
        for rate in manifest.rates if manifest.domain == base.domain else ():
            if rate.quality is not None:
                known.setdefault(rate.quality, manifest)
    if max_bytes is None:
        allowed = allowed[-1:]
    found = [known[name] for name in reversed(allowed) if name in known]
    if found := [each for index, each in enumerate(found) if not index or each is not found[index - 1]]:
        return found
    others = ", ".join(name for name in QUALITIES if name in known) or "none"
    problem = f"there is no bundle for {base.domain} of quality {quality}"
    raise BundleError(f"{problem}, only: {others}; see 'edgegrain bundles'")


def rates_from(manifest: Manifest, quality: str | None = None, *, limited: bool = True) -> tuple[Rate, ...]:
    """The rates of a bundle to try for a ``limited`` number of bytes, the best first: all, or those of at most this
    quality, `BundleError` if none. Without a limit one, the bundle's own or the best of at most this quality."""
    rates = manifest.rates
    if quality is None:
        return rates if limited else (manifest.own_rate,)
    allowed = _up_to(quality)
    first = next((index for index, rate in enumerate(rates) if rate.quality in allowed), None)
    if first is None:
        few = f"bundle {manifest.id} has no rate of at most the quality {quality}"
        raise BundleError(f"{few}; see 'edgegrain bundles'")
    if not limited:
        return rates[first : first + 1]
    while first and rates[first].quality != quality and rates[first - 1].finer and rates[first - 1].quality is None:
        first -= 1  # a better bundle has this quality
    return rates[first:]


def _up_to(quality: str) -> tuple[Quality, ...]:
    if quality not in QUALITIES:
        raise BundleError(f"there is no quality {quality!r}, only: {', '.join(QUALITIES)}")
    return QUALITIES[: QUALITIES.index(quality) + 1]


def check_max_bytes(max_bytes: int) -> None:
    """Raise `ImageError` unless the limit is at least 1."""
    if max_bytes < 1:
        raise ImageError(f"max_bytes must be a number of at least 1, got {max_bytes!r}")


def too_few_bytes(
    max_bytes: int, smallest: int, what: str = "payload of this picture", quality: str | None = None
) -> ImageError:
    """The error for a picture whose smallest payload, of ``quality``, exceeds the limit; it names one that may fit."""
    advice, typical = "", TYPICAL_BYTES.get(quality or "", 0)
    for name, mean in TYPICAL_BYTES.items():
        if mean < typical and smallest * mean <= max_bytes * typical:
            advice = f"; one of quality {name} would have about {smallest * mean // typical} (docs/qualities.md)"
    return ImageError(f"no quality fits into {max_bytes} bytes: the smallest {what} has {smallest}{advice}")


SEED, STRENGTH = "seed", "strength"
MAX_SEED = 2**32 - 1
SMALLEST_STRENGTH, LARGEST_STRENGTH = 4.0, 64.0  # the factors s that GCFSR was trained for ([GCFSR] 4)


@dataclass(frozen=True)
class Control:
    """A numeric control: its range, both ends included, and the value used if none is given, if that is a number."""

    least: float
    most: float
    default: float | None

    def __str__(self) -> str:
        usual = "" if self.default is None else f", {self.default:g} if not given"
        return f"{self.least:.10g} to {self.most:.10g}{usual}"


def controls_of(manifest: Manifest) -> dict[str, Control]:
    """The controls of a bundle by name, as far as this release knows them."""
    found, decoder = {}, manifest.decoder
    controls = decoder.get("controls", ())
    try:
        if SEED in controls:
            found[SEED] = Control(0, MAX_SEED, None)
        if STRENGTH in controls:
            described = decoder.get(STRENGTH, {})  # older bundles have none
            least, most = described.get("range", (SMALLEST_STRENGTH, LARGEST_STRENGTH))
            found[STRENGTH] = Control(least, most, float(described.get("default", manifest.hr / manifest.lr)))
    except (TypeError, ValueError, AttributeError) as error:
        expected = '"controls": [NAME] and "strength": {"range": [LEAST, MOST], "default": NUMBER}'
        problem = f"the manifest of bundle {manifest.id} describes its decoder's controls wrongly"
        raise BundleError(f"{problem}: expected {expected}") from error
    return found


def strength_of(manifest: Manifest, wanted: float | None) -> float | None:
    """``wanted``, or the bundle's default strength; None for decoders without this control."""
    control = controls_of(manifest).get(STRENGTH)
    if wanted is None:
        return control.default if control else None
    if control is None:
        advice = "restore without one, or take a bundle of GCFSR"
        raise ImageError(f"bundle {manifest.id} has no control 'strength'; {advice}")
    if not control.least <= wanted <= control.most:
        expected = f"a number from {control.least:g} to {control.most:g}"
        raise ImageError(f"the strength of bundle {manifest.id} is {expected}, got {wanted!r}")
    return float(wanted)
