"""Training of GLEAN and GCFSR."""
