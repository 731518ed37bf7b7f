"""The generator of a GRAIN model: its kind and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server_decoder.generative_prior import GenerativePrior
from server_decoder.mobile_stylegan.generator import MobileStyleGAN, MobileStyleGANConfig
from server_decoder.stylegan2.synthesis import StyleGAN2, StyleGAN2Config

NETWORKS: dict[str, type[StyleGAN2Config] | type[MobileStyleGANConfig]] = {
    "stylegan2": StyleGAN2Config, "mobile-stylegan": MobileStyleGANConfig}
"""Kind of generator -> its configuration."""


@dataclass(frozen=True)
class PriorConfig:
    """A generator's kind and sizes.

    Attributes:
        kind: one of `NETWORKS`.
        network: the configuration of that kind.
        compact: its weights are rounded to those of a compact export (`export.decoder.decoder_graph.round_weights`), so
            that the rest learns with the generator that ships. `export.decoder.sources.described_prior` loads it.
    """

    kind: str
    network: StyleGAN2Config | MobileStyleGANConfig
    compact: bool = False

    def __post_init__(self) -> None:
        if self.kind not in NETWORKS:
            raise ValueError(f"unknown prior {self.kind!r}; expected one of {', '.join(NETWORKS)}")
        if not isinstance(self.network, NETWORKS[self.kind]):
            raise ValueError(f"a prior of kind {self.kind} is described by {NETWORKS[self.kind].__name__}, got "
                             f"{type(self.network).__name__}")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> PriorConfig:
        """The configuration that ``dataclasses.asdict`` wrote."""
        kind, network = fields["kind"], fields["network"]
        if kind not in NETWORKS:
            raise ValueError(f"unknown prior {kind!r}; expected one of {', '.join(NETWORKS)}")
        return cls(kind, NETWORKS[kind](**network), bool(fields.get("compact", False)))

    @property
    def size(self) -> int:
        """Side of the generator's picture."""
        return self.network.size

    @property
    def code_resolutions(self) -> tuple[int, ...]:
        """As `GenerativePrior.code_resolutions`."""
        return self.network.code_resolutions

    def build(self) -> GenerativePrior:
        """The generator with random weights."""
        return StyleGAN2(self.network) if isinstance(self.network, StyleGAN2Config) else MobileStyleGAN(self.network)
