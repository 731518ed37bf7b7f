"""Compress pictures to a few hundred bytes and restore them.

    import sdk

    payload = sdk.compress("me.jpg")     # path, bytes, PIL picture or uint8 array -> Payload, a bytes subclass
    payload.save("me.grain")
    payload.text()                       # for JSON and databases; sdk.Payload.from_text reads it
    payload.lr                           # uint8 [16, 16, 3]: the LR, a viewable small picture
    picture = sdk.restore("me.grain")    # payload, bytes, path, or an LR array or PNG -> PIL picture

    sdk.compress("me.jpg", max_bytes=500)    # the best of the installed qualities that fits

    sdk.find_faces("me.jpg").message     # what is wrong with the face in a picture; "" if it can be encoded
    faces = sdk.compress_faces("group.jpg")                           # every face, the largest first
    whole = sdk.paste(sdk.restore(faces[0]), faces[0], "small-group.jpg")    # put back into a picture of the whole
    scene = sdk.compress_scene("group.jpg", max_bytes=1500)           # all faces and a background: a photograph again

    sdk.retouch(sdk.Codec("faces"), "edited.png", "me.jpg")          # a crude edit turned into a realistic one

`compress` and `restore` open the default bundle on first use and keep it. `Codec` opens a bundle and a device of your
choice and works on batches; `connect` and `connect_async` open a client with the same methods for a service. `inspect`
checks a payload without restoring it, `bundles` lists the installed bundles. Files of restored pictures are marked as
generated; `read_mark` reads the mark.
All functions may be called from several threads. All errors raised on purpose are `EdgegrainError`.
"""

from __future__ import annotations

from codec_contract.errors import (
    BundleError,
    DeviceError,
    DeviceMemoryError,
    EdgegrainError,
    ExistsError,
    ImageError,
    ModelError,
    PayloadError,
    ServiceError,
)
from codec_contract.oriented_square import OrientedSquare
from codec_contract.payload import Header
from sdk.api import PayloadInfo, compress, compress_faces, compress_scene, inspect, restore
from sdk.codec import Codec
from sdk.faces import Face, FaceCheck, find_faces, paste
from sdk.generated_mark import GeneratedMark, MarkedPicture, read_mark
from sdk.installed_bundles import BundleInfo, bundles
from sdk.open_bundle import RunningDecoder
from sdk.payload import Payload, Scene
from sdk.remote import AsyncRemoteCodec, RemoteBundle, RemoteCodec, Retries, connect, connect_async
from sdk.retouching import retouch

__all__ = ["compress", "compress_faces", "compress_scene", "restore", "Codec", "Payload", "Scene"]
__all__ += ["inspect", "PayloadInfo", "Header", "bundles", "BundleInfo", "RunningDecoder"]
__all__ += ["find_faces", "FaceCheck", "Face", "paste", "OrientedSquare", "retouch"]
__all__ += ["connect", "connect_async", "RemoteCodec", "AsyncRemoteCodec", "RemoteBundle", "Retries"]
__all__ += ["MarkedPicture", "read_mark", "GeneratedMark"]
__all__ += ["EdgegrainError", "ImageError", "PayloadError", "BundleError", "DeviceError", "DeviceMemoryError"]
__all__ += ["ServiceError", "ModelError", "ExistsError"]
