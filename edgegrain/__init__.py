"""edgegrain: portraits in under a kilobyte, encoded exactly on any device, restored on a server."""

__version__ = "0.1.0"
