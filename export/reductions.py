"""The exact reductions that can be a phone's half by themselves."""

from __future__ import annotations

from collections.abc import Callable

from edge_encoder.integer_network import IntegerNetwork
from export.decoder_sources import area_average

REDUCTIONS: dict[str, Callable[[int, int], IntegerNetwork]] = {"area": area_average}
"""Name -> the network from ``hr`` to ``lr``."""
