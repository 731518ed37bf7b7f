"""Sources of a bundle's enlarger: a run, or another bundle, whose enlarger can also be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from codec_contract.bundle.manifest import Manifest, load_manifest
from codec_contract.bundle.paths import find_bundle
from codec_contract.errors import BundleError, ExportError
from export.bundle.enlarger_graphs import NETWORK, Doublings, export_enlarger
from export.bundle.manifest_record import read_record
from export.decoder.decoder_graph import load_parameters
from server_decoder.super_resolution.enlarger_session import EnlargerSession
from server_decoder.super_resolution.network import SuperResolution, SuperResolutionConfig
from server_decoder.super_resolution.weights import holds_super_resolution, read_training


class EnlargerFiles(NamedTuple):
    """Files to write into a bundle.

    Attributes:
        models: ONNX files, one for each doubling.
        training: how they were trained, for the manifest; plain JSON values.
        summary: one line for people.
        licence: of the weights and their data, if they are another bundle's.
    """

    models: tuple[bytes, ...]
    training: dict[str, Any]
    summary: str
    licence: str | None = None


@dataclass(frozen=True)
class BundledEnlarger:
    """The enlarger of a bundle.

    Attributes:
        bundle: that has it.
        models: ONNX files, one for each doubling.
        training: how it was trained; plain JSON values.
    """

    bundle: Manifest
    models: tuple[bytes, ...]
    training: dict[str, Any]

    def require_side(self, side: int) -> None:
        """Refuse a bundle whose pictures the enlarger does not take.

        Raises:
            ExportError: the enlarger takes pictures of another side.
            BundleError: the files are no enlarger.
        """
        if side != self.bundle.hr:
            raise ExportError(f"the enlarger of bundle {self.bundle.id} takes pictures of {self.bundle.hr}x"
                              f"{self.bundle.hr}, the bundle restores {side}x{side}")
        EnlargerSession(self.models, side)

    @property
    def licence(self) -> str:
        """Licence of the weights and their data, for the manifest of another bundle."""
        held = self.bundle.licence
        if "enlarger" in held:  # itself a copy
            return str(held["enlarger"])
        weights, data = (str(held.get(part, "not stated")).rstrip(".") for part in ("weights", "data"))
        return f"that of {self.bundle.id} {self.bundle.version}. Weights: {weights}. Data: {data}."

    def network(self) -> SuperResolution:
        """The network, its weights read back from the ONNX files; without doublings that the bundle lacks.

        Raises:
            BundleError: the manifest does not describe the network, or the weights do not fit.
        """
        try:
            config = SuperResolutionConfig.from_dict(self.training["config"]["network"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"bundle {self.bundle.id} does not describe its enlarger's network ({error})") from error
        network = SuperResolution(config.cut(len(self.models)))
        held = onnx.ModelProto()
        held.graph.initializer.extend({
            tensor.name: tensor for model in self.models
            for tensor in onnx.load_model_from_string(model).graph.initializer if tensor.name.startswith(NETWORK)
        }.values())
        load_parameters(Doublings(network), held)
        return network.eval()


def enlarger_files(source: str | Path, side: int) -> EnlargerFiles:
    """The enlarger of a run, exported and compared with torch, or that of a bundle as it is.

    Args:
        source: a run, its ``super_resolution.safetensors``, or a bundle as `find_bundle` takes it.
        side: of the pictures that it will enlarge, S.

    Raises:
        ExportError: the enlarger is for pictures of another side; or as `export_enlarger`.
        ModelError: the run's network is damaged.
        BundleError: as `find_enlarger`.
    """
    if holds_super_resolution(source):
        exported = export_enlarger(Path(source), side)
        return EnlargerFiles(exported.models, read_training(source), exported.summary())
    found = find_enlarger(source)
    found.require_side(side)
    origin = f"{found.bundle.id} {found.bundle.version}"
    return EnlargerFiles(found.models, {**found.training, "part_of": origin}, f"those of {origin}",
                         found.licence)


def find_enlarger(bundle: str | Path) -> BundledEnlarger:
    """The enlarger of a bundle, given as `find_bundle` takes it.

    Raises:
        BundleError: there is no such bundle, it has no enlarger, or a file is missing or altered.
    """
    try:
        manifest = load_manifest(find_bundle(bundle))
        if manifest.enlarger is None:
            raise BundleError(f"bundle {manifest.id} has no enlarger")
    except BundleError as error:
        raise BundleError(f"{bundle} is neither the run of an enlarger nor a bundle with one: {error}") from error
    models = tuple(manifest.open_file(name) for name in manifest.enlarger.files)
    return BundledEnlarger(manifest, models, read_record(manifest.folder)["enlarger"].get("training", {}))
