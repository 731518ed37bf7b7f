"""Evaluation of bundles: classical codecs at equal bytes, rate curves, reports."""
