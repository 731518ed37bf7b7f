"""GLEAN's checkpoints (open-mmlab/mmagic, once mmediting, ``GLEANStyleGANv2``): ``glean_ffhq_16x_*.pth`` and others.

The file holds the whole restorer: ``generator.`` is GLEAN, ``generator.generator.`` its bank, a StyleGAN2 in the layout
of mmagic. ``fusion_skip`` feeds the bank's own picture, which GLEAN does not return.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from codec_contract.errors import ModelError
from edgegrain.papers.convert import (
    ConversionOptions,
    ConversionReport,
    Names,
    TensorFile,
    TensorMap,
    count,
    fill,
    listed,
    open_tensors,
)
from edgegrain.papers.face_sr.bundle import write_converted
from edgegrain.papers.glean.network import BASE, GLEAN, GLEANConfig
from edgegrain.papers.stylegan.checkpoints import Layout, complete, find_generator
from server_decoder.grain.grain import PRIOR, PriorConfig
from server_decoder.stylegan2.networks import StyleGAN2, StyleGAN2Config
from server_decoder.weight_file import described_network

BANK = "generator."
_MARK = "encoder.0.0.conv_first.weight"
_UNUSED = {"fusion_skip.": "changes only the bank's own picture, which is not used"}
_TRAINING = ("discriminator.", "perceptual_loss.", "pixel_loss.", "gan_loss.", "step_counter")
MMAGIC = Layout(
    "mmagic",
    {  # weights at equalized learning rate are called weight_orig; "weight" is computed from them
        "mean_code": "w_avg",
        "constant": "constant_input.input",
        "mapping.layers.#.weight": lambda index: f"style_mapping.{index + 1}.linear.weight_orig",
        "mapping.layers.#.bias": lambda index: f"style_mapping.{index + 1}.bias",  # 0 is the normalization
        "layers.#.noise": "injected_noise_{0}",
        "layers.#.noise_strength": lambda index: f"{listed('conv', index)}.noise_injector.weight",
        "layers.#.bias": lambda index: f"{listed('conv', index)}.activate.bias",
        "layers.#.conv.*": lambda index, end: f"{listed('conv', index)}.{_modulated(end)}",
        "to_rgb.#.bias": lambda index: f"{listed('to_rgb', index)}.bias",
        "to_rgb.#.conv.*": lambda index, end: f"{listed('to_rgb', index)}.{_modulated(end)}",
    },
    lambda size: {}, ("",), (), ".kernel", optional=("mean_code",))
"""A StyleGAN2 generator in mmagic."""


def _modulated(end: str) -> str:
    return {"weight": "conv.weight_orig", "modulation.weight": "conv.style_modulation.linear.weight_orig",
            "modulation.bias": "conv.style_modulation.bias"}[end]


def _names(config: GLEANConfig) -> Names:
    """All but the bank's."""
    halvings = (config.lr // BASE).bit_length() - 1
    doublings = (config.prior.size // config.lr).bit_length() - 1
    return {
        "features.*": lambda end: f"encoder.0.0.{end.replace('RDB', 'rdb')}",
        "head.*": "encoder.0.1.{0}",
        "down.#.*": lambda index, end: f"encoder.{index + 1}.{end}",
        "to_codes.*": f"encoder.{halvings + 1}.{{0}}",
        "fusions.#.conv.*": lambda side, end: f"fusion_out.{(side // BASE).bit_length() - 1}.{end}",
        "up.#.conv.*": "decoder.{0}.upsample_conv.{1}",
        "to_rgb.*": f"decoder.{doublings}.{{0}}",
    }


def load_glean_checkpoint(path: Path) -> tuple[GLEAN, TensorMap]:
    """The network of a checkpoint; its sizes follow from the tensors."""
    source = _restorer(open_tensors(path, ("state_dict.",)))
    prior, bank, filters = find_generator(source, MMAGIC, PRIOR, BANK)
    config = _config(source, prior)
    model = described_network(path, lambda: GLEAN(config))
    tensor_map = fill(model, source, {**bank, **_names(config)}, unused={**_UNUSED, **filters},
                      made={"mean_code": "the mean of mapped codes, which GLEAN does not use"})
    complete(cast(StyleGAN2, model.prior), PRIOR, tensor_map)
    return model.eval(), tensor_map


def _restorer(whole: TensorFile) -> TensorFile:
    """GLEAN's own tensors, without those of the training."""
    if _MARK in whole.tensors:
        return whole
    unknown = sorted(whole.full_name(name) for name in whole.tensors
                     if not name.startswith(("generator.", *_TRAINING)))
    if unknown or f"generator.{_MARK}" not in whole.tensors:
        raise ModelError(f"{whole.path} is no GLEAN of mmagic: expected {whole.full_name(f'generator.{_MARK}')!r}"
                         + (f"; unknown: {', '.join(unknown[:8])}" if unknown else ""))
    return whole.under("generator.", {
        whole.full_name(name): "of the training" for name in whole.tensors if name.startswith(_TRAINING)})


def _config(source: TensorFile, prior: StyleGAN2Config) -> GLEANConfig:
    with source.reading("GLEAN"):
        return GLEANConfig(
            PriorConfig("stylegan2", prior), lr=BASE << max(source.count("encoder.{}.") - 2, 0),
            rrdb=source.count("encoder.0.0.body.{}."), width=source.dimension(_MARK, 0),
            growth=source.dimension("encoder.0.0.body.0.rdb1.conv1.weight", 0),
            head=source.dimension(f"decoder.{source.count('decoder.{}.') - 1}.0.weight", 0), widest=prior.channel_max)


def convert(source: str, files: Sequence[Path], out: Path, options: ConversionOptions) -> ConversionReport:
    """Write the bundle of a checkpoint."""
    network, tensor_map = load_glean_checkpoint(files[0])
    parameters = {"network": count(network) - count(network.prior), "prior": count(network.prior)}
    comparison = write_converted(network, tensor_map, out, options)
    return ConversionReport(source, str(out), parameters, [tensor_map], comparison)
