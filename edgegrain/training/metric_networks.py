"""LPIPS and the identity network, which losses and evaluation share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from edgegrain.metrics.identity import FaceIdentity
from edgegrain.metrics.lpips import LPIPS
from edgegrain.metrics.weights import find_metric_weights


class MetricNetworks(NamedTuple):
    """Frozen networks, or None where their weights are not given."""

    lpips: LPIPS | None = None
    identity: FaceIdentity | None = None

    @classmethod
    def load(cls, weights: Path | None, device: torch.device, *, faces: bool) -> MetricNetworks:
        """Load them from a folder; none without a folder. The identity network is for faces only.

        Raises:
            ModelError: a file is missing or damaged.
        """
        if weights is None:
            return cls()
        return cls(LPIPS(weights).requires_grad_(False).to(device),
                   FaceIdentity(weights).requires_grad_(False).to(device) if faces else None)


def needed_metric_weights(weights: Path | None, *, needed: bool, faces: bool) -> Path | None:
    """The folder given, or the fetched weights if the losses need them; None if they do not.

    Raises:
        ModelError: the losses need weights, none are given and none were fetched.
    """
    return find_metric_weights(weights, faces=faces) if needed else weights
