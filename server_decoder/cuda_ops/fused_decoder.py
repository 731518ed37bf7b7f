"""A decoder whose generator is written with fused ops."""

from __future__ import annotations

from edgegrain.contract.errors import ExportError
from server_decoder.cuda_ops.fused_mobile_stylegan import FusedMobileStyleGAN
from server_decoder.cuda_ops.fused_stylegan2 import FusedStyleGAN2
from server_decoder.grain.grain import Grain
from server_decoder.grain.rrdb_decoder import RRDBDecoder
from server_decoder.mobile_stylegan import MobileStyleGAN
from server_decoder.prior import GenerativePrior
from server_decoder.stylegan2.synthesis import StyleGAN2


def fused_decoder(decoder: Grain | RRDBDecoder) -> Grain:
    """A decoder that computes the same with fused ops, in evaluation mode. Its tensors are those of ``decoder``.

    Raises:
        ExportError: it has no generator, and nothing else has fused ops.
    """
    if not isinstance(decoder, Grain) or decoder.prior is None:
        raise ExportError("this decoder has no generator, and only a generator's layers have fused ops; export it with "
                          "--ops plain")
    fused = Grain(decoder.config, fused_prior(decoder.prior))
    fused.load_state_dict(decoder.state_dict(), assign=True)
    return fused.eval().requires_grad_(False)


def fused_prior(prior: GenerativePrior) -> GenerativePrior:
    """A generator that computes the same with fused ops, in evaluation mode. Its tensors are those of ``prior``.

    Raises:
        ExportError: there is no fused form of this kind of generator.
    """
    fused: FusedStyleGAN2 | FusedMobileStyleGAN
    match prior:
        case StyleGAN2():
            fused = FusedStyleGAN2(prior.config)
        case MobileStyleGAN():
            fused = FusedMobileStyleGAN(prior.config)
        case _:
            raise ExportError(f"there are no fused ops for a {type(prior).__name__}; export it with --ops plain")
    fused.load_state_dict(prior.state_dict(), assign=True)
    return fused.eval().requires_grad_(False)
