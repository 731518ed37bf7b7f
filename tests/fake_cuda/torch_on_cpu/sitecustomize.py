"""Imported by every Python on the fake device that has FAKE_TORCH set: torch believes in the GPU, and works on the CPU.

torch has its own CUDA kernels and needs a real device. With this, programs that compare ONNX Runtime with torch run on
the fake one too.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_BYTES = 16 << 30
_LARGE = 4096**2
"""Elements of the matrices whose product measures a GPU's peak rate; a CPU takes minutes for it."""


class _AfterTorch(importlib.abc.MetaPathFinder):
    """Changes torch when it has been imported; importing it here would slow down all other programs."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        run: Any = spec.loader.exec_module

        def run_and_change(module: ModuleType) -> None:
            run(module)
            _compute_on_the_cpu(module)

        spec.loader.exec_module = run_and_change  # type: ignore[method-assign]
        return spec


def _compute_on_the_cpu(torch: Any) -> None:
    from torch.overrides import TorchFunctionMode

    def on_cpu(value: Any) -> Any:
        is_cuda = str(value).startswith("cuda") if isinstance(value, (str, torch.device)) else False
        return torch.device("cpu") if is_cuda else value

    class OnCpu(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(function, "__name__", "") in ("matmul", "__matmul__") and args[0].numel() >= _LARGE:
                return args[0]
            named = {key: on_cpu(value) for key, value in (kwargs or {}).items()}
            return function(*map(on_cpu, args), **named)

    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_name = lambda device=None: "Fake CUDA device"
    torch.cuda.synchronize = lambda device=None: None
    torch.cuda.mem_get_info = lambda device=None: (_BYTES, _BYTES)
    OnCpu().__enter__()


sys.meta_path.insert(0, _AfterTorch())
