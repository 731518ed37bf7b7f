"""Fused kernels for generators' memory-bound steps, as a library of custom ops for ONNX Runtime (docs/cuda_ops.md)."""
