"""The exact reductions that can be a bundle's encoder by themselves."""

from __future__ import annotations

from collections.abc import Callable

from edge_encoder.bicubic_network import bicubic_network
from edge_encoder.integer_network import IntegerNetwork
from export.decoder.sources import area_average

REDUCTIONS: dict[str, Callable[[int, int], IntegerNetwork]] = {"area": area_average, "bicubic": bicubic_network}
"""Name -> the network from ``hr`` to ``lr``."""
