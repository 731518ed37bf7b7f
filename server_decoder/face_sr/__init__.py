"""Face super-resolution without an encoder of its own: GLEAN and GCFSR."""
