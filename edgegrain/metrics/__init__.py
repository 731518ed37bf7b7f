"""Metrics of restored pictures: PSNR, SSIM, LPIPS, DISTS, identity, KID and spectral peaks, with their networks."""
