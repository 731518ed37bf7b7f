"""GRAIN's configurations by name: the paper's models, ablations, edgegrain's bundles, and tiny ones for smoke tests."""

from __future__ import annotations

from dataclasses import replace

from server_decoder.grain.code_predictor import CodesConfig
from server_decoder.grain.fusion import FusionConfig
from server_decoder.grain.grain import GrainConfig, PriorConfig
from server_decoder.grain.rrdb_decoder import (
    FACES_256_LR16,
    FACES_256_LR32,
    FACES_512_LR32,
    FACES_1024_LR16,
    FACES_1024_LR32,
    PAPER_1024_LR16,
    DecoderConfig,
    Scale,
)
from server_decoder.mobile_stylegan import (
    MOBILE_STYLEGAN_256,
    MOBILE_STYLEGAN_512,
    MOBILE_STYLEGAN_1024,
    MobileStyleGANConfig,
)
from server_decoder.stylegan2.networks import CONFIG_F_1024, TINY_64

STYLEGAN2_1024 = PriorConfig("stylegan2", CONFIG_F_1024)


def paper_model(lr: int) -> GrainConfig:
    """The paper's model from an LR of 16, 32, 64 or 128 to 1024x1024 ([GRAIN] 3.2-3.4 and Table 4).

    The paper gives the depths for 16x16; larger LRs skip the scales below theirs.
    """
    scales = PAPER_1024_LR16.scales
    sizes = [scale.size for scale in scales]
    if lr not in sizes[:4]:
        raise ValueError(f"the paper's LRs are {sizes[:4]}, got {lr}")
    decoder = replace(PAPER_1024_LR16, scales=scales[sizes.index(lr):])
    return GrainConfig(decoder, STYLEGAN2_1024, CodesConfig(), FusionConfig())


_PAPER = paper_model(16)

# One LR of 768 values steers this generator's 13 codes, so the predictor is narrow, and codes of one resolution share a
# branch. f_gen has up to 512 channels, f_inv no more than 72 where the two are fused: the projection balances that and
# keeps the fusion under 3 GMAC. After some thousand pictures the generator's picture has overtaken the invertible one.
_CODES = CodesConfig(widths=(48, 40, 32, 24, 16), branch=(48, 64, 80, 96), branch_per="resolution",
                     offsets=(8, 16, 32, 64))
_FUSION_256 = FusionConfig(
    base="style", sizes=(64, 128, 256), widths=(32, 24, 16), head=(24, 24), project=(32, 24, 16))
# The generator's features end at 512; at 1024 the fusion uses f_inv and the upsampled features.
_FUSION_1024 = FusionConfig(
    base="style", sizes=(256, 512, 1024), widths=(24, 16, 8), head=(16, 16), project=(24, 16, 8))


def _faces(decoder: DecoderConfig, prior: MobileStyleGANConfig, fusion: FusionConfig) -> GrainConfig:
    """A bundle of faces: the light generator, cut to the picture's size, around a decoder."""
    codes = replace(_CODES, widths=(48, 40, 32, 24, 16, 16, 16)[:len(decoder.scales)])
    return GrainConfig(decoder, PriorConfig("mobile-stylegan", prior, compact=True), codes, fusion)


_FACES_256_LR16 = _faces(FACES_256_LR16, MOBILE_STYLEGAN_256, _FUSION_256)

_SMOKE_DECODER = DecoderConfig((Scale(16, 24, residual=1), Scale(32, 16, residual=1), Scale(64, 8)), "subpixel", ())
_SMOKE_CODES = CodesConfig(widths=(16, 12, 8), branch=(16, 16, 24, 32), branch_per="resolution")
_SMOKE_FUSION = FusionConfig(sizes=(16, 32, 64), widths=(12, 8, 8), head=(16,))

PRESETS: dict[str, GrainConfig] = {
    **{f"grain-1024-lr{lr}-paper": paper_model(lr) for lr in (16, 32, 64, 128)},
    # [GRAIN] Table 2; "w/o Invertible Encoder" is the whole decoder for LRs of another encoder, the area mean.
    "grain-1024-lr16-invertible-only": replace(_PAPER, prior=None, codes=None, fusion=None),
    "grain-1024-lr16-codes-only": replace(_PAPER, fusion=None),
    "grain-1024-lr16-codes-only-single-scale": replace(_PAPER, codes=CodesConfig(source="coarsest"), fusion=None),
    "grain-1024-lr16-image-fusion": replace(_PAPER, fusion=FusionConfig(kind="pictures")),
    # The paper's decoder around the light generator, which has 16 codes and no features at 1024x1024.
    "grain-1024-lr16-mobile": replace(_PAPER, prior=PriorConfig("mobile-stylegan", MOBILE_STYLEGAN_1024)),
    "grain-256-lr16": _FACES_256_LR16,
    "grain-256-lr16-codes-only-single-scale": replace(
        _FACES_256_LR16, codes=replace(_CODES, source="coarsest", offsets=()), fusion=None),
    "grain-256-lr16-image-fusion": replace(_FACES_256_LR16, fusion=replace(_FUSION_256, kind="pictures")),
    "grain-256-lr32": _faces(FACES_256_LR32, MOBILE_STYLEGAN_256, _FUSION_256),
    "grain-512-lr32": _faces(FACES_512_LR32, MOBILE_STYLEGAN_512, replace(_FUSION_256, sizes=(128, 256, 512))),
    "grain-1024-lr32": _faces(FACES_1024_LR32, MOBILE_STYLEGAN_1024, _FUSION_1024),
    "grain-1024-lr16": _faces(FACES_1024_LR16, MOBILE_STYLEGAN_1024, _FUSION_1024),
    "grain-smoke": GrainConfig(_SMOKE_DECODER, PriorConfig("stylegan2", TINY_64), _SMOKE_CODES, _SMOKE_FUSION),
    "grain-smoke-mobile": GrainConfig(
        _SMOKE_DECODER,
        PriorConfig("mobile-stylegan", MobileStyleGANConfig(64, "rgb", 512, 32, code_width=32, mapping_layers=2)),
        replace(_SMOKE_CODES, offsets=(8, 16)), replace(_SMOKE_FUSION, project=(12, 8, 8))),
}
"""Name -> configuration."""
