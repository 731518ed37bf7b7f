"""The phone's half: an integer-exact encoder network and the preprocessing in front of it."""
