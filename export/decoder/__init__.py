"""The decoder as ONNX: plain or with fused ops, float32 or float16, compared with torch on real LRs."""
