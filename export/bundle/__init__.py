"""Bundles: the writer, and the commands that make one from trained weights."""
