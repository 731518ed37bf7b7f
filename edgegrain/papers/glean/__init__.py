"""GLEAN: a generative bank between encoder and decoder ([GLEAN], Chan et al., CVPR 2021)."""
