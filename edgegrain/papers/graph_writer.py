"""Torch layers that float encoders share, as nodes of a graph."""

from __future__ import annotations

from torch import nn

from codec_contract.errors import ExportError
from export.encoder.graph import Concat, Conv, LeakyRelu, Node


class GraphWriter:
    """Collects the nodes of a graph; every method returns the name of its result.

    Attributes:
        slope: of the leaky ReLUs.
    """

    def __init__(self, slope: float) -> None:
        self.nodes: list[Node] = []
        self.slope = slope

    def concat(self, name: str, parts: list[str]) -> str:
        """Stack tensors along the channels; one alone stays itself."""
        if len(parts) == 1:
            return parts[0]
        self.nodes.append(Concat(name, tuple(parts)))
        return name

    def conv(self, name: str, source: str, module: nn.Module) -> str:
        """A convolution with bias, and equal stride and padding in both directions."""
        if not isinstance(module, nn.Conv2d) or module.bias is None:
            raise ExportError(f"{name} must be a convolution with bias, it is {module}")
        padding = int(module.padding[0])
        self.nodes.append(Conv(name, source, module.weight.detach().numpy(), module.bias.detach().numpy(),
                               module.stride[0], (padding,) * 4))
        return name

    def leaky(self, source: str) -> str:
        """A leaky ReLU with the writer's slope."""
        self.nodes.append(LeakyRelu(f"{source}.leaky", source, self.slope))
        return self.nodes[-1].name

    def dense(self, name: str, source: str, convs: tuple[nn.Conv2d, ...]) -> str:
        """The last of ``convs``, each of which sees the source and all earlier outputs."""
        features = [source]
        for index, module in enumerate(convs, 1):
            y = self.conv(f"{name}.conv{index}", self.concat(f"{name}.in{index}", features), module)
            features.append(self.leaky(y) if index < len(convs) else y)
        return features[-1]
