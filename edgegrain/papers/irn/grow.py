"""Growing a trained IRN: a wider and deeper one that begins as the same bijection."""

from __future__ import annotations

from dataclasses import replace

import torch

from codec_contract.errors import ModelError
from edgegrain.papers.irn.network import IRN, DenseBlock


@torch.no_grad()
def grow(network: IRN, trained: IRN) -> None:
    """Give ``network`` the weights of a smaller one; what it has beyond that begins without effect.

    New InvBlocks follow those of their module and couple nothing yet: their dense blocks give zero. New channels of
    dense blocks are computed from random weights, and nothing reads them yet.

    Args:
        network: new, with at least as many blocks in each module and at least as much growth.
        trained: its weights are copied.

    Raises:
        ModelError: ``trained`` is larger somewhere, or differs in anything but blocks and growth.
    """
    new, old = network.config, trained.config
    fewer = len(old.blocks) == len(new.blocks) and all(a <= b for a, b in zip(old.blocks, new.blocks, strict=True))
    if replace(old, blocks=new.blocks, growth=new.growth) != new or old.growth > new.growth or not fewer:
        raise ModelError(f"the run would begin with {old}, the recipe has {new}; only its blocks and growth may be "
                         "larger")
    for module, smaller in zip(network.stages, trained.stages, strict=True):
        module.get_submodule("transform").load_state_dict(smaller.get_submodule("transform").state_dict())
    own = dict(network.named_modules())
    for name, block in trained.named_modules():
        if isinstance(block, DenseBlock):
            _widen(own[name], block)


def _widen(target: DenseBlock, source: DenseBlock) -> None:
    inputs = source.conv1.in_channels
    old, new = source.conv1.out_channels, target.conv1.out_channels
    for index, (wide, narrow) in enumerate(zip(target.convs(), source.convs(), strict=True)):
        # A convolution reads the block's input, then the outputs of the ones before it.
        read = [*range(inputs), *(inputs + group * new + channel for group in range(index) for channel in range(old))]
        outputs = narrow.out_channels
        wide.weight[:outputs] = 0
        wide.weight[:outputs, read] = narrow.weight
        if wide.bias is not None and narrow.bias is not None:
            wide.bias[:outputs] = narrow.bias
