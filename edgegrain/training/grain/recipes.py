"""Configuration of GRAIN's stages ([GRAIN] 3.5), and the recipes by name.

Stage 1 trains encoder and decoder, stage 2 the code predictor on what the decoder gives it, stage 3 the fusion, the
final stage all of them. The generator stays frozen throughout. Recipes named ``...-paper`` have the weights of [GRAIN]
supplementary 1 and, where the paper leaves gaps, the figures of the authors' public code (batch, learning rates, steps
between the discriminator's updates). The others are ours: they learn in hours on two CPU cores. docs/training.md lists
the deviations, experiments/2026-11.md has the measurements behind them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import nn

from codec_contract.lr_coder.coder_tables import MAX_STEP
from edge_encoder.twin import EncoderConfig, encoder_config
from edgegrain.training.adversarial import PROJECTED, AdversarialConfig, DiscriminatorConfig
from edgegrain.training.losses import GRID_PERIOD, PAPER, LossWeights
from edgegrain.training.optimizers import WEIGHT_DECAY
from edgegrain.training.recipe import RestorationRecipe, check
from export import papers
from server_decoder.grain import rrdb_decoder as shapes
from server_decoder.grain.grain import PRESETS, GrainConfig, PriorConfig
from server_decoder.grain.rrdb_decoder import DecoderConfig
from server_decoder.stylegan2.networks import CONFIG_F_1024

# The picture that a stage's losses compare: y_inv, y_style or y_final ([GRAIN] 3.5 (1)).
OUTPUTS = {"1": "invertible", "2": "style", "3": "final", "final": "final"}
PARTS = ("encoder", "decoder", "codes", "fusion")
REACHED = {"1": PARTS[:2], "2": PARTS[:3], "3": PARTS, "final": PARTS}  # what a stage's output depends on
FACES = "faces"  # the domain of the published generator, and the only one whose pictures have an identity


@dataclass(frozen=True)
class RRDBEncoderConfig:
    """The paper's float encoder (`edgegrain.papers.grain`); the defaults are the paper's for 1024 -> 16.

    Attributes:
        hr: side of the square input, in pixels.
        lr: side of the square output, in pixels: ``hr`` halved once or more.
        width: feature channels everywhere.
        growth: channels that every convolution of a dense block adds.
        rrdb: RRDBs at LR size.
    """

    hr: int
    lr: int
    width: int = 64
    growth: int = 32
    rrdb: int = 10

    def __post_init__(self) -> None:
        halves = self.halvings > 0 and self.lr << self.halvings == self.hr
        check((halves, f"the RRDB encoder halves sides: {self.hr} -> {self.lr} is not possible"))

    @property
    def halvings(self) -> int:
        return (self.hr // self.lr).bit_length() - 1

    def build(self) -> nn.Module:
        """The encoder with random weights."""
        return papers.load("grain.rrdb_encoder:TrainedRRDBEncoder")(self)


@dataclass(frozen=True, kw_only=True)
class GrainRecipe(RestorationRecipe):
    """The recipe of a run. Synthetic pictures are no originals to the discriminator, because generators leave faint
    patterns.

    Attributes:
        stage: ``"1"``, ``"2"``, ``"3"`` or ``"final"``.
        trains: the parts that are trained: ``"encoder"``, ``"decoder"``, ``"codes"``, ``"fusion"``.
        encoder: the exact encoder, or the paper's RRDB network.
        decoder: the invertible decoder alone (stage 1), or all of GRAIN.
        grows: True to keep the shape of ``decoder`` and grow a trained one into it, or leave out its last blocks, and
            to keep that of ``encoder`` if it is trained; False to take the shapes of the trained ones.
        correction: False trains the control of [GRAIN] Table 2, "without invertible encoder": LR = box mean, no learned
            correction.
        lr_step: step of the LR's levels in payloads (`codec_contract.lr_coder.coder_tables`): the decoder gets levels
            rounded to multiples of it, and a trained encoder a straight-through gradient.
        lr_steps: other steps, of which every batch draws one; only the decoder's branches for them are trained; ()
            for none.
        target_bytes: expected bytes of an LR, as in the validation's ``lr_bytes``, to which ``loss.rate`` is steered
            (`edgegrain.training.grain.rate.RateTarget`); 0 for the size that the weight leads to.
        adversarial: the adversarial loss, or None.
        synthetic: part of every batch that comes from the prior, with known codes.
        window: in stage 2, the side in pixels of the window that most steps generate and compare: the generator's fine
            layers, which take two thirds of its time, are computed there only. The losses of identity and of eyes and
            mouth need whole pictures and count in the other steps. 0 for whole pictures.
        identity_from: part of the run after which the identity loss joins.
        noise_until: part of the run during which uniform noise replaces rounding ([GRAIN] 3.2); afterwards the LR is
            rounded with a straight-through gradient, so that the decoder ends on rounded LRs. A frozen encoder always
            rounds.
        jitter: True to shift and recolour real pictures a little every time, against overfitting to a few pictures
            (`edgegrain.training.data`).
        domain: content of the pictures, such as ``"faces"``.
    """

    stage: str = "1"
    trains: tuple[str, ...] = ("encoder", "decoder")
    encoder: EncoderConfig | RRDBEncoderConfig = field(default_factory=lambda: encoder_config(256, 16))
    decoder: DecoderConfig | GrainConfig = shapes.FACES_256_LR16
    grows: bool = False
    correction: bool = True
    lr_step: int = 1
    lr_steps: tuple[int, ...] = ()
    loss: LossWeights = LossWeights()
    target_bytes: float = 0.0
    adversarial: AdversarialConfig | None = None
    synthetic: float = 0.0
    window: int = 0
    learning_rate: float = 6e-4
    warm_up: int = 200
    hold: float = 0.6
    identity_from: float = 0.4
    noise_until: float = 0.6
    ema: float = 0.998
    jitter: bool = False
    clip_gradient: float = 1.0
    domain: str = FACES
    bf16: ClassVar[bool] = True
    weight_decay: ClassVar[float] = WEIGHT_DECAY

    def __post_init__(self) -> None:
        super().__post_init__()
        stage, trains, loss, mix, side = self.stage, self.trains, self.loss, self.synthetic, self.window
        check((stage in OUTPUTS, f"unknown stage {stage!r}; expected one of {', '.join(OUTPUTS)}"))
        reached, grain = REACHED[stage], isinstance(self.decoder, GrainConfig)
        fits = set(trains) <= set(reached)
        depends = f"the picture of stage {stage} depends on {', '.join(reached)}"
        cuts = 0 < side <= self.encoder.hr and side % GRID_PERIOD == 0
        mixes = mix in (0, 1) or self.batch > 1
        learns = "encoder" in trains and self.correction
        check(
            (bool(trains) and fits, f"{depends}; trains names some of these, got {list(trains)}"),
            (grain == (stage != "1"), "stage 1 trains a decoder alone, the others a GrainConfig"),
            (not self.grows or not grain, "only an invertible decoder that is trained alone can grow"),
            (0 <= mix <= 1, f"synthetic is a part of the batch, 0...1, got {mix}"),
            (mixes, f"synthetic={mix} mixes a batch, of 2 pictures at least; set it to 0 or 1, or a larger batch"),
            (not side or stage == "2", f"only stage 2 trains on windows; stage {stage} needs window=0"),
            (not side or cuts, f"window is a multiple of {GRID_PERIOD}, at most {self.encoder.hr}, got {side}"),
            (not loss.codes or mix > 0, "loss.codes needs codes of synthetic pictures, and there are none; make it 0"),
            (not self.lr_steps or trains == ("decoder",), "lr_steps are for runs that train the decoder alone"),
            (not loss.rate or learns, "loss.rate is for runs that train an encoder, named in trains, with correction"),
            (not self.target_bytes or bool(loss.rate), "loss.rate is steered to target_bytes; set it above 0"),
        )
        for step in (self.lr_step, *self.lr_steps):
            check((1 <= step <= MAX_STEP, f"lr_step is 1...{MAX_STEP}, got {step}"))

    @property
    def prior(self) -> PriorConfig | None:
        return self.decoder.prior if isinstance(self.decoder, GrainConfig) else None

    @property
    def invertible(self) -> DecoderConfig:
        """The shape of the invertible decoder, alone or in GRAIN."""
        return self.decoder.decoder if isinstance(self.decoder, GrainConfig) else self.decoder

    @property
    def output(self) -> str:
        """The picture that is trained and evaluated: ``"invertible"``, ``"style"`` or ``"final"``."""
        return OUTPUTS[self.stage]

    @property
    def synthetic_count(self) -> int:
        """Synthetic pictures in a batch; with ``synthetic`` between 0 and 1 at least one of both kinds."""
        if self.synthetic in (0, 1):
            return round(self.synthetic) * self.batch
        return min(max(1, round(self.synthetic * self.batch)), self.batch - 1)


# Ours for faces. With twice this rate of Muon and identity at 0.1, LPIPS stopped falling (experiments/2026-11.md).
# LPIPS is computed at random offsets: bundles up to 0.4.0 learned a texture that LPIPS mistakes for detail at one phase
# of its grid only.
_STAGE1 = GrainRecipe(loss=LossWeights(identity=0.02), learning_rate=3e-4, muon=3.0, noise_until=0.8, lpips_shift=0.5)
# The picture of predicted codes never equals the original, so perceptual similarity weighs more than pixels; for
# pictures of the prior itself the true codes are the better target.
_STAGE2 = GrainRecipe(
    stage="2",
    trains=("codes",),
    decoder=PRESETS["grain-256-lr16"],
    loss=LossWeights(l1=0.5, lpips=0.5, identity=0.1, lr=0.0, codes=0.1),
    synthetic=0.25,
    batch=4,
    learning_rate=6e-4,
    muon=3.0,
    warm_up=100,
    hold=0.5,
    identity_from=0.2,
    ema=0.99,
    lpips_shift=0.5,
)
# Losses on what people look at: eyes, mouth, texture. The generator's Haar transforms leave grids of 2 and 4 pixels.
_FINE_LOSS = LossWeights(region_gain=3.0, lpips=1.0, regions=0.3, identity=0.1)
_STAGE2_FINE = replace(
    _STAGE2,
    loss=replace(_FINE_LOSS, lr=0.0, grid=2.0),
    synthetic=0.0,
    identity_from=0.0,
    lpips_shift=1.0,
    adversarial=PROJECTED,
    window=128,
    ema=0.998,
    jitter=True,
)
# The larger decoder, grown from a published one, whose encoder stays.
_FINE = replace(
    _STAGE1,
    trains=("decoder",),
    decoder=shapes.FACES_256_LR16_FINE,
    grows=True,
    batch=4,
    learning_rate=2e-4,
    muon=0.0,
    loss=_FINE_LOSS,
    identity_from=0.0,
    lpips_shift=1.0,
    adversarial=PROJECTED,
    ema=0.999,
    jitter=True,
)
_AT_ONCE = replace(PROJECTED, begins=0.0, ratio=0.12)
# Encoder and larger decoder together. The rate loss makes LRs pale; the loss of their saturation keeps the colours.
_FINE_ON = replace(
    _FINE,
    trains=("encoder", "decoder"),
    grows=False,
    loss=replace(_FINE_LOSS, lr=0.0, lr_l2=1.0, lr_saturation=0.2, rate=0.06),
    noise_until=0.0,
    adversarial=_AT_ONCE,
)
_LARGE_ENCODER = EncoderConfig(256, 64, patch=4, channels=(96,), blocks=(4,))  # more blocks than usual
# Branches for other steps: a stronger rate loss alone makes far worse pictures at the same bytes
# (experiments/2026-11.md).
_RATES = replace(
    _FINE,
    grows=False,
    lr_steps=(4, 6, 9, 9, 13, 13, 19, 28, 40, 56),
    batch=8,
    learning_rate=1.2e-3,
    muon=1.0,
    warm_up=30,
    hold=0.4,
    ema=0.996,
    adversarial=_AT_ONCE,
)
# The default bundle's networks: twice the blocks in the encoder, 1.7 GFLOP, a deeper decoder, levels in steps of 2.
_DEEP_ON = replace(
    _FINE_ON,
    encoder=EncoderConfig(256, 16, patch=4, channels=(64, 128, 192), blocks=(2, 4, 8)),
    decoder=shapes.FACES_256_LR16_DEEP,
    lr_step=2,
)
# Of other domains: without the losses of identity and of the places of eyes and mouth.
_DEEP_ELSEWHERE = replace(_DEEP_ON, loss=replace(_DEEP_ON.loss, identity=0.0, regions=0.0, region_gain=0.0))
# The code predictor is trained on through the fusion: the codes that are best to fuse differ from the best to view.
_STAGE3 = replace(
    _STAGE2,
    stage="3",
    trains=("codes", "fusion"),
    loss=LossWeights(lpips=1.2, identity=0.2, lr=0.0),
    synthetic=0.0,
    learning_rate=1.5e-3,
    muon=1.0,
    warm_up=50,
    hold=0.3,
    identity_from=0.0,
)
# LPIPS weighs more than the 0.8 of [GRAIN] supplementary 1, with an absolute error; the final stage of 0.3.0 had 0.5,
# of 0.4.0 0.8. Beyond 1.2 LPIPS-Alex falls further, but LPIPS-VGG, which is no loss, does not.
# If the encoder is trained, the squared error of the LR counts: it keeps the LR's contrast against loss.rate, and
# hardly penalizes the small deviations that carry detail.
_FINAL = replace(
    _STAGE3,
    stage="final",
    trains=("decoder", "codes", "fusion"),
    loss=replace(_STAGE3.loss, lr_l2=1.0),
    learning_rate=3e-4,
    muon=3.0,
    warm_up=100,
    noise_until=0.5,
    ema=0.997,
)


def _domain(name: str, lr: int) -> dict[str, GrainRecipe]:
    """The four stages of a domain's bundle by name; other domains than faces have no identity ([GRAIN] suppl. 1)."""
    found = {}
    for stage, recipe in {"stage1": _STAGE1, "stage2": _STAGE2, "stage3": _STAGE3, "final": _FINAL}.items():
        loss = recipe.loss if name == FACES else replace(recipe.loss, identity=0.0)
        recipe = replace(recipe, domain=name, encoder=encoder_config(256, lr), loss=loss)
        found[f"{stage}-{name}-256-lr{lr}"] = _with_decoder(recipe, PRESETS[f"grain-256-lr{lr}"])
    return found


def _with_decoder(recipe: GrainRecipe, grain: GrainConfig) -> GrainRecipe:
    return replace(recipe, decoder=grain.decoder if recipe.stage == "1" else grain)


# The paper's, 1024 x 1024, with its RRDB encoder: [GRAIN] 3.2, 3.5 and supplementary 1. Batch 1, learning rate 1e-4
# (final stage 5e-5), the steps between two updates of the discriminator (6, 5, 3, 3) and R1 of 10 every 16 of them are
# from the authors' public code, as is the discriminator of stage 1, which sees pictures of 1024 x 1024 at 256 x 256.
# Annealing and averaged weights are ours.
_STAGE1_PAPER = GrainRecipe(
    encoder=RRDBEncoderConfig(1024, 16),
    decoder=shapes.PAPER_1024_LR16,
    loss=PAPER,
    adversarial=AdversarialConfig("relativistic", every=6, learning_rate=1e-4, r1=0.0),
    batch=1,
    learning_rate=1e-4,
    identity_from=0.0,
    noise_until=1.0,
)
_PAPER_WGAN = AdversarialConfig("wgan", every=3, learning_rate=1e-4, discriminator=CONFIG_F_1024)
_LATER_PAPER = replace(
    _STAGE1_PAPER,
    stage="2",
    trains=("codes",),
    decoder=PRESETS["grain-1024-lr16-paper"],
    loss=replace(PAPER, lr_l2=0.0),
    adversarial=_PAPER_WGAN,
)
_STAGE2_PAPER = replace(_LATER_PAPER, adversarial=replace(_PAPER_WGAN, every=5))
_STAGE3_PAPER = replace(_LATER_PAPER, stage="3", trains=("fusion",))
_FINAL_PAPER = replace(_LATER_PAPER, stage="final", trains=PARTS, loss=PAPER, learning_rate=5e-5)


def _paper(lr: int) -> dict[str, GrainRecipe]:
    """The paper's four stages for an LR of 16, 32, 64 or 128 pixels, by name."""
    stages = {"stage1": _STAGE1_PAPER, "stage2": _STAGE2_PAPER, "stage3": _STAGE3_PAPER, "final": _FINAL_PAPER}
    grain, encoder = PRESETS[f"grain-1024-lr{lr}-paper"], RRDBEncoderConfig(1024, lr)
    return {
        f"{stage}-1024-lr{lr}-paper": _with_decoder(replace(recipe, encoder=encoder), grain)
        for stage, recipe in stages.items()
    }


# Trial runs: seconds on a CPU, no data, no metric weights, a generator with random weights.
_SMOKE = GrainRecipe(
    encoder=EncoderConfig(hr=64, lr=16, patch=2, channels=(8, 16), blocks=(1, 1)),
    decoder=PRESETS["grain-smoke"].decoder,
    loss=LossWeights(lpips=0.0, identity=0.0),
    batch=4,
    learning_rate=2e-3,
    warm_up=10,
    ema=0.9,
    random_pictures=24,
)
_SMOKE_GRAIN = replace(_SMOKE, stage="3", trains=("fusion",), decoder=PRESETS["grain-smoke"])

GRAIN_RECIPES: dict[str, GrainRecipe] = {
    **_domain(FACES, 16),
    "stage1-faces-256-lr16-fine": _FINE,
    "stage1-faces-256-lr16-slim": replace(_FINE, decoder=shapes.FACES_256_LR16_SLIM),
    "stage1-faces-256-lr32-fine": replace(_FINE, encoder=encoder_config(256, 32), decoder=shapes.FACES_256_LR32_FINE),
    # A new encoder, and the fine scales of a published bundle.
    "stage1-faces-256-lr64-fine": replace(
        _FINE_ON,
        encoder=_LARGE_ENCODER,
        decoder=shapes.FACES_256_LR64_FINE,
        grows=True,
        lr_step=8,
        learning_rate=4e-4,
        loss=replace(_FINE_ON.loss, lr_l2=2.0, lr_saturation=0.4, rate=0.15),
        target_bytes=2350.0,
    ),
    "stage1-faces-256-lr16-fine-on": _FINE_ON,
    # The default bundle, on a GPU.
    "stage1-faces-256-lr16-deep": replace(
        _DEEP_ON,
        grows=True,
        batch=48,
        learning_rate=4e-4,
        muon=2.0,
        warm_up=60,
        hold=0.45,
        ema=0.998,
        target_bytes=345.0,
        loss=replace(_DEEP_ON.loss, lpips=1.25, lr_saturation=0.4, rate=0.12),
    ),
    # Further rates of published bundles (--init-from faces, medium's or large's bundle).
    "stage1-faces-256-lr16-rates": _RATES,
    "stage1-faces-256-lr32-rates": replace(
        _RATES, encoder=encoder_config(256, 32), decoder=shapes.FACES_256_LR32_FINE, lr_steps=(3, 4, 6, 6, 9, 9, 13)
    ),
    "stage1-faces-256-lr64-rates": replace(
        _RATES,
        encoder=_LARGE_ENCODER,
        decoder=shapes.FACES_256_LR64_FINE,
        lr_step=8,
        lr_steps=(4, 4, 6, 6, 10, 13, 16, 20),
    ),
    # The generator on that decoder, then the fusion of both.
    "stage2-faces-256-lr16-fine": _STAGE2_FINE,
    "stage3-faces-256-lr16-fine": replace(
        _STAGE2_FINE, stage="3", trains=("fusion",), window=0, learning_rate=1.5e-3, muon=1.0, warm_up=50
    ),
    **_domain(FACES, 32),
    **_domain("cats", 16),  # [GRAIN] Table 3
    **_domain("churches", 16),
    # From the weights of the default bundle (--init-from faces), with its networks.
    **{f"stage1-{name}-256-lr16-fine": replace(_DEEP_ELSEWHERE, domain=name) for name in ("cats", "churches")},
    **{name: recipe for lr in (16, 32, 64, 128) for name, recipe in _paper(lr).items()},  # [GRAIN] Table 4
    # Variants of [GRAIN] Fig. 7 and Table 2; "without invertible encoder" is any recipe with correction=False.
    "stage2-1024-lr16-paper-single-scale": replace(
        _STAGE2_PAPER, decoder=PRESETS["grain-1024-lr16-codes-only-single-scale"]
    ),
    "stage3-1024-lr16-paper-image-fusion": replace(_STAGE3_PAPER, decoder=PRESETS["grain-1024-lr16-image-fusion"]),
    "smoke-stage1": _SMOKE,
    "smoke-stage2": replace(
        _SMOKE_GRAIN,
        stage="2",
        trains=("codes",),
        synthetic=1.0,
        batch=8,
        learning_rate=8e-3,
        loss=LossWeights(l1=0.5, lpips=0.0, identity=0.0, lr=0.0, codes=2.0),
    ),
    "smoke-stage3": _SMOKE_GRAIN,
    "smoke-final": replace(
        _SMOKE_GRAIN,
        stage="final",
        trains=PARTS,
        adversarial=AdversarialConfig(discriminator=DiscriminatorConfig(64, 8, 16), warms_up=0.2, begins=0.5),
    ),
}
"""Name -> stage, with recipe and sizes."""
