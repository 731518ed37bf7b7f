"""Distillation of a StyleGAN2 into a MobileStyleGAN (arXiv:2104.04767)."""
