"""The mapping network f: Z -> W ([StyleGAN] Section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from server_decoder.full_precision import full_precision
from server_decoder.stylegan2.layers import EqualizedLinear, activate, normalize

# "We thus reduce the learning rate by two orders of magnitude for the mapping network", [StyleGAN] Appendix C.
MAPPING_RATE = 0.01


class MappingNetwork(nn.Module):
    """Fully connected layers with leaky ReLU on the normalized latent."""

    def __init__(self, width: int = 512, layers: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EqualizedLinear(width, width, rate=MAPPING_RATE) for _ in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        """Latents ``[B, width]`` -> codes in W, ``[B, width]``."""
        with full_precision(z):
            x = normalize(z)
            for layer in self.layers:
                x = activate(layer(x))
        return x


@torch.no_grad()
def mean_code(mapping: MappingNetwork, width: int, count: int = 10_000, seed: int = 0) -> Tensor:
    """The mean ``[width]`` of ``count`` mapped latents: the centre of mass of W ([StyleGAN] Appendix B).

    The latents are drawn on the CPU, so a seed gives the same ones everywhere.
    """
    z = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return mapping(z.to(next(mapping.parameters()))).mean(0)
