"""The contract between encoder and decoder: quantization, resize, fit, payload, bundle manifest, errors.

Everything here is integer arithmetic or exactly specified, imports only numpy, Pillow and the standard library, and is
meant to be ported: a phone, a browser and a server must compute the same bytes.
"""

import os

# ONNX Runtime 1.31 writes a device id into the user's cache folder and reports its use to Microsoft, unless this is set
# before it is loaded. Every package of edgegrain imports this one first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
