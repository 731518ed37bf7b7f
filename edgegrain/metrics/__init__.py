"""Metrics of restored pictures: PSNR, SSIM, LPIPS, identity distance and KID, with the weights of their networks."""
