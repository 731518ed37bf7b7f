"""Metrics of restored pictures (PSNR, SSIM, LPIPS, DISTS, identity, KID, spectral peaks) and their networks' weights."""
