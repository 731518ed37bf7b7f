"""Training of StyleGAN2 priors."""
