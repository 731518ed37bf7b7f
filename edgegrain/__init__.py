"""edgegrain: portraits in under a kilobyte, encoded exactly on any device, restored on a server."""

from codec_contract import __version__

__all__ = ["__version__"]
