"""GRAIN's decoder ([GRAIN] 3.2-3.4, Fig. 2): LR -> invertible picture and f_inv -> codes -> f_gen -> fused picture.

The ablations of [GRAIN] Table 2 are configurations of the same class: without a prior it is the invertible decoder
alone; without fusion its picture is the generator's (codes only, from all scales or from one); fusion of the two
pictures is the image-level fusion. `PRESETS`, at the end, names the paper's models, ablations and edgegrain's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from codec_contract.errors import ModelError
from server_decoder import mobile_stylegan as mobile
from server_decoder import weight_file
from server_decoder.generative_prior import GenerativePrior, Synthesis, Window, prior_digest
from server_decoder.grain import rrdb_decoder as rrdb
from server_decoder.grain.code_predictor import CodePredictor, CodesConfig
from server_decoder.grain.fusion import FeatureFusion, FusionConfig, PictureFusion
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale, tuples
from server_decoder.mobile_stylegan import MobileStyleGAN, MobileStyleGANConfig
from server_decoder.stylegan2.networks import CONFIG_F_1024, TINY_64, StyleGAN2, StyleGAN2Config
from server_decoder.weight_file import WeightKind, described_network, fill, read_record, read_weights, save_network


@dataclass(frozen=True)
class PriorConfig:
    """A generator's kind, ``"stylegan2"`` or ``"mobile-stylegan"``, and sizes.

    The weights of a ``compact`` one are rounded to those of a compact export (`export.decoder.graph.round_weights`), so
    that the rest learns with the generator that ships. `export.decoder.export.described_prior` loads it.
    """

    kind: str
    network: StyleGAN2Config | MobileStyleGANConfig
    compact: bool = False

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> PriorConfig:
        """The configuration that ``dataclasses.asdict`` wrote."""
        networks: dict[str, Any] = {"stylegan2": StyleGAN2Config, "mobile-stylegan": MobileStyleGANConfig}
        if (kind := fields["kind"]) not in networks:
            raise ValueError(f"unknown prior {kind!r}; expected one of {', '.join(networks)}")
        return cls(kind, networks[kind](**fields["network"]), bool(fields.get("compact", False)))

    @property
    def size(self) -> int:
        return self.network.size

    @property
    def code_resolutions(self) -> tuple[int, ...]:
        return self.network.code_resolutions

    def build(self) -> GenerativePrior:
        return StyleGAN2(self.network) if isinstance(self.network, StyleGAN2Config) else MobileStyleGAN(self.network)


KIND = "grain"
PRIOR = "prior."
"""Prefix of the frozen generator's weights in a state dict."""


@dataclass(frozen=True)
class GrainConfig:
    """The parts of a GRAIN model."""

    decoder: DecoderConfig  # the invertible one
    prior: PriorConfig | None = None  # the frozen generator; None for the invertible decoder alone
    codes: CodesConfig | None = None  # the code predictor; None exactly if there is no prior
    fusion: FusionConfig | None = None  # None for the generator's picture alone (codes only)

    def __post_init__(self) -> None:
        if (self.prior is None) != (self.codes is None):
            raise ValueError("a prior needs a code predictor, and a code predictor a prior")
        if self.prior is None and self.fusion is not None:
            raise ValueError("there is nothing to fuse without a prior")
        if self.prior is not None and self.prior.size != self.decoder.hr:
            raise ValueError(
                f"the decoder makes pictures of {self.decoder.hr}x{self.decoder.hr}, the prior of "
                f"{self.prior.size}x{self.prior.size}; cut the prior or choose another"
            )
        if self.fusion is not None and self.fusion.kind == "features" and self.fusion.sizes[-1] != self.decoder.hr:
            raise ValueError(f"the finest fusion must be at {self.decoder.hr}, it is at {self.fusion.sizes[-1]}")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back. ``kind`` distinguishes them from other decoders'."""
        return {"kind": KIND, **asdict(self)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The configuration that `as_dict` (or ``dataclasses.asdict``) described."""
        prior, codes, fusion = fields["prior"], fields["codes"], fields["fusion"]
        return cls(
            DecoderConfig.from_dict(fields["decoder"]),
            PriorConfig.from_dict(prior) if prior else None,
            CodesConfig(**tuples(codes)) if codes else None,
            FusionConfig(**tuples(fusion)) if fusion else None,
        )

    @property
    def variant(self) -> str:
        """``"full"``, ``"invertible only"``, ``"codes only"`` or ``"image-level fusion"``."""
        if self.prior is None:
            return "invertible only"
        if self.fusion is None:
            return "codes only"
        return "full" if self.fusion.kind == "features" else "image-level fusion"


class GrainOutput(NamedTuple):
    """All outputs of a forward pass; those that a variant lacks are None or empty. Pictures are ``[B, 3, S, S]`` in
    about [-1, 1]."""

    invertible: Tensor  # the RRDB decoder's picture
    style: Tensor | None  # the generator's picture
    final: Tensor  # the restored picture
    codes: Tensor | None  # in W+, [B, L, code_width]
    f_inv: list[Tensor]  # coarse to fine
    f_gen: dict[int, Tensor]  # by resolution


class Grain(nn.Module):
    """LR ``[B, 3, h, w]`` in [-1, 1] -> picture. The generator inside stays frozen in training."""

    def __init__(self, config: GrainConfig, prior: GenerativePrior | None = None) -> None:
        """Random weights, except for the given ``prior``."""
        super().__init__()
        self.config = config
        self.decoder = RRDBDecoder(config.decoder)
        self.prior = _checked(prior, config.prior)
        self.codes: CodePredictor | None = None
        self.fusion: FeatureFusion | PictureFusion | None = None
        if self.prior is None or config.codes is None:
            return
        own = self.prior.requires_grad_(False).eval()
        f_inv, f_gen = {scale.size: scale.channels for scale in config.decoder.scales}, own.feature_channels
        self.codes = CodePredictor(config.codes, f_inv, own.code_resolutions, own.code_width, f_gen)
        if config.fusion is not None and config.fusion.kind == "features":
            self.fusion = FeatureFusion(config.fusion, f_inv, f_gen)
        elif config.fusion is not None:
            self.fusion = PictureFusion(config.fusion)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but the generator stays in evaluation mode ([GRAIN] 3.5: fixed all the time)."""
        super().train(mode)
        if self.prior is not None:
            self.prior.eval()
        return self

    def trained_state(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(PRIOR)}

    def forward_all(self, lr: Tensor, prior_gain: float = 1.0, step: Tensor | None = None) -> GrainOutput:
        """Every picture and feature on the way; ``lr`` and ``step`` are those of `RRDBDecoder.forward_features`.

        ``prior_gain`` is a factor on the generator's features or picture in the fusion; 0 leaves the prior out. If the
        base is the generator's picture, it is interpolated to the invertible one.
        """
        invertible, f_inv = self.decoder.forward_features(lr, step)
        if self.prior is None:
            return GrainOutput(invertible, None, invertible, None, f_inv, {})
        codes, (style, f_gen) = self.generate(f_inv)
        if self.fusion is None:
            return GrainOutput(invertible, style, style, codes, f_inv, f_gen)
        used = {size: f_gen[size] for size in self.fusion.config.sizes if size in f_gen}
        faded, from_style = style, style
        if prior_gain != 1:
            used = {size: prior_gain * feature for size, feature in used.items()}
            faded, from_style = prior_gain * style, torch.lerp(invertible, style, prior_gain)
        base = {"invertible": invertible, "style": from_style, "none": 0.0}[self.fusion.config.base]
        inputs = (f_inv, used) if isinstance(self.fusion, FeatureFusion) else (invertible, faded)
        return GrainOutput(invertible, style, base + self.fusion(*inputs), codes, f_inv, f_gen)

    def generate(self, f_inv: Sequence[Tensor], window: Window | None = None) -> tuple[Tensor, Synthesis]:
        """Invertible features, coarse to fine -> codes ``[B, L, code_width]`` and the generator's output for them.

        ``window``: the part of the picture that is wanted, as for `GenerativePrior.forward`.
        """
        if self.prior is None or self.codes is None:
            raise ModelError(f"this model ({self.config.variant}) has no generator")
        codes = self.prior.mean_code + self.codes(f_inv)
        return codes, self.prior(codes, None, self.codes.predict_offsets(f_inv), window)

    def forward(self, lr: Tensor, step: Tensor | None = None) -> Tensor:
        return self.forward_all(lr, step=step).final


def _checked(prior: GenerativePrior | None, config: PriorConfig | None) -> GenerativePrior | None:
    if config is None:
        if prior is not None:
            raise ModelError("this configuration has no prior, one was given")
        return None
    if prior is None:
        return config.build()
    if prior.size != config.size or prior.code_resolutions != config.code_resolutions:
        raise ModelError(
            f"the configuration describes a prior of {config.size}x{config.size} with {len(config.code_resolutions)} "
            f"codes, the one given has {prior.size}x{prior.size} and {prior.code_count} codes"
        )
    return prior


# Weight files hold everything that was trained, without the frozen prior. If codes and fusion were trained around the
# frozen decoder of a bundle, the file may leave that decoder out and name the bundle.
_KIND = WeightKind("trained GRAIN model", "grain", GrainConfig.from_dict)
_HISTORY = "history"
_KEPT = "decoder_of"
_PRIOR_DIGEST = "prior_sha256"
_DECODER = "decoder."

History = Sequence[Mapping[str, Any]]
"""The stages that made the weights, ``{"stage": ..., "pictures": ...}`` each."""


@dataclass(frozen=True)
class KeptDecoder:
    """The invertible decoder of a bundle, which codes and fusion were trained around."""

    bundle: str  # its id
    version: str
    sha256: str  # of its decoder's file, in hex


def save_trained(
    model: Grain,
    path: str | Path,
    *,
    history: History = (),
    kept: KeptDecoder | None = None,
    dtype: torch.dtype = torch.float16,
    compact: bool = False,
    force: bool = False,
) -> Path:
    """Write everything that was trained; the prior, which readers have or can download, is left out, but named by its
    digest. The weights of a ``kept`` decoder are left out too."""
    records: dict[str, Any] = {_HISTORY: list(history)}
    state = model.trained_state()
    if model.prior is not None:
        records[_PRIOR_DIGEST] = prior_digest(model.prior)
    if kept is not None:
        records[_KEPT] = asdict(kept)
        state = {name: tensor for name, tensor in state.items() if not name.startswith(_DECODER)}
    config = model.config.as_dict()
    return save_network(path, _KIND, config, state, records=records, dtype=dtype, compact=compact, force=force)


def read_config(path: str | Path) -> GrainConfig:
    """The configuration in a file's header."""
    return weight_file.read_config(path, _KIND)


def read_history(path: str | Path) -> tuple[dict[str, Any], ...]:
    """The stages in a file's header; none if it has no such entry."""
    return tuple(read_record(path, _KIND, _HISTORY, []))


def read_kept(path: str | Path) -> KeptDecoder | None:
    """The bundle whose invertible decoder a file leaves out; None if the file has its own."""
    with _KIND.reading(path):
        record = read_record(path, _KIND, _KEPT, None)
        return None if record is None else KeptDecoder(**record)


def load_trained(path: str | Path, prior: GenerativePrior | None = None, decoder: RRDBDecoder | None = None) -> Grain:
    """The model whose weights `save_trained` wrote, around a generator; ``decoder`` for files that leave it out."""
    config = read_config(path)
    try:
        model = described_network(path, lambda: Grain(config, prior))
    except ValueError as error:
        raise ModelError(f"{path} describes a model whose parts do not fit: {error}") from error
    kept = read_kept(path)
    if kept is not None and decoder is None:
        raise ModelError(f"{path} needs the invertible decoder of bundle {kept.bundle} {kept.version}")
    wanted = read_record(path, _KIND, _PRIOR_DIGEST, None)  # files of edgegrain 0.6 and earlier do not name it
    if wanted is not None and prior is not None and prior_digest(prior) != wanted:
        raise ModelError(f"{path} was trained with another generator, with the digest {wanted[:16]}; name it (--prior)")
    state = read_weights(path, _KIND)
    if kept is not None and decoder is not None:
        state |= {_DECODER + name: tensor for name, tensor in decoder.state_dict().items()}
    fill(model, state, path, without=PRIOR)
    return model.eval()


def paper_model(lr: int) -> GrainConfig:
    """The paper's model from an LR of 16, 32, 64 or 128 to 1024x1024 ([GRAIN] 3.2-3.4 and Table 4).

    The paper gives the depths for 16x16; larger LRs skip the scales below theirs.
    """
    scales = rrdb.PAPER_1024_LR16.scales
    sizes = [scale.size for scale in scales]
    if lr not in sizes[:4]:
        raise ValueError(f"the paper's LRs are {sizes[:4]}, got {lr}")
    decoder = replace(rrdb.PAPER_1024_LR16, scales=scales[sizes.index(lr) :])
    return GrainConfig(decoder, PriorConfig("stylegan2", CONFIG_F_1024), CodesConfig(), FusionConfig())


_PAPER = paper_model(16)

# One LR of 768 values steers this generator's 13 codes, so the predictor is narrow, and codes of one resolution share a
# branch. f_gen has up to 512 channels, f_inv no more than 72 where the two are fused: the projection balances that and
# keeps the fusion under 3 GMAC. After some thousand pictures the generator's picture has overtaken the invertible one.
_CODES = CodesConfig((48, 40, 32, 24, 16), (48, 64, 80, 96), "resolution", offsets=(8, 16, 32, 64))
_FUSION_256 = FusionConfig(base="style", sizes=(64, 128, 256), widths=(32, 24, 16), head=(24, 24), project=(32, 24, 16))


def _faces(decoder: DecoderConfig) -> GrainConfig:
    """A bundle of faces: the light generator, cut to 256 x 256, around a decoder."""
    codes = replace(_CODES, widths=(48, 40, 32, 24, 16)[: len(decoder.scales)])
    prior = PriorConfig("mobile-stylegan", mobile.MOBILE_STYLEGAN_256, compact=True)
    return GrainConfig(decoder, prior, codes, _FUSION_256)


_FACES_256_LR16 = _faces(rrdb.FACES_256_LR16)

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
    "grain-1024-lr16-mobile": replace(_PAPER, prior=PriorConfig("mobile-stylegan", mobile.MOBILE_STYLEGAN_1024)),
    "grain-256-lr16": _FACES_256_LR16,
    "grain-256-lr16-codes-only-single-scale": replace(
        _FACES_256_LR16, codes=replace(_CODES, source="coarsest", offsets=()), fusion=None
    ),
    "grain-256-lr16-image-fusion": replace(_FACES_256_LR16, fusion=replace(_FUSION_256, kind="pictures")),
    "grain-256-lr32": _faces(rrdb.FACES_256_LR32),
    "grain-smoke": GrainConfig(_SMOKE_DECODER, PriorConfig("stylegan2", TINY_64), _SMOKE_CODES, _SMOKE_FUSION),
    "grain-smoke-mobile": GrainConfig(
        _SMOKE_DECODER,
        PriorConfig("mobile-stylegan", MobileStyleGANConfig(64, "rgb", 512, 32, code_width=32, mapping_layers=2)),
        replace(_SMOKE_CODES, offsets=(8, 16)),
        replace(_SMOKE_FUSION, project=(12, 8, 8)),
    ),
}
"""Name -> configuration."""
