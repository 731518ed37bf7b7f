"""The byte comparison of an exported encoder with the int64 reference on every runtime of this machine."""
