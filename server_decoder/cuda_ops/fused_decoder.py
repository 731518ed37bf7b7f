"""A decoder whose generator is written with fused ops."""

from __future__ import annotations

import torch

from edgegrain.contract.errors import ExportError
from server_decoder.cuda_ops.fused_mobile_stylegan import FusedMobileStyleGAN
from server_decoder.cuda_ops.fused_stylegan2 import FusedStyleGAN2
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.mobile_stylegan import MobileStyleGAN
from server_decoder.prior import GenerativePrior
from server_decoder.stylegan2.synthesis import StyleGAN2


def fused_decoder(decoder: Grain | RRDBDecoder, dtype: torch.dtype = torch.float32) -> Grain:
    """A decoder that computes the same with fused ops, in evaluation mode. Its tensors are those of ``decoder``.

    Args:
        decoder: with a generator.
        dtype: float32 or float16: what the generator's activations are. All else is float32.

    Raises:
        ExportError: it has no generator, and nothing else has fused ops.
    """
    if not isinstance(decoder, Grain) or decoder.prior is None:
        raise ExportError("this decoder has no generator, and only a generator's layers have fused ops; export it with "
                          "--ops plain")
    fused = Grain(decoder.config, fused_prior(decoder.prior, dtype))
    fused.load_state_dict(decoder.state_dict(), assign=True)
    return fused.eval().requires_grad_(False)


def fused_prior(prior: GenerativePrior, dtype: torch.dtype = torch.float32) -> GenerativePrior:
    """A generator that computes the same with fused ops, in evaluation mode. Its tensors are those of ``prior``.

    Args:
        prior: a StyleGAN2 or a MobileStyleGAN.
        dtype: float32 or float16: what its activations are.

    Raises:
        ExportError: there is no fused form of this kind of generator.
    """
    fused: FusedStyleGAN2 | FusedMobileStyleGAN
    match prior:
        case StyleGAN2():
            fused = FusedStyleGAN2(prior.config, dtype)
        case MobileStyleGAN():
            fused = FusedMobileStyleGAN(prior.config, dtype)
        case _:
            raise ExportError(f"there are no fused ops for a {type(prior).__name__}; export it with --ops plain")
    fused.load_state_dict(prior.state_dict(), assign=True)
    return fused.eval().requires_grad_(False)
