"""The codec of ``--refine``, which needs PyTorch and the networks of the losses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from codec_contract.errors import needs_extra
from edgegrain.evaluation.refinement import Refinement
from sdk import Codec
from server_decoder.decoder_session import Device


def refining_codec(bundle: str | Path, steps: int, *, size: int = 0, max_bytes: int | None = None,
                   weights: Path | None = None, device: Device = "cpu", threads: int | None = None,
                   report: Callable[[float], None] | None = None) -> Codec:
    """A codec whose payloads are refined in ``steps`` steps; ``size`` 0 is the decoder's side, other arguments and
    errors are as of `edgegrain.refinement.RefiningCodec`.

    Raises:
        EdgegrainError: the extra ``train`` is not installed.
    """
    with needs_extra("train", "--refine needs"):
        from edgegrain.refinement import RefiningCodec

    return RefiningCodec(bundle, steps=steps, size=size or None, max_bytes=max_bytes, weights=weights, device=device,
                         threads=threads, report=report)


def require_search(steps: int, size: int) -> None:
    """Refuse ``--refine-size`` without ``--refine``.

    Raises:
        typer.BadParameter: there is a size, but there are no steps.
    """
    if size and not steps:
        raise typer.BadParameter("it is the size of a search; add --refine 40", param_hint="--refine-size")


def refinement_key(refinement: Refinement) -> str:
    """The search and its version, for keys of stored results; "" without a search."""
    if not refinement.steps:
        return ""
    from edgegrain.refinement.refining_codec import REVISION

    size, limit = refinement.size, refinement.max_bytes
    return (f"{refinement.steps} steps, {f'at {size}, ' * bool(size)}{f'to {limit} bytes, ' * bool(limit)}"
            f"revision {REVISION}")
