"""The encoder as a graph, and one emitter per format: ONNX, TFLite, Core ML."""
