"""The contract between encoder and decoder: quantization, resize, fit, payload, bundle manifest, errors.

Payloads, resize, fit and the LR coder are integer arithmetic with a written specification, to be ported to other
languages: a phone, a browser and a server must compute the same bytes. The package also finds and downloads bundles;
huggingface-hub (extra ``hub``) is imported for that alone, and otherwise only numpy and Pillow.
"""

import os

# ONNX Runtime 1.31 writes a device id into the user's cache folder and reports its use to Microsoft, unless this is set
# before it is loaded. Every package of edgegrain imports this one first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.6.0"
