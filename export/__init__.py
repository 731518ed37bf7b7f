"""Exports encoders, decoders and bundles, and compares every exported file with its network."""
