"""GLEAN's and GCFSR's checkpoints.

GLEAN (open-mmlab/mmagic, once mmediting, ``GLEANStyleGANv2``): ``glean_ffhq_16x_*.pth`` and others. The file holds the
whole restorer: ``generator.`` is GLEAN, ``generator.generator.`` its bank, a StyleGAN2 in the layout of mmagic.
``fusion_skip`` feeds the bank's own picture, which GLEAN does not return.

GCFSR (hejingwenhejingwen/GCFSR, ``GCFSR`` and ``GCFSR_blind``): ``gcfsr_1024.pth``, ``gcfsr_blind_512.pth``.
Convolutions leave their bias to the activation after them, which is the next part of a sequence. Conditions are listed
from fine to coarse: ``condition_scale1`` weighs generated features, ``condition_scale2`` encoded ones,
``condition_shift`` convolves the latter. The stored noise is that of a StyleGAN2 from 4 x 4 on and fits no layer here;
the authors' network draws new noise in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch

from codec_contract.errors import ModelError
from edgegrain.papers.convert import STORAGE, Names, Options, Report, TensorFile, TensorMap, count, fill, open_tensors
from edgegrain.papers.face_sr.bundle import write_bundle_of
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig
from edgegrain.papers.glean.network import BASE, GLEAN, GLEANConfig
from edgegrain.papers.stylegan.checkpoints import Layout, complete, find_generator, listed
from server_decoder.grain.grain import PRIOR, PriorConfig
from server_decoder.stylegan2.networks import StyleGAN2, StyleGAN2Config
from server_decoder.weight_file import described_network

BANK = "generator."
_MARK = "encoder.0.0.conv_first.weight"
_TRAINING = ("discriminator.", "perceptual_loss.", "pixel_loss.", "gan_loss.", "step_counter")
MMAGIC = Layout(  # of a StyleGAN2 generator
    "mmagic",
    ".kernel",
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
    optional=("mean_code",),
)


def _modulated(end: str) -> str:
    return {
        "weight": "conv.weight_orig",
        "modulation.weight": "conv.style_modulation.linear.weight_orig",
        "modulation.bias": "conv.style_modulation.bias",
    }[end]


def _glean_names(config: GLEANConfig) -> Names:
    """All but the bank's."""
    halvings = (config.lr // BASE).bit_length() - 1
    return {
        "features.*": lambda end: f"encoder.0.0.{end.replace('RDB', 'rdb')}",
        "head.*": "encoder.0.1.{0}",
        "down.#.*": lambda index, end: f"encoder.{index + 1}.{end}",
        "to_codes.*": f"encoder.{halvings + 1}.{{0}}",
        "fusions.#.conv.*": lambda side, end: f"fusion_out.{(side // BASE).bit_length() - 1}.{end}",
        "up.#.conv.*": "decoder.{0}.upsample_conv.{1}",
        "to_rgb.*": f"decoder.{len(config.sizes)}.{{0}}",
    }


def load_glean_checkpoint(path: Path) -> tuple[GLEAN, TensorMap]:
    """The network of a checkpoint; its sizes follow from the tensors."""
    source = _restorer(open_tensors(path, ("state_dict.",)))
    prior, bank, filters = find_generator(source, MMAGIC, PRIOR, BANK)
    config = _glean_config(source, prior)
    model = described_network(path, lambda: GLEAN(config))
    tensor_map = fill(model, source, {**bank, **_glean_names(config)}, ("fusion_skip.", *filters))
    complete(cast(StyleGAN2, model.prior), PRIOR, tensor_map)
    return model.eval(), tensor_map


def _restorer(whole: TensorFile) -> TensorFile:
    """GLEAN's own tensors, without those of the training."""
    if _MARK in whole.tensors:
        return whole
    unknown = sorted(whole.full_name(name) for name in whole.tensors if not name.startswith((BANK, *_TRAINING)))
    if unknown or f"{BANK}{_MARK}" not in whole.tensors:
        others = f"; unknown: {', '.join(unknown[:8])}" if unknown else ""
        raise ModelError(f"{whole.path} is no GLEAN of mmagic: expected {whole.full_name(BANK + _MARK)!r}{others}")
    return whole.under(BANK)


def _glean_config(source: TensorFile, prior: StyleGAN2Config) -> GLEANConfig:
    with source.reading("GLEAN"):
        return GLEANConfig(
            PriorConfig("stylegan2", prior),
            lr=BASE << max(source.count("encoder.{}.") - 2, 0),
            rrdb=source.count("encoder.0.0.body.{}."),
            width=source.dimension(_MARK, 0),
            growth=source.dimension("encoder.0.0.body.0.rdb1.conv1.weight", 0),
            head=source.dimension(f"decoder.{source.count('decoder.{}.') - 1}.0.weight", 0),
            widest=prior.channel_max,
        )


COARSEST = 16  # side of the coarsest features, fixed in the authors' code


def _gcfsr_names(levels: int) -> Names:
    return {
        "first.conv.weight": "conv_body_first.0.weight",
        "first.conv.bias": "conv_body_first.1.bias",
        "down.#.conv.weight": "conv_body_down.{0}.1.weight",  # 0 is a filter
        "down.#.conv.bias": "conv_body_down.{0}.2.bias",
        "constant.conv.weight": "final_conv.0.weight",
        "constant.conv.bias": "final_conv.1.bias",
        "to_codes.#.conv.weight": lambda index: f"final_down{index + 1}.1.weight",
        "to_codes.#.conv.bias": lambda index: f"final_down{index + 1}.2.bias",
        "codes.*": "final_linear.{0}",
        "modulations.#.conv.*": lambda level, end: f"condition_shift.{levels - 1 - level}.0.{end}",
        "modulations.#.encoded.*": lambda level, end: f"condition_scale2.{levels - 1 - level}.{end}",
        "modulations.#.generated.*": lambda level, end: f"condition_scale1.{levels - 1 - level}.{end}",
        "layers.#.noise_strength": lambda index: f"{listed('style_conv', index)}.weight",
        "layers.#.bias": lambda index: f"{listed('style_conv', index)}.activate.bias",
        "layers.#.conv.*": lambda index, end: f"{listed('style_conv', index)}.modulated_conv.{end}",
        "to_rgb.#.bias": lambda level: f"{listed('to_rgb', level)}.bias",
        "to_rgb.#.conv.*": lambda level, end: f"{listed('to_rgb', level)}.modulated_conv.{end}",
    }


def load_gcfsr_checkpoint(path: Path) -> tuple[GCFSR, TensorMap]:
    """The network of a checkpoint; its sizes, and whether it is the blind form, follow from the tensors."""
    source = open_tensors(path, ("params_ema.", "params.", "state_dict."))
    config = _gcfsr_config(source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = described_network(path, lambda: GCFSR(config))
    names = _gcfsr_names(len(config.levels))
    tensor_map = fill(network, source, names, ("noises.",))  # which are of other sizes than ours
    return network.eval(), tensor_map


def _gcfsr_config(source: TensorFile) -> GCFSRConfig:
    size = COARSEST << source.count("conv_body_down.{}.")
    layers = "conv_body_first.0", "final_conv.0", "final_down1.1", "final_down2.1"
    finest, coarsest, widest, last = (source.dimension(f"{layer}.weight", 0) for layer in layers)
    width, blind = source.dimension("style_conv1.modulated_conv.modulation.weight", 1), last == widest
    with source.reading("GCFSR"):
        # The codes come from half of the widest layers' channels, in the blind form from all of them.
        channels = size * finest, max(coarsest, widest)
        return GCFSRConfig(size, COARSEST, *channels, width, last, blind=blind, signed=True, rounded=True)


def convert(source: str, files: Sequence[Path], out: Path, options: Options) -> Report:
    """Write the bundle of a checkpoint."""
    network, tensor_map = (load_glean_checkpoint if source == "glean" else load_gcfsr_checkpoint)(files[0])
    parameters = {"network": count(network)}
    if isinstance(network, GLEAN):
        parameters = {"network": count(network) - count(network.prior), "prior": count(network.prior)}
    softer = ["The network was trained on bicubic reductions."] if options.reduction != "bicubic" else []
    fields = {"remarks": [*softer, STORAGE], "domain": options.domain, **options.described(source, [tensor_map])}
    written = write_bundle_of(network, out, options.reduction, options.lr, **fields)
    return Report(source, str(out), parameters, [tensor_map], written.decoder)
