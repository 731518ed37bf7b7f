"""Faces in photographs: detection, landmarks, and the square that FFHQ's alignment cuts out."""
