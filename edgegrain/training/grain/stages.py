"""Configuration of a run of one of the stages of [GRAIN] 3.5.

Stage 1 trains encoder and decoder, stage 2 the code predictor on what the decoder gives it, stage 3 the fusion, the
final stage all of them. The generator stays frozen throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from codec_contract.lr_coder.coder_tables import MAX_STEP
from edge_encoder.architectures import EncoderConfig, encoder_config
from edgegrain.training.adversarial import AdversarialConfig
from edgegrain.training.config import Recipe
from edgegrain.training.grid_loss import GRID_PERIOD
from edgegrain.training.losses import LossWeights
from edgegrain.training.projected_discriminator import ProjectedConfig
from export import papers
from server_decoder.grain.grain import GrainConfig, PriorConfig
from server_decoder.grain.rrdb_decoder import FACES_256_LR16, DecoderConfig

# The picture that a stage's losses compare: y_inv, y_style or y_final ([GRAIN] 3.5 (1)).
OUTPUTS = {"1": "invertible", "2": "style", "3": "final", "final": "final"}
PARTS = ("encoder", "decoder", "codes", "fusion")
REACHED = {"1": 2, "2": 3, "3": 4, "final": 4}
"""Stage -> how many of the `PARTS`, from the first on, its output depends on."""
FACES = "faces"
"""The domain of the published generator, and the only one whose pictures have an identity."""


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
        if self.halvings < 1 or self.lr << self.halvings != self.hr:
            raise ValueError(f"the RRDB encoder halves sides: {self.hr} -> {self.lr} is not possible")

    @property
    def halvings(self) -> int:
        return (self.hr // self.lr).bit_length() - 1

    @property
    def name(self) -> str:
        return f"rrdb-c{self.width}-g{self.growth}-b{self.rrdb}-s{self.halvings}"

    def build(self) -> nn.Module:
        """The encoder with random weights."""
        return papers.load("grain.rrdb_encoder:TrainedRRDBEncoder")(self)


@dataclass(frozen=True)
class GrainRecipe(Recipe):
    """The recipe of a run.

    Attributes:
        stage: ``"1"``, ``"2"``, ``"3"`` or ``"final"``.
        trains: the parts that are trained: ``"encoder"``, ``"decoder"``, ``"codes"``, ``"fusion"``.
        encoder: the exact encoder, or the paper's RRDB network.
        decoder: the invertible decoder alone (stage 1), or all of GRAIN; a stage 1 with synthetic pictures needs the
            latter, for its prior.
        grows: True to keep the shape of ``decoder`` and grow a trained one into it, or leave out its last blocks, and
            to keep that of ``encoder`` if it is trained; False to take the shapes of the trained ones.
        fusion_base: the picture that the fusion adds to (`FusionConfig.base`): ``"invertible"``, ``"style"``, or "" for
            that of the model that the run begins with.
        correction: False trains the control of [GRAIN] Table 2, "without invertible encoder": LR = box mean, no learned
            correction.
        lr_step: step of the LR's levels in payloads (`codec_contract.lr_coder.coder_tables`): the decoder gets levels
            rounded to multiples of it, and a trained encoder a straight-through gradient.
        target_bytes: expected bytes of an LR, as in the validation's ``lr_bytes``, to which ``loss.rate`` is steered
            (`edgegrain.training.grain.rate.RateTarget`); 0 for the size that the weight leads to.
        adversarial: the adversarial loss, or None.
        synthetic: part of every batch that comes from the prior, with known codes.
        truncation: psi of those pictures, from and to.
        generated: name patterns of generated pictures among the training pictures.
        generated_part: part of every batch taken from them, if there are any. Like synthetic ones they are no originals
            to the discriminator, because generators leave faint patterns.
        window: in stage 2, the side in pixels of the window that most steps generate and compare: the generator's fine
            layers, which take two thirds of its time, are computed there only. 0 for whole pictures.
        window_part: part of the steps that do so. The losses of identity and of eyes and mouth need whole pictures and
            count in the others.
        batch: pictures per step and process.
        learning_rate: of AdamW.
        muon: learning rate of Muon for the weights that are matrices, in multiples of ``learning_rate``; 0 trains them
            with AdamW.
        warm_up: steps over which the learning rate rises.
        hold: part of the run at the full learning rate; the rest anneals to a hundredth (cosine).
        identity_from: part of the run after which the identity loss joins.
        noise_until: part of the run during which uniform noise replaces rounding ([GRAIN] 3.2); afterwards the LR is
            rounded with a straight-through gradient, so that the decoder ends on rounded LRs. A frozen encoder always
            rounds.
        ema: decay of the averaged weights, which are evaluated and published.
        jitter: True to shift and recolour real pictures a little every time, against overfitting to a few pictures
            (`edgegrain.training.grain.jitter`).
        lpips_shift: part of the steps, 0...1, in which LPIPS compares the pictures at a random offset
            (`edgegrain.training.losses.picture_loss`).
        clip_gradient: largest norm of a step's gradient; 0: any.
        random_pictures: number of random pictures when no data is given (trial runs).
        domain: content of the pictures, such as ``"faces"``.
    """

    stage: str = "1"
    trains: tuple[str, ...] = ("encoder", "decoder")
    encoder: EncoderConfig | RRDBEncoderConfig = field(default_factory=lambda: encoder_config(256, 16))
    decoder: DecoderConfig | GrainConfig = FACES_256_LR16
    grows: bool = False
    fusion_base: str = ""
    correction: bool = True
    lr_step: int = 1
    loss: LossWeights = LossWeights()
    target_bytes: float = 0.0
    adversarial: AdversarialConfig | None = None
    synthetic: float = 0.0
    truncation: tuple[float, float] = (0.5, 0.95)
    generated: tuple[str, ...] = ("generated_*",)
    generated_part: float = 0.5
    window: int = 0
    window_part: float = 0.75
    batch: int = 8
    learning_rate: float = 6e-4
    muon: float = 0.0
    warm_up: int = 200
    hold: float = 0.6
    identity_from: float = 0.4
    noise_until: float = 0.6
    ema: float = 0.998
    jitter: bool = False
    lpips_shift: float = 0.0
    clip_gradient: float = 1.0
    seed: int = 1
    random_pictures: int = 0
    domain: str = FACES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage not in OUTPUTS:
            raise ValueError(f"unknown stage {self.stage!r}; expected one of {', '.join(OUTPUTS)}")
        unknown = sorted(set(self.trains) - set(PARTS))
        if unknown or not self.trains:
            raise ValueError(f"a stage trains some of {', '.join(PARTS)}, got {list(self.trains)}")
        reached = PARTS[:REACHED[self.stage]]
        if beyond := sorted(set(self.trains) - set(reached)):
            raise ValueError(f"the picture of stage {self.stage} does not depend on {', '.join(beyond)}; trains may "
                             f"name {', '.join(reached)}")
        if self.stage != "1" and not isinstance(self.decoder, GrainConfig):
            raise ValueError(f"stage {self.stage} needs a GrainConfig as its decoder")
        if self.grows and not isinstance(self.decoder, DecoderConfig):
            raise ValueError("only an invertible decoder that is trained alone can grow")
        for name in ("synthetic", "generated_part"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a part of the batch, 0...1, got {getattr(self, name)}")
        if 0 < self.synthetic < 1 and self.batch == 1:
            raise ValueError(f"synthetic={self.synthetic} mixes a batch, which takes two pictures; set synthetic to 0 "
                             "or 1, or a larger batch")
        if not 0 <= self.window_part <= 1:
            raise ValueError(f"window_part is a part of the steps, 0...1, got {self.window_part}")
        if self.window:
            self._check_window()
        if self.adversarial is not None and self.synthetic_count == self.batch:
            raise ValueError("a discriminator needs real pictures: synthetic must leave room for some in a batch")
        if self.synthetic and not isinstance(self.decoder, GrainConfig):
            raise ValueError("synthetic pictures come from a prior; the decoder must be a GrainConfig with one")
        if self.loss.codes and self.stage == "1":
            raise ValueError("stage 1 predicts no codes: it cannot have a loss on them")
        if self.loss.codes and not self.synthetic:
            raise ValueError("loss.codes compares codes of synthetic pictures, and there are none; set loss.codes to "
                             "0, or synthetic above 0")
        if not 1 <= self.lr_step <= MAX_STEP:
            raise ValueError(f"lr_step is 1...{MAX_STEP}, got {self.lr_step}")
        if self.loss.rate and ("encoder" not in self.trains or not self.correction):
            raise ValueError("loss.rate is for runs that train an encoder: trains must name it, and correction be true")
        if self.loss.rate and not self.learning_rate:
            raise ValueError("loss.rate needs a learning_rate above 0")
        if self.target_bytes < 0 or (self.target_bytes and not self.loss.rate):
            raise ValueError("target_bytes is a size above 0 that loss.rate is steered to, which must be above 0 too; "
                             f"got {self.target_bytes} and loss.rate {self.loss.rate}")

    @property
    def prior(self) -> PriorConfig | None:
        return self.decoder.prior if isinstance(self.decoder, GrainConfig) else None

    @property
    def output(self) -> str:
        """The picture that is trained and evaluated: ``"invertible"``, ``"style"`` or ``"final"``."""
        return OUTPUTS[self.stage]

    @property
    def synthetic_count(self) -> int:
        """Synthetic pictures in a batch; with ``synthetic`` between 0 and 1 at least one, and one place stays for a
        photograph."""
        if self.synthetic in (0, 1):
            return round(self.synthetic) * self.batch
        return min(max(1, round(self.synthetic * self.batch)), self.batch - 1)

    @property
    def generated_count(self) -> int:
        """Generated pictures in a batch, if there are any; one place stays for a photograph."""
        return max(0, min(round(self.generated_part * self.batch), self.batch - self.synthetic_count - 1))

    def _check_window(self) -> None:
        if self.stage != "2":
            raise ValueError(f"only stage 2 trains on windows of the generator's picture; stage {self.stage} needs "
                             "window=0")
        if not 0 < self.window <= self.encoder.hr or self.window % GRID_PERIOD:
            raise ValueError(f"window is a multiple of {GRID_PERIOD} pixels, at most {self.encoder.hr}, got "
                             f"{self.window}")
        if self.adversarial is not None and (not isinstance(self.adversarial.discriminator, ProjectedConfig)
                                             or self.adversarial.discriminator.identity):
            raise ValueError("on windows the discriminator must consist of heads on AlexNet alone; set "
                             "adversarial.discriminator.identity=false, or window=0")
