"""IRN, invertible image rescaling, and IRN+ ([IRN], Xiao et al., ECCV 2020)."""
