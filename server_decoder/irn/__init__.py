"""IRN, invertible image rescaling ([IRN], Xiao et al., ECCV 2020)."""
