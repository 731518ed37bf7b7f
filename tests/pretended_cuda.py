"""An ONNX Runtime that lists CUDA, and whose sessions run on the CPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnxruntime
import pytest

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@dataclass
class PretendedCuda:
    """The providers that ONNX Runtime lists and that sessions say they run on, options and providers of every session
    that was asked for, and a function that is called with the providers before one starts."""

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
