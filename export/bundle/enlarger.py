"""The enlarger of a bundle, which makes restored pictures 2 or 4 times as large: exported from a run, or copied.

The graphs' signatures are those of `server_decoder.enlarger_session`. Large weights are stored as int8
and the others as float16, and widened on loading; the graphs compute in float32 and are compared with torch. The form
in int8 refers to their weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.utils
import torch
from torch import Tensor, nn

from codec_contract.bundle.find import find_bundle
from codec_contract.bundle.manifest import ENLARGEMENTS, INT8_FORM, MODEL_CARD, Manifest, decoder_forms, load_manifest
from codec_contract.errors import BundleError, ExistsError, ExportError
from codec_contract.exact_square import exact_resize
from codec_contract.pixels import network_input, pictures_of
from edge_encoder.preprocessing import load_picture
from export.bundle.writer import change_bundle, read_record, state_enlarger, writable_bundle
from export.decoder.graph import (
    decoder_graph,
    from_levels,
    load_parameters,
    rename_values,
    round_weights,
    store_compact,
    to_levels,
)
from export.proof.inputs import find_pictures, smooth_pictures
from server_decoder import decoder_session
from server_decoder.enlarger_session import ENLARGED, FEATURES, PICTURE, VALUES, EnlargerSession
from server_decoder.providers import can_run_int8
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
    """The manifest of the bundle, by name or folder, that an enlarger will be written into; ``force`` replaces one."""
    target = writable_bundle(bundle)
    if target.tile_overlap is not None:
        raise ExportError(f"bundle {target.id} restores pictures of any size in tiles; an enlarger takes whole squares")
    if target.enlarger is not None and not force:
        raise ExistsError(target.folder / target.enlarger.files[0])
    return target


def require_int8_decoder(target: Manifest) -> None:
    """Refuse a bundle whose decoder has no form in int8."""
    if INT8_FORM not in decoder_forms(target):
        advice = "add it with 'edgegrain export decoder --precision int8 --into'"
        raise ExportError(f"bundle {target.id} has no decoder in int8, for whose pictures the form is; {advice}")


class EnlargerFiles(NamedTuple):
    """ONNX files to write into a bundle, one for each doubling."""

    models: Sequence[bytes]
    training: dict[str, Any]  # for the manifest
    summary: str = ""  # one line for people
    licence: str | None = None  # of the weights and their data, if they are another bundle's
    int8: Sequence[bytes] = ()  # the form in int8


def write_enlarger(found: EnlargerFiles, target: Manifest, *, version: str | None = None) -> list[Path]:
    """Write an enlarger into a bundle in place of an earlier one; returns its files.

    The LR contract stays. Manifest and model card state the licence; ``version`` is the bundle's new one.
    """
    record = read_record(target.folder)
    files: dict[str, bytes] = {}
    for form, graphs in (("enlarger", found.models), ("enlarger_int8", found.int8)):
        for factor, model in zip(ENLARGEMENTS, graphs, strict=False):
            name, digest = f"{form}_x{factor}.onnx", hashlib.sha256(model).hexdigest()
            if record["files"].get(name, {"sha256": digest})["sha256"] != digest:
                # The earlier file is valid until the manifest names the new one.
                name = f"{form}_x{factor}-{digest[:8]}.onnx"
            files[name] = model
    names = list(files)
    count = len(found.models)
    record["enlarger"] = {"files": names[:count], "training": found.training}
    if found.int8:
        record["enlarger"]["forms"] = {INT8_FORM: {"files": names[count:]}}
    if version is not None:
        record["version"] = version
    record["licence"].pop("enlarger", None)
    if found.licence is not None:
        record["licence"]["enlarger"] = found.licence
    if MODEL_CARD in target.files:
        files[MODEL_CARD] = state_enlarger(target.open_file(MODEL_CARD).decode(), found.licence).encode()
    earlier = () if target.enlarger is None else target.enlarger.files + target.enlarger.int8_files
    change_bundle(target.folder, record, files, earlier)
    return [target.folder / name for name in names]


def enlarger_files(source: str | Path, side: int) -> EnlargerFiles:
    """The enlarger, for pictures of this side, of a run or its ``super_resolution.safetensors``, exported and compared
    with torch, or that of a bundle as it is."""
    if holds_super_resolution(source):
        return export_enlarger(Path(source), side)
    found = find_enlarger(source)
    bundle, held = found.bundle, found.bundle.licence
    if side != bundle.hr:
        raise ExportError(
            f"the enlarger of bundle {bundle.id} takes pictures of {bundle.hr}x{bundle.hr}, the bundle "
            f"restores {side}x{side}"
        )
    EnlargerSession(found.models, side)  # it loads
    if found.int8 and can_run_int8():
        EnlargerSession(found.int8, side, weights=found.models)
    weights, data = (str(held.get(part, "not stated")).rstrip(".") for part in ("weights", "data"))
    origin = f"{bundle.id} {bundle.version}"
    licence = held.get("enlarger", f"that of {origin}. Weights: {weights}. Data: {data}.")  # itself a copy, if it has
    training = {"part_of": origin, **found.training}  # itself a copy, if it says so
    return EnlargerFiles(found.models, training, f"those of {origin}", str(licence), found.int8)


@dataclass(frozen=True)
class BundledEnlarger:
    """The enlarger of a bundle: its ONNX files, one for each doubling, and how it was trained."""

    bundle: Manifest
    models: tuple[bytes, ...]
    training: dict[str, Any]
    int8: tuple[bytes, ...]

    def network(self) -> SuperResolution:
        """The network, its weights read back from the ONNX files; without doublings that the bundle lacks."""
        try:
            config = SuperResolutionConfig.from_dict(self.training["config"]["network"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"bundle {self.bundle.id} describes no network of an enlarger that this release knows ({error}); "
                "train it again"
            ) from error
        assert self.bundle.enlarger is not None  # see `find_enlarger`
        network = described_network(
            self.bundle.path(self.bundle.enlarger.files[0]), lambda: SuperResolution(config.cut(len(self.models)))
        )
        held = onnx.ModelProto()
        held.graph.initializer.extend(
            {
                tensor.name: tensor
                for model in self.models
                for tensor in onnx.load_model_from_string(model).graph.initializer
                if tensor.name.startswith("network.")
            }.values()
        )  # other constants belong to the ends
        load_parameters(Doublings(network), held)
        return network.eval()


def find_enlarger(bundle: str | Path) -> BundledEnlarger:
    """The enlarger of a bundle, given as `find_bundle` takes it."""
    try:
        manifest = load_manifest(find_bundle(bundle))
        if manifest.enlarger is None:
            raise BundleError(f"bundle {manifest.id} has no enlarger")
    except BundleError as error:
        raise BundleError(f"{bundle} is neither the run of an enlarger nor a bundle with one: {error}") from error
    models, int8 = (
        tuple(map(manifest.open_file, files)) for files in (manifest.enlarger.files, manifest.enlarger.int8_files)
    )
    return BundledEnlarger(manifest, models, dict(manifest.enlarger.training), int8)


def export_enlarger(source: Path, side: int) -> EnlargerFiles:
    """Export a trained network for the factors that it was trained for, and compare the graphs with torch."""
    network, training = load_super_resolution(source), read_training(source)
    config = training.get("config", {})
    if config.get("size", side) != side:
        raise ExportError(
            f"{source} was trained on pictures of {config['size']}x{config['size']}, the bundle restores {side}x{side}"
        )
    part = up_to_factor(network, config.get("factor", network.config.factors[-1]))
    round_weights(part, compact=True)
    models = enlarger_graphs(part, side)
    differing = compare_enlarger(models, part, compared_pictures(side))
    sizes = " and ".join(f"{len(model):,}" for model in models)
    return EnlargerFiles(
        models, training, f"{sizes} bytes; {1e6 * differing:.0f} of a million bytes differ from torch, by 1"
    )


class Doublings(nn.Module):
    """The network on levels; three outputs of each doubling: the picture without its grid, its values, and features."""

    def __init__(self, network: SuperResolution) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        steps = self.network.forward_steps(from_levels(picture))
        outputs = [output for step in steps for output in (to_levels(notch_filter(step.picture)), *step)]
        return tuple(outputs[:-2])  # nothing reads the last values and features


def up_to_factor(network: SuperResolution, factor: int) -> SuperResolution:
    """A copy of the network without the weights that only a larger factor needs."""
    network.require_factor(factor)
    part = SuperResolution(network.config.cut(network.config.factors.index(factor) + 1))
    kept = part.state_dict().keys()
    part.load_state_dict({name: tensor for name, tensor in network.state_dict().items() if name in kept})
    return part.eval()


def enlarger_graphs(
    network: SuperResolution, side: int, gains: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None
) -> tuple[bytes, ...]:
    """The ONNX files of a network, one for each doubling, for pictures of this side; ``gains`` as `store_compact`
    takes them."""
    steps = range(len(network.config.factors))
    pictures, values, features = ([f"{name}.{step}" for step in steps] for name in (ENLARGED, VALUES, FEATURES))
    outputs = [name for names in zip(pictures, values, features, strict=True) for name in names][:-2]
    whole = store_compact(decoder_graph(Doublings(network), side, outputs, levels=True), gains)
    files = []
    for step in steps:
        inputs = (
            {decoder_session.INPUT: PICTURE} if step == 0 else {values[step - 1]: VALUES, features[step - 1]: FEATURES}
        )
        results = {pictures[step]: ENLARGED}
        if step < steps[-1]:
            results |= {values[step]: VALUES, features[step]: FEATURES}
        part = onnx.utils.Extractor(whole).extract_model(list(inputs), list(results))
        rename_values(part, inputs | results)
        onnx.checker.check_model(part)
        files.append(bytes(part.SerializeToString()))
    return tuple(files)


def compare_enlarger(models: tuple[bytes, ...], network: SuperResolution, pictures: np.ndarray) -> float:
    """Share of bytes in which graphs differ from torch, by one level, on ``pictures``, uint8 ``[N, S, S, 3]``."""
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
    return differing / total


def compared_pictures(side: int) -> np.ndarray:
    """uint8 ``[N, side, side, 3]``: the pictures that ship with edgegrain, smooth colours, and noise."""
    shipped = [exact_resize(load_picture(path), (side, side)) for path in find_pictures()]
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return np.stack([*shipped, *smooth_pictures(1, side), noise])
