"""Bundles: the manifest, its contract id, controls, and the folders that bundles are found in."""
