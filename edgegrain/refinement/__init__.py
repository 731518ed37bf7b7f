"""Refinement: search, picture by picture, for an LR that restores better than the encoder's and takes no more bytes.

    from edgegrain.refinement import RefiningCodec

    codec = RefiningCodec("faces", steps=40)
    payload = codec.compress("me.jpg")            # 15 seconds on two cores; any decoder of the bundle restores it
"""

from edgegrain.refinement.refining_codec import STEPS, RefiningCodec

__all__ = ["STEPS", "RefiningCodec"]
