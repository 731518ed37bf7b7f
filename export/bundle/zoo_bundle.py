"""A bundle from a folder of trained weights; the family is read from the weight file.

    grain.safetensors                       GRAIN
    irn.safetensors                         IRN, IRN+
    glean.safetensors, gcfsr.safetensors    GLEAN, GCFSR
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path

from codec_contract.errors import ExportError, ModelError
from export import papers
from export.bundle.grain_bundle import write_trained_bundle
from export.bundle.writer import WrittenBundle
from export.decoder.sources import TRAINED


@dataclass(frozen=True)
class BundleOptions:
    """Choices for a bundle; None leaves one to its family.

    Attributes:
        version: of the bundle.
        licence: of weights and data.
        formats: of the encoder.
        domain: what the pictures show.
        prior: the generator, as `load_prior` takes it.
        reduction: of GLEAN and GCFSR, a key of `REDUCTIONS`.
        lr: side of a GCFSR bundle's LRs.
    """

    version: str | None = None
    licence: Mapping[str, str] | None = None
    formats: Sequence[str] | None = None
    domain: str | None = None
    prior: str | Path | None = None
    reduction: str | None = None
    lr: int | None = None


def write_zoo_bundle(weights: Path, folder: Path, options: BundleOptions | None = None, *, force: bool = False
                     ) -> WrittenBundle:
    """Write the bundle of trained weights.

    Args:
        weights: a folder of the zoo or of a run, or the weight file in it.
        folder: of the bundle; its name becomes the id.
        options: see there.
        force: replace a bundle that exists.

    Raises:
        ExistsError: the folder exists and ``force`` is false.
        ModelError: there are no weights, or weights of several families; they are damaged; a generator is missing.
        ExportError: the family has no such option, a conversion fails, or an export differs from torch.
        BundleError: the name is no valid id, or the sizes do not fit.
    """
    path = weight_file(weights)
    source, name, write = path.parent, "GRAIN", write_trained_bundle
    if path.name != TRAINED:
        source, name, write = path, papers.WEIGHTS[path.name].name, papers.load(papers.WEIGHTS[path.name].writer)
    options = options or BundleOptions()
    given = {item.name: value for item in fields(options) if (value := getattr(options, item.name)) is not None}
    if foreign := sorted(set(given) - signature(write).parameters.keys()):
        raise ExportError(f"{path} holds a {name}, which takes no {', '.join(f'--{option}' for option in foreign)}")
    return write(source, folder, force=force, **given)


def weight_file(weights: Path) -> Path:
    """The weight file in a folder, or the given file if it has the name of one.

    Raises:
        ModelError: there is none, or there are several.
    """
    names = (TRAINED, *papers.WEIGHTS)
    if weights.is_file() and weights.name in names:
        return weights
    found = [weights / name for name in names if (weights / name).is_file()]
    if len(found) != 1:
        raise ModelError(f"{weights} holds {len(found)} weight files, expected one of {', '.join(names)}")
    return found[0]
