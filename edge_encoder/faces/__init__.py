"""Faces in a picture: detection, landmarks, and the square that FFHQ's alignment takes."""
