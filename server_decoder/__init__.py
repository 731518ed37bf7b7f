"""The server's half: decoders that restore the full-size picture from an LR, and their ONNX Runtime session.

The HTTP service is in `edgegrain.service`."""
