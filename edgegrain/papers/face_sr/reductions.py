"""The exact reductions that can be a bundle's encoder by themselves."""

from __future__ import annotations

from collections.abc import Callable

from edge_encoder.integer_network import IntegerNetwork
from edge_encoder.lowering import box_network
from edgegrain.papers.face_sr.bicubic_network import bicubic_network

REDUCTIONS: dict[str, Callable[[int, int], IntegerNetwork]] = {"area": box_network, "bicubic": bicubic_network}
"""Name -> the network from ``hr`` to ``lr``."""
