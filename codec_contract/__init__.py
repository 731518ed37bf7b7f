"""What both halves of the system agree on: quantization, resize, payload, bundle manifest, errors.

Everything here is integer or exactly specified, imports only numpy, Pillow and the standard library,
and is meant to be ported: a phone, a browser and a server must arrive at the same bytes.
"""
