"""GCFSR: super-resolution of faces with a controllable strength ([GCFSR], He et al., CVPR 2022)."""
