"""Training of GRAIN: the four stages of [GRAIN] 3.5."""
