"""The cloud's half: decoders that turn an LR picture back into the full-size picture."""
