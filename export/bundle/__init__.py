"""Bundles: one writer, and one file per family that exports trained weights into it."""
