"""MobileStyleGAN (Belousov, arXiv:2104.04767), the default generative prior."""
