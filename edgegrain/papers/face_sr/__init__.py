"""What GLEAN and GCFSR share: training, weight files and bundles."""
