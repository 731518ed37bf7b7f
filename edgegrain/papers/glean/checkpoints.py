"""GLEAN's checkpoints (open-mmlab/mmagic, once mmediting, ``GLEANStyleGANv2``): ``glean_ffhq_16x_*.pth`` and others.

The file holds the whole restorer: ``generator.`` is GLEAN, ``generator.generator.`` its bank, a StyleGAN2 in the layout
of mmagic. ``fusion_skip`` feeds the bank's own picture, which GLEAN does not return.
"""

from __future__ import annotations

from pathlib import Path

from codec_contract.errors import ModelError
from edgegrain.papers.glean.network import BASE, GLEAN, GLEANConfig
from edgegrain.papers.stylegan.checkpoints import FILTER, Layout, translate_generator
from edgegrain.papers.tensor_map import TensorFile, TensorMap, file_sha256, fill, open_tensors, place
from server_decoder.grain.grain import PriorConfig
from server_decoder.stylegan2.networks import StyleGAN2Config

BANK = "generator."
_UNUSED = {"fusion_skip.": "changes only the bank's own picture, which is not used"}
_TRAINING = ("discriminator.", "perceptual_loss.", "pixel_loss.", "gan_loss.", "step_counter")
_MEAN_CODE = "the mean of mapped codes, which GLEAN does not use"


def load_glean_checkpoint(path: Path) -> tuple[GLEAN, TensorMap]:
    """The network of a checkpoint; its sizes follow from the tensors."""
    whole = open_tensors(path, ("state_dict.",))
    source = _restorer(whole)
    bank = {name.removeprefix(BANK): tensor for name, tensor in source.tensors.items() if name.startswith(BANK)}
    prior, prior_state, used = translate_generator(bank, MMAGIC, str(path))
    config = _config(source, prior)
    model = GLEAN(config)
    fill(model.prior, prior_state)
    own = TensorFile(path, source.prefix, {name: tensor for name, tensor in source.tensors.items()
                                           if not name.startswith(BANK)})
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("prior.")}
    placed = place(own, wanted, lambda ours: _theirs(ours, config), unused=_UNUSED)
    fill(model, placed.state)
    names = {**placed.names, **{source.full_name(BANK + theirs): f"prior.{ours}" for theirs, ours in used.items()}}
    filters = {source.full_name(BANK + name): FILTER for name in bank if name not in used}
    made = {f"prior.{name}": _MEAN_CODE for name in prior_state if name not in used.values()}
    unused = {**source.unused, **placed.unused, **filters}
    return model.eval(), TensorMap(path.name, file_sha256(path), names, unused, made)


def _restorer(whole: TensorFile) -> TensorFile:
    """GLEAN's own tensors, without those of the training."""
    marker = "encoder.0.0.conv_first.weight"
    if marker in whole.tensors:
        return whole
    prefix = "generator."
    unused = {whole.full_name(name): "of the training" for name in whole.tensors if name.startswith(_TRAINING)}
    unknown = sorted(whole.full_name(name) for name in whole.tensors
                     if not name.startswith((prefix, *_TRAINING)))
    if unknown or prefix + marker not in whole.tensors:
        raise ModelError(f"{whole.path} is no GLEAN of mmagic: expected {whole.full_name(prefix + marker)!r}"
                         + (f"; unknown: {', '.join(unknown[:8])}" if unknown else ""))
    tensors = {name.removeprefix(prefix): tensor for name, tensor in whole.tensors.items() if name.startswith(prefix)}
    return TensorFile(whole.path, whole.prefix + prefix, tensors, {**whole.unused, **unused})


def _config(source: TensorFile, prior: StyleGAN2Config) -> GLEANConfig:
    encoder = source.count("encoder.{}.")
    ups = source.count("decoder.{}.")
    try:
        return GLEANConfig(
            PriorConfig("stylegan2", prior), lr=BASE << max(encoder - 2, 0),
            rrdb=source.count("encoder.0.0.body.{}."), width=source.dimension("encoder.0.0.conv_first.weight", 0),
            growth=source.dimension("encoder.0.0.body.0.rdb1.conv1.weight", 0),
            head=source.dimension(f"decoder.{ups - 1}.0.weight", 0), widest=prior.channel_max)
    except ValueError as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{source.path} is no GLEAN: {error}") from error


def _theirs(ours: str, config: GLEANConfig) -> str | None:
    part, _, rest = ours.partition(".")
    halvings = (config.lr // BASE).bit_length() - 1
    match part:
        case "features":
            return f"encoder.0.0.{rest.replace('RDB', 'rdb')}"
        case "head":
            return f"encoder.0.1.{rest}"
        case "down":
            index, _, inner = rest.partition(".")
            return f"encoder.{int(index) + 1}.{inner}"
        case "to_codes":
            return f"encoder.{halvings + 1}.{rest}"
        case "fusions":
            side, _, inner = rest.partition(".conv.")
            return f"fusion_out.{(int(side) // BASE).bit_length() - 1}.{inner}"
        case "up":
            return f"decoder.{rest.replace('.conv.', '.upsample_conv.')}"
        case "to_rgb":
            return f"decoder.{(config.prior.size // config.lr).bit_length() - 1}.{rest}"
    return None


def _names_of_mmagic(config: StyleGAN2Config) -> dict[str, str]:
    # Weights at equalized learning rate are called weight_orig; "weight" is computed from them.
    names = {"mean_code": "w_avg", "constant": "constant_input.input"}
    for index in range(config.mapping_layers):
        ours, theirs = f"mapping.layers.{index}", f"style_mapping.{index + 1}"  # 0 is the normalization
        names |= {f"{ours}.weight": f"{theirs}.linear.weight_orig", f"{ours}.bias": f"{theirs}.bias"}
    for index in range(len(config.layer_resolutions)):
        ours, theirs = f"layers.{index}", f"convs.{index - 1}" if index else "conv1"
        names |= {**_modulated(ours, theirs), f"{ours}.noise_strength": f"{theirs}.noise_injector.weight",
                  f"{ours}.noise": f"injected_noise_{index}", f"{ours}.bias": f"{theirs}.activate.bias"}
    for index in range(len(config.resolutions)):
        ours, theirs = f"to_rgb.{index}", f"to_rgbs.{index - 1}" if index else "to_rgb1"
        names |= {**_modulated(ours, theirs), f"{ours}.bias": f"{theirs}.bias"}
    return names


def _modulated(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.conv.weight": f"{theirs}.conv.weight_orig",
            f"{ours}.conv.modulation.weight": f"{theirs}.conv.style_modulation.linear.weight_orig",
            f"{ours}.conv.modulation.bias": f"{theirs}.conv.style_modulation.bias"}


def _no_discriminator(config: StyleGAN2Config) -> dict[str, str]:
    return {}


MMAGIC = Layout("mmagic", _names_of_mmagic, _no_discriminator, ("",), (), ".kernel", optional=("w_avg",))
"""A StyleGAN2 generator in mmagic; `translate_generator` takes it."""
