"""Parameters and multiply-accumulate operations of every architecture, by part.

Networks are built on torch's meta device, which computes shapes only. Operations are those of restoring, encoding or
discriminating one picture: convolutions and matrix products, one MAC per multiplication. A generator's mapping network
counts among its parameters but not among the operations, because codes come from the code predictor. IRN's network
counts in both directions, for 256 x 256 pixels. GLEAN without its bank, and a whole GCFSR, are one part each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from codec_contract.bundle.find import DEFAULT_BUNDLE, find_bundle
from codec_contract.bundle.manifest import ENLARGEMENTS, Manifest, load_manifest
from edge_encoder.twin import HR_SIZES, LR_SIZES, EncoderTwin, encoder_config, lower
from edgegrain.papers.gcfsr.network import GCFSR, GCFSRConfig
from edgegrain.papers.gcfsr.network import PRESETS as GCFSR_PRESETS
from edgegrain.papers.glean.network import GLEAN, GLEANConfig
from edgegrain.papers.glean.network import PRESETS as GLEAN_PRESETS
from edgegrain.papers.grain.rrdb_encoder import FloatEncoderConfig, RRDBEncoder
from edgegrain.papers.irn.network import IRN, IRNConfig
from edgegrain.papers.irn.network import PRESETS as IRN_PRESETS
from edgegrain.training.adversarial import Discriminator
from export.encoder.graph import exact_graph
from server_decoder.grain import rrdb_decoder as rrdb
from server_decoder.grain.code_predictor import CodePredictor, CodesConfig
from server_decoder.grain.fusion import FeatureFusion, FusionConfig, PictureFusion
from server_decoder.grain.grain import PRESETS, GrainConfig, PriorConfig, paper_model
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder
from server_decoder.mobile_stylegan import MOBILE_STYLEGAN_256, MOBILE_STYLEGAN_1024
from server_decoder.stylegan2.networks import CONFIG_F_256, CONFIG_F_1024
from server_decoder.super_resolution import SuperResolution, SuperResolutionConfig

WITHOUT_ENCODER = "grain-1024-lr16-without-invertible-encoder"  # [GRAIN] Table 2: the LR is the area mean
IRN_SIDE = 256  # of the picture for which IRN's operations are counted
DECODERS = {
    "rrdb-1024-lr16-paper": rrdb.PAPER_1024_LR16,
    "rrdb-256-lr16": rrdb.FACES_256_LR16,
    "rrdb-256-lr16-fine": rrdb.FACES_256_LR16_FINE,
    "rrdb-256-lr16-slim": rrdb.FACES_256_LR16_SLIM,
    "rrdb-256-lr16-deep": rrdb.FACES_256_LR16_DEEP,
    "rrdb-256-lr32-fine": rrdb.FACES_256_LR32_FINE,
    "rrdb-256-lr64-fine": rrdb.FACES_256_LR64_FINE,
}
PRIORS = {
    "stylegan2-1024": PriorConfig("stylegan2", CONFIG_F_1024),
    "stylegan2-256": PriorConfig("stylegan2", CONFIG_F_256),
    "mobile-stylegan-1024": PriorConfig("mobile-stylegan", MOBILE_STYLEGAN_1024),
    "mobile-stylegan-256": PriorConfig("mobile-stylegan", MOBILE_STYLEGAN_256),
}


class Part(NamedTuple):
    """Parameters of a part of a model, and its MACs for one picture."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Model:
    """One architecture configuration, by its name in presets and commands.

    ``parts``: ``encoder``, ``decoder``, ``code_predictor``, ``fusion``, ``prior``, ``enlarger``, ``discriminator``, if
    they exist; or ``rescaler``, one network that is encoder and decoder; or ``network``, all except a prior.
    """

    name: str
    parts: dict[str, Part]

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts.values())

    @property
    def macs(self) -> int:
        return sum(part.macs for part in self.parts.values())

    def as_dict(self) -> dict[str, Any]:
        """Totals and parts as plain JSON values."""
        parameters = {name: part.parameters for name, part in self.parts.items()}
        macs = {name: part.macs for name, part in self.parts.items()}
        totals = {"name": self.name, "parameters": self.parameters, "macs": self.macs}
        return {**totals, "parameters_by_part": parameters, "macs_by_part": macs}


def models() -> list[Model]:
    """All models, the default bundle's first, then GRAIN's."""
    discriminator = _measure(lambda: Discriminator(CONFIG_F_1024), (3, 1024, 1024))
    return [
        *bundle_models(load_manifest(find_bundle(DEFAULT_BUNDLE))),
        *(grain_model(name, config) for name, config in PRESETS.items()),
        grain_model(WITHOUT_ENCODER, paper_model(16)),
        *(irn_model(name, config) for name, config in IRN_PRESETS.items()),
        *(glean_model(name, config) for name, config in GLEAN_PRESETS.items()),
        *(gcfsr_model(name, config) for name, config in GCFSR_PRESETS.items()),
        *(super_resolution_model(factor) for factor in ENLARGEMENTS),
        *(Model(name, {"decoder": _decoder(config)}) for name, config in DECODERS.items()),
        *(Model(name, {"prior": _prior(config)}) for name, config in PRIORS.items()),
        *(Model(f"rrdb-encoder-1024-lr{lr}", {"encoder": _rrdb_encoder(1024, lr)}) for lr in LR_SIZES),
        *(Model(f"exact-encoder-{hr}-lr{lr}", {"encoder": _exact(hr, lr)}) for hr in HR_SIZES for lr in LR_SIZES),
        Model("stylegan2-discriminator-1024", {"discriminator": discriminator}),
    ]


def bundle_models(manifest: Manifest) -> list[Model]:
    """Encoder, decoder and enlarger of a GRAIN bundle without generator."""
    parts = {
        "encoder": Part(manifest.encoder["parameters"], manifest.encoder["flops"] // 2),
        "decoder": _decoder(DecoderConfig.from_dict(manifest.decoder["architecture"])),
    }
    if manifest.enlarger is not None:
        network = SuperResolutionConfig.from_dict(manifest.enlarger.training["config"]["network"])
        picture = (3, manifest.hr, manifest.hr)
        for factor in manifest.enlarger.factors:
            parts[f"enlarger-x{factor}"] = _measure(lambda: SuperResolution(network), picture, factor)
    return [Model(f"{manifest.id}-{name}", {name.partition("-")[0]: part}) for name, part in parts.items()]


def grain_model(name: str, config: GrainConfig) -> Model:
    """The model of a GRAIN configuration with its encoder: the paper's for the paper's decoder, else the exact one."""
    hr, lr, parts = config.decoder.hr, config.decoder.lr, dict[str, Part]()
    if name != WITHOUT_ENCODER and config.decoder.upsampling == "nearest":
        parts["encoder"] = _rrdb_encoder(hr, lr)
    elif name != WITHOUT_ENCODER and hr in HR_SIZES and lr in LR_SIZES:
        parts["encoder"] = _exact(hr, lr)
    parts["decoder"] = _decoder(config.decoder)
    if config.prior is not None and config.codes is not None:
        parts |= _around_prior(config.codes, config.fusion, config.decoder, config.prior)
        parts["prior"] = _prior(config.prior)
    return Model(name, parts)


def irn_model(name: str, config: IRNConfig) -> Model:
    """The model of an IRN configuration; its MACs are those of downscaling and upscaling one picture."""
    side = IRN_SIDE // config.factor * config.factor
    return Model(name, {"rescaler": _measure(lambda: _BothDirections(config), (3, side, side))})


def glean_model(name: str, config: GLEANConfig) -> Model:
    """The model of a GLEAN configuration: the bank, and the encoder and decoder around it."""
    whole, prior = _measure(lambda: GLEAN(config), (3, config.lr, config.lr)), _prior(config.prior)
    return Model(name, {"network": Part(whole.parameters - prior.parameters, whole.macs - prior.macs), "prior": prior})


def gcfsr_model(name: str, config: GCFSRConfig) -> Model:
    """The model of a GCFSR configuration."""
    return Model(name, {"network": _measure(lambda: GCFSR(config), (3, config.size, config.size), ())})


def super_resolution_model(factor: int) -> Model:
    """The model that makes a restored picture of 256 x 256 ``factor`` times as large; both factors share weights."""
    return Model(f"super-resolution-256-x{factor}", {"network": _measure(SuperResolution, (3, 256, 256), factor)})


@cache
def _rrdb_encoder(hr: int, lr: int) -> Part:
    return _measure(lambda: RRDBEncoder(FloatEncoderConfig(scale=(hr // lr).bit_length() - 1)), (3, hr, hr))


@cache
def _exact(hr: int, lr: int) -> Part:
    graph = exact_graph(lower(EncoderTwin(encoder_config(hr, lr))))
    return Part(graph.parameters(), graph.flops() // 2)


@cache
def _decoder(config: DecoderConfig) -> Part:
    return _measure(lambda: RRDBDecoder(config), (3, config.lr, config.lr))


@cache
def _prior(config: PriorConfig) -> Part:
    return _measure(config.build, (len(config.code_resolutions), config.network.code_width))


@cache
def _around_prior(
    codes: CodesConfig, fusion: FusionConfig | None, decoder: DecoderConfig, prior: PriorConfig
) -> dict[str, Part]:
    """Code predictor and fusion."""
    f_inv = {scale.size: scale.channels for scale in decoder.scales}
    f_gen = {size: prior.network.channels(size) for size in prior.network.resolutions}
    inverted, generated = (
        {size: torch.empty(1, channels, size, size, device="meta") for size, channels in features.items()}
        for features in (f_inv, f_gen)
    )
    shapes = prior.code_resolutions, prior.network.code_width
    parts = {"code_predictor": _measure(lambda: _Codes(codes, f_inv, *shapes, f_gen), [*inverted.values()])}
    if fusion is not None and fusion.kind == "pictures":
        parts["fusion"] = _measure(lambda: PictureFusion(fusion), *[(3, decoder.hr, decoder.hr)] * 2)
    elif fusion is not None:
        parts["fusion"] = _measure(lambda: FeatureFusion(fusion, f_inv, f_gen), [*inverted.values()], generated)
    return parts


class _BothDirections(IRN):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.inverse(*super().forward(x))


class _Codes(CodePredictor):
    def forward(self, features: Sequence[Tensor]) -> Tensor:
        self.predict_offsets(features)
        return super().forward(features)


@torch.no_grad()
def _measure(build: Callable[[], nn.Module], *inputs: Any) -> Part:
    """Count a module run on ``inputs``: shapes without the batch become tensors, anything else is passed unchanged."""
    with torch.device("meta"):
        module = build().requires_grad_(False)  # the counter's hooks need a gradient function otherwise
    given = [torch.empty(1, *item, device="meta") if isinstance(item, tuple) else item for item in inputs]
    counter = FlopCounterMode(display=False)
    with counter:
        module(*given)
    return Part(sum(parameter.numel() for parameter in module.parameters()), counter.get_total_flops() // 2)
