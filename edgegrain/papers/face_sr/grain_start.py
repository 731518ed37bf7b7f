"""A GLEAN that begins with the picture of GRAIN's invertible decoder."""

from __future__ import annotations

from codec_contract.errors import ModelError
from edgegrain.papers.glean.network import GLEAN
from edgegrain.training.grain.grow import grow
from server_decoder.grain.rrdb_decoder import DecoderConfig, RRDBDecoder, Scale


def begin_with_grain(network: GLEAN, trained: RRDBDecoder) -> None:
    """Give RRDBs, scales and RGB head the weights of a decoder that has grown from ``trained`` to their shape (`grow`).

    The bank begins without effect on the picture.

    Args:
        network: new, with `GLEANConfig.scales`.
        trained: of the same LR size or a smaller one, and with the same head.

    Raises:
        ModelError: ``network`` has the paper's decoder.
        BundleError: as `grow`.
    """
    config = network.config
    if not config.scales:
        raise ModelError("only a GLEAN with the scales of GRAIN's decoder can begin with one; this recipe has the "
                         "paper's decoder")
    first = Scale(config.lr, config.width, rrdb=config.rrdb, growth=config.growth)
    decoder = RRDBDecoder(DecoderConfig((first, *config.scales), "bilinear", head=()))
    grow(decoder, trained)
    weights = {_name_in_glean(name): tensor for name, tensor in decoder.state_dict().items()}
    network.load_state_dict({**network.state_dict(), **weights})


def _name_in_glean(name: str) -> str:
    part, *rest = name.split(".")
    if part == "conv_first":
        return f"features.{name}"
    if part == "head":
        return ".".join(("to_rgb", *rest))
    index = int(rest[0])
    if part == "upsamples":
        return ".".join(("up", str(index), "upsample", *rest[1:]))
    if index == 0:
        return ".".join(("features", {"blocks": "body", "conv": "conv_body"}[rest[1]], *rest[2:]))
    return ".".join(("up", str(index - 1), "scale", *rest[1:]))
