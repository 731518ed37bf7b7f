"""The contract between encoder and decoder: quantization, resize, fit, payload, bundle manifest, errors.

Everything here is integer arithmetic or exactly specified, imports only numpy, Pillow and the standard library, and is
meant to be ported: a phone, a browser and a server must compute the same bytes.
"""
