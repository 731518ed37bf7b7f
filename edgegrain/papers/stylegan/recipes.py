"""Configuration of the training of a StyleGAN2, and the recipes by name.

[StyleGAN2] is Karras et al. 2019, arXiv:1912.04958, [ADA] Karras et al. 2020, arXiv:2006.06676.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgegrain.papers.stylegan.augment import AdaptationConfig
from edgegrain.training.recipe import Recipe
from server_decoder.stylegan2.synthesis import CONFIG_F_256, CONFIG_F_1024, TINY_64, StyleGAN2Config


@dataclass(frozen=True)
class StyleGAN2Recipe(Recipe):
    """The recipe of a run; the defaults are those of [StyleGAN2] Appendix B unless said otherwise.

    Attributes:
        network: sizes of generator and discriminator.
        batch: pictures per step and process.
        learning_rate: of Adam with beta_1 = 0, beta_2 = 0.99, for both networks.
        warm_up: steps over which it rises at the beginning of every session, while Adam's moments are young (ours).
        r1: weight gamma of R1, gamma / 2 * |gradient|^2 on real pictures.
        r1_every: steps between two penalties, each of which counts so many times (lazy regularization, Section 3.1).
        path: weight of the path lengths, independent of the resolution; 0 leaves them out.
        path_every: steps between two of their penalties.
        path_part: part of the batch they are measured on: they need the most memory (ours).
        mixing: share of pictures whose layers from a random one on take the codes of another latent.
        ema: half-life of the averaged generator, in pictures.
        ema_ramp: the half-life is at most this part of the pictures seen, so that the average forgets the
            random weights; 0: no ramp ([ADA]).
        adaptation: control of augmentation by overfitting; None: no augmentation ([StyleGAN2]).
        bf16: bfloat16 where it is safe; both regularizers stay in float32 (ours).
        pictures: of a run whose length the command line leaves open; less than [StyleGAN2]'s (ours).
        generated: name patterns of generated pictures among the training pictures, which are left out: the
            discriminator would take their faults for real.
        random_pictures: number of random pictures when no data is given (trial runs).
    """

    network: StyleGAN2Config = CONFIG_F_1024
    batch: int = 32
    learning_rate: float = 2e-3
    warm_up: int = 100
    r1: float = 10.0
    r1_every: int = 16
    path: float = 2.0
    path_every: int = 8
    path_part: float = 0.5
    mixing: float = 0.9
    ema: float = 10_000
    ema_ramp: float = 0.05
    adaptation: AdaptationConfig | None = AdaptationConfig()
    bf16: bool = True
    seed: int = 1
    pictures: int = 5_000_000
    generated: tuple[str, ...] = ("generated_*",)
    random_pictures: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.r1_every, self.path_every) < 1:
            raise ValueError(f"r1_every and path_every are at least 1, got {self.r1_every} and {self.path_every}")
        if not 0 < self.path_part <= 1 or not 0 <= self.mixing <= 1:
            raise ValueError(f"path_part and mixing are parts of a batch, got {self.path_part} and {self.mixing}")


def r1_weight(size: int, batch: int) -> float:
    """A first guess at gamma, ``0.0002 * pixels / batch``: smaller pictures and larger batches need less ([ADA])."""
    return 2e-4 * size**2 / batch


# Half the channels of configuration F from 64 x 64 on, as [ADA] has at 256 x 256.
_HALF_256 = replace(CONFIG_F_256, channel_base=16384)
_OURS = StyleGAN2Recipe(network=_HALF_256, batch=16, r1=r1_weight(256, 16))

STYLEGAN2_RECIPES: dict[str, StyleGAN2Recipe] = {
    # Ours: one GPU, some thousand to some ten thousand pictures.
    "prior-256": _OURS,
    **{f"prior-{size}": replace(_OURS, network=replace(_HALF_256, size=size), r1=r1_weight(size, 16))
       for size in (128, 512, 1024)},
    # [GRAIN] Table 3. StyleGAN2's published runs on LSUN give churches ten times the R1 of cats.
    "prior-cats-256": _OURS,
    "prior-churches-256": replace(_OURS, r1=10 * _OURS.r1),
    "prior-64": replace(_OURS, network=replace(_HALF_256, size=64, channel_max=256), batch=32, r1=r1_weight(64, 32)),
    # Configuration F: batch 32 on 8 GPUs in all, R1 of 10, no augmentation, 25 million pictures.
    "stylegan2-1024-paper": StyleGAN2Recipe(adaptation=None, ema_ramp=0.0, pictures=25_000_000),
    # [ADA]'s table of hyperparameters, the column of 256 x 256: batch 64 in all, R1 of 1, half-life 20,000, as long.
    "ada-256-paper": StyleGAN2Recipe(network=_HALF_256, batch=64, learning_rate=2.5e-3, r1=1.0, ema=20_000,
                                         ema_ramp=0.0, pictures=25_000_000),
    # Seconds on a CPU; random pictures without --data.
    "smoke-prior": StyleGAN2Recipe(
        network=TINY_64, batch=8, warm_up=5, r1=r1_weight(64, 8), ema=200,
        adaptation=AdaptationConfig(pictures=2_000), bf16=False, pictures=640, random_pictures=64),
}
"""Name -> recipe."""
