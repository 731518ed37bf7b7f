"""Face alignment: detection, landmarks, and the square that FFHQ's alignment cuts out."""
