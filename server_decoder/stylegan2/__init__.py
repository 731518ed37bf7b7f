"""StyleGAN2, written from the papers: [StyleGAN] Karras et al., arXiv:1812.04948, [StyleGAN2] arXiv:1912.04958."""

NVIDIA_LICENCE = "Nvidia Source Code License-NC, non-commercial use only"
"""Licence of NVIDIA's networks."""
