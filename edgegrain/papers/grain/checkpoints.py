"""GRAIN's checkpoints (cszzx/GRAIN): ``invRRDB_model.pt``, ``codeStyleGAN_model.pt`` and ``Fusion_model.pt``, and
rosinality's ``stylegan2-ffhq-config-f.pt`` for the mean code.

The first file holds the encoder and the invertible decoder, the second the code predictor and the generator.
A style block predicts two codes; because the authors reverse their list of codes as a whole, the second head makes the
earlier code. The fusion's output is the picture itself: nothing is added to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from torch import nn

from codec_contract.errors import BundleError, ModelError
from edge_encoder.encoder_session import EncoderSession
from edgegrain.papers.bundle_parts import compare_encoder, write_compared
from edgegrain.papers.convert import STORAGE, Names, Options, Report, TensorFile, TensorMap, count, fill, open_tensors
from edgegrain.papers.grain.rrdb_encoder import RRDBEncoder, encoder_config, rrdb_encoder
from edgegrain.papers.stylegan.checkpoints import ROSINALITY, complete, find_generator
from export.bundle.writer import COMPARED
from export.decoder import DecoderOptions, WeightStorage
from export.decoder.export import export_decoder
from export.encoder.onnx import onnx_model
from export.proof.inputs import smooth_pictures
from server_decoder.grain.code_predictor import CodesConfig
from server_decoder.grain.fusion import FusionConfig
from server_decoder.grain.grain import KIND, PRIOR, Grain, GrainConfig, PriorConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig, Scale
from server_decoder.stylegan2.networks import StyleGAN2, StyleGAN2Config
from server_decoder.weight_file import described_network

GENERATOR, MEAN_CODE = "decoder.", "latent_avg"
WRAPPERS = ("state_dict.", "state_dict1.", "state_dict2.", "state_dict3.")  # the numbered ones: of the last stage
_MEAN = "stylegan2-ffhq-config-f.pt"
_MARKS = {  # name of a file -> a tensor that it is told by
    "invRRDB_model.pt": "enc.conv_first.weight",
    "codeStyleGAN_model.pt": "encoder.styles.0.linear1.weight",
    "Fusion_model.pt": "se1.fc1.weight",
    _MEAN: MEAN_CODE,
}
_REMARK = (
    "The encoder is a float network: an LR byte may differ between runtimes. The decoder gets the LR that was sent, so "
    "nothing depends on it."
)
_TRUNK = re.compile(r"dec\.trunk_conv(\d+)\.weight")
_CODES: Names = {
    "codes.scales.#.halve.0.*": lambda side, end: f"encoder.styles.{_style(side)}.conv_first.0.{end}",
    "codes.scales.#.reduce.#.0.*": lambda side, index, end: f"encoder.styles.{_style(side)}.convs.{2 * index}.{end}",
    "codes.branches.#.#.0.*": lambda code, index, end: (
        f"encoder.styles.{code // 2}.convs{2 - code % 2}.{2 * index}.{end}"
    ),
    "codes.codes.#.*": lambda code, end: f"encoder.styles.{code // 2}.linear{2 - code % 2}.{end}",
}
_FUSION: Names = {
    "fusion.scales.#.attention.*": lambda index, end: f"se{index + 1}.{_attention(end)}",
    "fusion.scales.#.convs.*": lambda index, end: f"conv{index + 1}.{end}",
    "fusion.attention.*": lambda end: f"se4.{_attention(end)}",
    "fusion.head.*": "out.{0}",
}


def _style(side: int) -> int:
    return side.bit_length() - 3  # 32 -> 3: the first three are those of 4, 8 and 16


def _attention(end: str) -> str:
    return end.replace("squeeze", "fc1").replace("excite", "fc2")


def load_grain_checkpoint(paths: Sequence[Path]) -> tuple[RRDBEncoder, Grain, list[TensorMap]]:
    """Encoder and decoder, whose parts are in these files in any order; sizes follow from the tensors."""
    files = _sort(paths)
    invertible, codes, fusion = (files[kind] for kind in _MARKS if kind != _MEAN)
    mean = files.get(_MEAN)
    generator, bank, filters = find_generator(codes, ROSINALITY, PRIOR, GENERATOR)
    float_config, config = encoder_config(invertible, "enc."), _config(invertible, codes, fusion, generator)
    encoder = described_network(invertible.path, lambda: RRDBEncoder(float_config))
    model = described_network(codes.path, lambda: Grain(config))
    sides = [scale.size for scale in config.decoder.scales]
    last = 2 * fusion.count("out.{}.weight", 2) - 2  # of the fusion's convolutions: it makes the picture
    halves: Names = {
        "encoder.*": "enc.{0}",
        "decoder.scales.#.blocks.*": lambda index, end: f"dec.RRDB_trunk{sides[index]}.{end}",
        "decoder.scales.#.conv.*": lambda index, end: f"dec.trunk_conv{sides[index]}.{end}",
        "decoder.head.*": "dec.out.{0}",
        "decoder.*": "dec.{0}",
    }
    tensor_maps = [
        fill(nn.ModuleDict({"encoder": encoder, "decoder": model.decoder}), invertible, halves),
        fill(model, codes, {**_CODES, **bank}, filters),
        fill(model, fusion, {**_FUSION, "fusion.to_rgb.*": f"out.{last}.{{0}}"}),
    ]
    if mean is not None:
        tensor_maps.append(fill(model, mean, {f"{PRIOR}mean_code": MEAN_CODE}, ("",)))
    complete(cast(StyleGAN2, model.prior), PRIOR, *tensor_maps)
    return encoder.eval(), model.eval(), tensor_maps


def _sort(paths: Sequence[Path]) -> dict[str, TensorFile]:
    """The files by their names in `_MARKS`; only the last one may be missing."""
    files: dict[str, TensorFile] = {}
    for path in paths:
        source = open_tensors(path, WRAPPERS)
        kind = next((kind for kind, mark in _MARKS.items() if mark in source.tensors), None)
        if kind is None:
            known = ", ".join(f"{name} (with {mark!r})" for name, mark in _MARKS.items())
            raise ModelError(f"{path} is no file of GRAIN's: expected one of {known}")
        if kind in files:
            raise ModelError(f"{path} and {files[kind].path} are both a {kind}; give one of them")
        files[kind] = source
    if missing := [kind for kind in _MARKS if kind not in files and kind != _MEAN]:
        raise ModelError(f"GRAIN needs {', '.join(missing)} too; found {', '.join(str(path) for path in paths)}")
    return files


def _config(invertible: TensorFile, codes: TensorFile, fusion: TensorFile, prior: StyleGAN2Config) -> GrainConfig:
    sizes = tuple(sorted(int(match[1]) for name in invertible.tensors if (match := _TRUNK.fullmatch(name))))
    with invertible.reading("GRAIN"):
        scales, head = tuple(_scale(invertible, size) for size in sizes), invertible.widths("dec.out.{}.weight", 2)
        width, branch = invertible.dimension("dec.conv_first.weight", 0), "encoder.styles.0.convs1.{}.weight"
        widths = tuple(fusion.dimension(f"conv{stage}.0.weight", 0) for stage in (1, 2, 3))
        fusion_head = fusion.widths("out.{}.weight", 2)
        return GrainConfig(
            DecoderConfig(scales, head=head[:-1]),
            PriorConfig("stylegan2", prior),
            CodesConfig(width, codes.widths(branch, 2)),
            FusionConfig(base="none", sizes=sizes[-3:], widths=widths, head=fusion_head[:-1]),
        )


def _scale(source: TensorFile, size: int) -> Scale:
    trunk = f"dec.RRDB_trunk{size}"
    blocks, width = source.count(trunk + ".{}."), source.dimension("dec.conv_first.weight", 0)
    growth = source.dimension(f"{trunk}.0.RDB1.conv1.weight", 0)
    whole = f"{trunk}.0.RDB2.conv1.weight" in source.tensors  # three dense blocks, else the reduced one
    return Scale(size, width, rrdb=blocks if whole else 0, dense=0 if whole else blocks, growth=growth)


def convert(source: str, files: Sequence[Path], out: Path, options: Options) -> Report:
    """Write the bundle of the files."""
    rrdb, decoder, tensor_maps = load_grain_checkpoint(files)
    hr, lr = decoder.config.decoder.hr, decoder.config.decoder.lr
    if hr >> rrdb.config.scale != lr:
        raise BundleError(f"the encoder halves {hr} {rrdb.config.scale} times, but the decoder takes LRs of {lr}")
    encoder = rrdb_encoder(rrdb, hr)
    pictures = np.stack(smooth_pictures(COMPARED, hr))
    lrs = rrdb.encode(pictures)
    compare_encoder(EncoderSession(onnx_model(encoder.graph).SerializeToString()).encode, pictures, lrs)
    model = export_decoder(decoder, lr, DecoderOptions(WeightStorage.float16))  # rounds its weights
    summary, remarks = f"GRAIN as its authors trained it, {hr} x {hr} from {lr} x {lr}.", [_REMARK, STORAGE]
    fields = options.described(source, tensor_maps)
    fields |= {"architecture": decoder.config.as_dict(), "domain": options.domain}
    written = write_compared(out, KIND, encoder, decoder, model, lrs, summary, remarks, **fields)
    parameters = {"encoder": count(rrdb), "decoder": count(decoder)}
    return Report(source, str(out), parameters, tensor_maps, written.decoder)
