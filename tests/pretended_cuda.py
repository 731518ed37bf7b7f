"""An ONNX Runtime that lists CUDA, and whose sessions run on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnxruntime
import pytest

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@dataclass
class PretendedCuda:
    """What ONNX Runtime says, and what it was asked.

    Attributes:
        listed: the providers that it lists.
        active: those that its sessions say they run on.
        started: options and providers of every session that was asked for.
        refuse: called with the providers of a session before it starts.
    """

    listed: list[str] = field(default_factory=lambda: [CUDA, CPU])
    active: list[str] = field(default_factory=lambda: [CUDA, CPU])
    started: list[tuple[onnxruntime.SessionOptions, Sequence[Any]]] = field(default_factory=list)
    refuse: Callable[[Sequence[Any]], None] = lambda providers: None


@pytest.fixture
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> PretendedCuda:
    cuda, session_class = PretendedCuda(), onnxruntime.InferenceSession

    def start(source: bytes, options: Any, providers: Sequence[Any], **_: object) -> onnxruntime.InferenceSession:
        cuda.started.append((options, providers))
        cuda.refuse(providers)
        session = session_class(source, options, providers=[CPU])
        monkeypatch.setattr(session, "get_providers", lambda: cuda.active)
        return session

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: cuda.listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    return cuda
