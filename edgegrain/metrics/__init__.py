"""Metrics of restored pictures: PSNR, SSIM, LPIPS, identity distance, KID, and the weights of their networks."""
