"""This installation: checks of it, and downloads of the packages that hold models."""
