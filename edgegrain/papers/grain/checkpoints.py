"""GRAIN's checkpoints (cszzx/GRAIN): ``invRRDB_model.pt``, ``codeStyleGAN_model.pt`` and ``Fusion_model.pt``, and
rosinality's ``stylegan2-ffhq-config-f.pt`` for the mean code.

The first file holds the encoder and the invertible decoder, the second the code predictor and the generator.
A style block predicts two codes; because the authors reverse their list of codes as a whole, the second head makes the
earlier code. The fusion's output is the picture itself: nothing is added to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from codec_contract.errors import ModelError
from edgegrain.papers.grain.rrdb_encoder import RRDBEncoder, encoder_config
from edgegrain.papers.stylegan.checkpoints import FILTER, ROSINALITY, translate_generator
from edgegrain.papers.tensor_map import TensorFile, TensorMap, file_sha256, fill, open_tensors, place
from server_decoder.grain.code_predictor import CodesConfig
from server_decoder.grain.fusion import FusionConfig
from server_decoder.grain.grain import PRIOR, Grain, GrainConfig, PriorConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig, Scale
from server_decoder.stylegan2.networks import StyleGAN2Config

GENERATOR, MEAN_CODE = "decoder.", "latent_avg"
WRAPPERS = ("state_dict.", "state_dict1.", "state_dict2.", "state_dict3.")
"""Prefixes in the files of the authors' training; the numbered ones belong to the last stage."""
_MARKS = {"invertible": "enc.conv_first.weight", "codes": "encoder.styles.0.linear1.weight", "fusion": "se1.fc1.weight",
          "mean code": MEAN_CODE}
_FILES = {"invertible": "invRRDB_model.pt", "codes": "codeStyleGAN_model.pt", "fusion": "Fusion_model.pt",
          "mean code": "stylegan2-ffhq-config-f.pt"}
_MEASURED = "the mean of 10,000 mapped codes; the authors take latent_avg of the generator's file: add it to the files"
_MEAN_ALONE = "the generator in codeStyleGAN's file is used"
_TRUNK = re.compile(r"dec\.trunk_conv(\d+)\.weight")


@dataclass(frozen=True)
class GrainCheckpoint:
    """The authors' model.

    Attributes:
        encoder: runs on the phone.
        decoder: runs on the server.
        tensor_maps: one for every file.
    """

    encoder: RRDBEncoder
    decoder: Grain
    tensor_maps: tuple[TensorMap, ...]


def load_grain_checkpoint(paths: Sequence[Path]) -> GrainCheckpoint:
    """The model whose parts are in these files, in any order; sizes follow from the tensors."""
    files = _sort(paths)
    invertible, codes, fusion = (files[kind] for kind in ("invertible", "codes", "fusion"))
    out = fusion.count("out.{}.weight", 2)
    encoder = RRDBEncoder(encoder_config(invertible, "enc."))
    generator = {name.removeprefix(GENERATOR): tensor for name, tensor in codes.tensors.items()
                 if name.startswith(GENERATOR)}
    mean = files.get("mean code")
    if mean is not None:
        generator[MEAN_CODE] = mean.tensors[MEAN_CODE]
    prior, prior_state, used = translate_generator(generator, ROSINALITY, str(codes.path))
    model = Grain(_config(invertible, codes, fusion, prior))
    scales = [scale.size for scale in model.config.decoder.scales]
    enc, dec = _split(invertible, "enc.", "dec.")
    own, _ = _split(codes, "encoder.", GENERATOR)
    encoded = place(enc, encoder.state_dict(), lambda ours: ours, prefix="encoder.")
    decoded = place(dec, _part(model, "decoder."), lambda ours: _decoder_name(ours, scales), prefix="decoder.")
    coded = place(own, _part(model, "codes."), _codes_name, prefix="codes.")
    fused = place(fusion, _part(model, "fusion."), lambda ours: _fusion_name(ours, out), prefix="fusion.")
    fill(encoder, encoded.state)
    fill(model, {prefix + name: tensor for prefix, state in (
        ("decoder.", decoded.state), ("codes.", coded.state), ("fusion.", fused.state), (PRIOR, prior_state))
        for name, tensor in state.items()})

    bank = {codes.full_name(GENERATOR + theirs): PRIOR + ours for theirs, ours in used.items()
            if mean is None or theirs != MEAN_CODE}
    filters = {codes.full_name(GENERATOR + name): FILTER for name in generator if name not in used}
    made = {} if mean is not None else {"prior.mean_code": _MEASURED}
    tensor_maps = [
        TensorMap(invertible.path.name, file_sha256(invertible.path), {**encoded.names, **decoded.names},
                  invertible.unused),
        TensorMap(codes.path.name, file_sha256(codes.path), {**coded.names, **bank}, {**codes.unused, **filters}, made),
        TensorMap(fusion.path.name, file_sha256(fusion.path), fused.names, fusion.unused)]
    if mean is not None:
        rest = {name: _MEAN_ALONE for name in mean.tensors if name != MEAN_CODE}
        tensor_maps.append(TensorMap(mean.path.name, file_sha256(mean.path), {MEAN_CODE: "prior.mean_code"}, rest))
    return GrainCheckpoint(encoder.eval(), model.eval(), tuple(tensor_maps))


def _part(model: Grain, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in model.state_dict().items() if name.startswith(prefix)}


def _sort(paths: Sequence[Path]) -> dict[str, TensorFile]:
    files: dict[str, TensorFile] = {}
    for path in paths:
        source = open_tensors(path, WRAPPERS)
        kind = next((kind for kind, mark in _MARKS.items() if mark in source.tensors), None)
        if kind is None:
            raise ModelError(f"{path} is no file of GRAIN's: expected one of "
                             f"{', '.join(f'{_FILES[kind]} (with {mark!r})' for kind, mark in _MARKS.items())}")
        if kind in files:
            raise ModelError(f"{path} and {files[kind].path} are both a {_FILES[kind]}; give one of them")
        files[kind] = source
    missing = [name for kind, name in _FILES.items() if kind not in files and kind != "mean code"]
    if missing:
        raise ModelError(f"GRAIN needs {', '.join(missing)} too; found {', '.join(str(path) for path in paths)}")
    return files


def _split(source: TensorFile, *prefixes: str) -> tuple[TensorFile, ...]:
    """The file's parts, every tensor in one of them."""
    unknown = sorted(source.full_name(name) for name in source.tensors if not name.startswith(prefixes))
    if unknown:
        raise ModelError(f"{source.path} does not fit its layout: {len(unknown)} unknown ({', '.join(unknown[:8])})")
    return tuple(
        TensorFile(source.path, source.prefix + prefix, {
            name.removeprefix(prefix): tensor for name, tensor in source.tensors.items() if name.startswith(prefix)})
        for prefix in prefixes)


def _config(invertible: TensorFile, codes: TensorFile, fusion: TensorFile, prior: StyleGAN2Config) -> GrainConfig:
    sizes = sorted(int(match[1]) for name in invertible.tensors if (match := _TRUNK.fullmatch(name)))
    stages, out = 3, fusion.count("out.{}.weight", 2)
    branch = tuple(codes.dimension(f"encoder.styles.0.convs1.{2 * index}.weight", 0)
                   for index in range(codes.count("encoder.styles.0.convs1.{}.weight", 2)))
    try:
        return GrainConfig(
            DecoderConfig(tuple(_scale(invertible, size) for size in sizes), head=tuple(
                invertible.dimension(f"dec.out.{2 * index}.weight", 0)
                for index in range(invertible.count("dec.out.{}.weight", 2) - 1))),
            PriorConfig("stylegan2", prior),
            CodesConfig(invertible.dimension("dec.conv_first.weight", 0), branch),
            FusionConfig(base="none", sizes=tuple(sizes[-stages:]),
                         widths=tuple(fusion.dimension(f"conv{index + 1}.0.weight", 0) for index in range(stages)),
                         head=tuple(fusion.dimension(f"out.{2 * index}.weight", 0) for index in range(out - 1))))
    except ValueError as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{invertible.path}, {codes.path} and {fusion.path} do not fit together: {error}") from error


def _scale(source: TensorFile, size: int) -> Scale:
    trunk = f"dec.RRDB_trunk{size}"
    blocks = source.count(trunk + ".{}.")
    whole = f"{trunk}.0.RDB2.conv1.weight" in source.tensors  # three dense blocks, else the reduced one
    return Scale(size, source.dimension("dec.conv_first.weight", 0), rrdb=blocks if whole else 0,
                 dense=0 if whole else blocks, growth=source.dimension(f"{trunk}.0.RDB1.conv1.weight", 0))


def _decoder_name(ours: str, sizes: Sequence[int]) -> str:
    part, _, rest = ours.partition(".")
    if part == "scales":
        index, kind, inner = rest.split(".", 2)
        return f"{'RRDB_trunk' if kind == 'blocks' else 'trunk_conv'}{sizes[int(index)]}.{inner}"
    return f"out.{rest}" if part == "head" else ours


def _codes_name(ours: str) -> str:
    part, index, *inner = ours.split(".")
    ending = inner[-1]
    if part == "scales":
        style = int(index).bit_length() - 3  # 32 -> 3: the first three are those of 4, 8 and 16
        first = inner[0] == "halve"
        return f"styles.{style}.{'conv_first.0' if first else f'convs.{2 * int(inner[1])}'}.{ending}"
    style, head = int(index) // 2, 2 - int(index) % 2
    if part == "branches":
        return f"styles.{style}.convs{head}.{2 * int(inner[0])}.{ending}"
    return f"styles.{style}.linear{head}.{ending}"


def _fusion_name(ours: str, out: int) -> str:
    name = ours.replace("squeeze", "fc1").replace("excite", "fc2")
    name = re.sub(r"^scales\.(\d+)\.(attention|convs)", lambda match: (
        f"{'se' if match[2] == 'attention' else 'conv'}{int(match[1]) + 1}"), name)
    name = re.sub("^attention", "se4", name)
    return re.sub("^to_rgb", f"out.{2 * out - 2}", re.sub("^head", "out", name))
