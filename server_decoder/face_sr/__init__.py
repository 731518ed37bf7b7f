"""Face super-resolution: GLEAN and GCFSR, whose encoder is an exact reduction."""
