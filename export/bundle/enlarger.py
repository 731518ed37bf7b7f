"""The enlarger of a bundle, which makes restored pictures 2 or 4 times as large: exported from a run, or copied.

The graphs' signatures are those of `server_decoder.enlarger_session`. Large weights are stored as int8
and the others as float16, and widened on loading; the graphs compute in float32 and are compared with torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.utils
import torch
from torch import Tensor, nn

from codec_contract.bundle.find import find_bundle
from codec_contract.bundle.manifest import ENLARGEMENTS, MODEL_CARD, Manifest, load_manifest
from codec_contract.errors import BundleError, ExistsError, ExportError
from codec_contract.pixels import network_input, pictures_of
from codec_contract.resize import exact_resize
from edge_encoder.preprocessing import load_picture
from export.bundle.additions import add_files, read_record, writable_bundle
from export.bundle.card import state_enlarger
from export.bundle.writer import update_card
from export.decoder.graph import (
    decoder_graph,
    from_levels,
    load_parameters,
    rename_values,
    round_weights,
    store_compact,
    to_levels,
)
from export.proof.proof_inputs import find_pictures, smooth_pictures
from server_decoder import decoder_session
from server_decoder.enlarger_session import ENLARGED, FEATURES, PICTURE, VALUES, EnlargerSession
from server_decoder.super_resolution import (
    SuperResolution,
    SuperResolutionConfig,
    holds_super_resolution,
    load_super_resolution,
    notch_filter,
    read_training,
)
from server_decoder.weight_file import described_network


def require_enlargeable(bundle: str, *, force: bool = False) -> Manifest:
    """The manifest of the bundle that an enlarger will be written into; called before work that takes time.

    Args:
        bundle: name or folder.
        force: replace the enlarger that the bundle has.
    """
    target = writable_bundle(bundle)
    if target.tile_overlap is not None:
        raise ExportError(f"bundle {target.id} restores pictures of any size in tiles; an enlarger takes whole squares")
    if target.enlarger is not None and not force:
        raise ExistsError(target.folder / target.enlarger.files[0])
    return target


def write_enlarger(models: Sequence[bytes], target: Manifest, training: dict[str, Any], licence: str | None = None,
                   *, version: str | None = None) -> list[Path]:
    """Write an enlarger into a bundle, in place of an earlier one, and return its files. The LR contract stays.

    The model card states the enlarger's licence if it has one of its own.

    Args:
        models: ONNX files, one for each doubling.
        target: from `require_enlargeable`.
        training: how it was trained, for the manifest; plain JSON values.
        licence: of an enlarger from another bundle; None for the bundle's own.
        version: new version of the bundle; None to keep the one it has.
    """
    record = read_record(target.folder)
    files: dict[str, bytes] = {}
    for factor, model in zip(ENLARGEMENTS, models, strict=False):
        name, digest = f"enlarger_x{factor}.onnx", hashlib.sha256(model).hexdigest()
        if record["files"].get(name, {"sha256": digest})["sha256"] != digest:
            # The earlier file is valid until the manifest names the new one.
            name = f"enlarger_x{factor}-{digest[:8]}.onnx"
        files[name] = model
    replaced = set(() if target.enlarger is None else target.enlarger.files) - files.keys()
    record["enlarger"] = {"files": list(files), "training": training}
    if version is not None:
        record["version"] = version
    record["licence"].pop("enlarger", None)
    if licence is not None:
        record["licence"]["enlarger"] = licence
    written = add_files(target, record, files, replaced)
    if MODEL_CARD in written.files:
        card = written.open_file(MODEL_CARD).decode()
        if (stated := state_enlarger(card, licence)) != card:
            update_card(written.folder, evaluation=written.evaluation, card=stated)
    return [written.path(name) for name in files]


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
        """Refuse a bundle whose pictures the enlarger does not take."""
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
        """The network, its weights read back from the ONNX files; without doublings that the bundle lacks."""
        try:
            config = SuperResolutionConfig.from_dict(self.training["config"]["network"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"bundle {self.bundle.id} does not describe its enlarger's network ({error})") from error
        assert self.bundle.enlarger is not None  # see `find_enlarger`
        network = described_network(self.bundle.path(self.bundle.enlarger.files[0]),
                                    lambda: SuperResolution(config.cut(len(self.models))))
        held = onnx.ModelProto()
        held.graph.initializer.extend({
            tensor.name: tensor for model in self.models
            for tensor in onnx.load_model_from_string(model).graph.initializer if tensor.name.startswith("network.")
        }.values())  # other constants belong to the ends
        load_parameters(Doublings(network), held)
        return network.eval()


def enlarger_files(source: str | Path, side: int) -> EnlargerFiles:
    """The enlarger of a run, exported and compared with torch, or that of a bundle as it is.

    Args:
        source: a run, its ``super_resolution.safetensors``, or a bundle as `find_bundle` takes it.
        side: of the pictures that it will enlarge, S.
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
    """The enlarger of a bundle, given as `find_bundle` takes it."""
    try:
        manifest = load_manifest(find_bundle(bundle))
        if manifest.enlarger is None:
            raise BundleError(f"bundle {manifest.id} has no enlarger")
    except BundleError as error:
        raise BundleError(f"{bundle} is neither the run of an enlarger nor a bundle with one: {error}") from error
    models = tuple(manifest.open_file(name) for name in manifest.enlarger.files)
    return BundledEnlarger(manifest, models, read_record(manifest.folder)["enlarger"].get("training", {}))


@dataclass(frozen=True)
class ExportedEnlarger:
    """An enlarger that was exported and compared with torch.

    Attributes:
        models: ONNX files, one for each doubling.
        pictures: compared with torch.
        differing_bytes: share of the enlarged pictures' bytes that differ, by at most one level.
    """

    models: tuple[bytes, ...]
    pictures: int
    differing_bytes: float

    def summary(self) -> str:
        """One line for people."""
        sizes = " and ".join(f"{len(model):,}" for model in self.models)
        return (f"{sizes} bytes; {1e6 * self.differing_bytes:.0f} of a million bytes differ from torch, by 1")


class Doublings(nn.Module):
    """The network on levels; three outputs of each doubling: the picture without its grid, its values, and features."""

    def __init__(self, network: SuperResolution) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        steps = self.network.forward_steps(from_levels(picture))
        outputs = [output for step in steps for output in (to_levels(notch_filter(step.picture)), *step)]
        return tuple(outputs[:-2])  # nothing reads the last values and features


def export_enlarger(source: Path, side: int) -> ExportedEnlarger:
    """Export a trained network for the factors that it was trained for, and compare the graphs with torch.

    Args:
        source: ``super_resolution.safetensors``, or the folder of a run with it.
        side: of the restored pictures, S.
    """
    network, training = load_super_resolution(source), read_training(source).get("config", {})
    if training.get("size", side) != side:
        raise ExportError(f"{source} was trained on pictures of {training['size']}x{training['size']}, the bundle "
                          f"restores {side}x{side}")
    part = up_to_factor(network, training.get("factor", network.config.factors[-1]))
    round_weights(part, compact=True)
    return compare_enlarger(enlarger_graphs(part, side), part, compared_pictures(side))


def up_to_factor(network: SuperResolution, factor: int) -> SuperResolution:
    """A copy of the network without the weights that only a larger factor needs."""
    network.require_factor(factor)
    part = SuperResolution(network.config.cut(network.config.factors.index(factor) + 1))
    kept = part.state_dict().keys()
    part.load_state_dict({name: tensor for name, tensor in network.state_dict().items() if name in kept})
    return part.eval()


def enlarger_graphs(network: SuperResolution, side: int) -> tuple[bytes, ...]:
    """The ONNX files of a network, one for each doubling, for pictures of this side."""
    steps = range(len(network.config.factors))
    pictures, values, features = ([f"{name}.{step}" for step in steps] for name in (ENLARGED, VALUES, FEATURES))
    outputs = [name for names in zip(pictures, values, features, strict=True) for name in names][:-2]
    whole = store_compact(decoder_graph(Doublings(network), side, outputs, levels=True))
    files = []
    for step in steps:
        inputs = {decoder_session.INPUT: PICTURE} if step == 0 else {
            values[step - 1]: VALUES, features[step - 1]: FEATURES}
        results = {pictures[step]: ENLARGED}
        if step < steps[-1]:
            results |= {values[step]: VALUES, features[step]: FEATURES}
        part = onnx.utils.Extractor(whole).extract_model(list(inputs), list(results))
        rename_values(part, inputs | results)
        onnx.checker.check_model(part)
        files.append(bytes(part.SerializeToString()))
    return tuple(files)


def compare_enlarger(models: tuple[bytes, ...], network: SuperResolution, pictures: np.ndarray) -> ExportedEnlarger:
    """Compare graphs with torch on ``pictures``, uint8 ``[N, S, S, 3]``."""
    session = EnlargerSession(models, pictures.shape[1])
    differing = total = 0
    for picture in pictures:
        with torch.no_grad():
            steps = network.forward_steps(torch.from_numpy(network_input(picture[None])))
        for factor, enlarged in zip(session.factors, steps, strict=True):
            wanted = pictures_of(notch_filter(enlarged.picture).numpy())
            difference = np.abs(session.enlarge(picture[None], factor).astype(np.int16) - wanted)
            if difference.max() > 1:  # torch sums in another order
                raise ExportError(f"an enlarged picture differs from torch's by {difference.max()} levels, more than 1")
            differing, total = differing + int((difference > 0).sum()), total + difference.size
    return ExportedEnlarger(models, len(pictures), differing / total)


def compared_pictures(side: int) -> np.ndarray:
    """uint8 ``[N, side, side, 3]``: the pictures that ship with edgegrain, smooth colours, and noise."""
    shipped = [exact_resize(load_picture(path), (side, side)) for path in find_pictures()]
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return np.stack([*shipped, *smooth_pictures(1, side), noise])
