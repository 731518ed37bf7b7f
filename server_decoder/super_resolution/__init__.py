"""Enlarging restored pictures: 256x256 to 512x512 and 1024x1024."""
