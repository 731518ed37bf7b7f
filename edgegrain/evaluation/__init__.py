"""Metrics, classical baselines and rate-distortion comparisons at equal bytes."""
