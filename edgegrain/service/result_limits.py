"""Limits on the picture that a payload is restored to, checked before anything is allocated for it."""

from __future__ import annotations

from codec_contract.bundle.manifest import Manifest
from codec_contract.errors import ImageError
from codec_contract.fit import Size
from codec_contract.payload import Header, parse_header
from codec_contract.scene import is_scene
from edgegrain.pictures.file_formats import MAX_SIDES
from edgegrain.service.engine_options import RestoreOptions
from sdk.payload import Scene, check_claims, enlargement, restored_size
from sdk.scenes import scene_size


def read_claims(data: bytes) -> Header | Scene:
    """The checked header of a payload, or the checked scene; `PayloadError` if the bytes are neither."""
    return Scene(data) if is_scene(data) else parse_header(data)


def check_result(claims: Header | Scene, manifest: Manifest, options: RestoreOptions, max_pixels: int) -> int:
    """Check the claims of a payload or scene against the bundle, and the size of its picture against the limits.

    Returns:
        Pixels of the picture, at least those of the square that the networks make for it.

    Raises:
        PayloadError: a payload is of another contract, or its LR has another size than the bundle's.
        ImageError: the picture would exceed ``max_pixels``, or the sides of a file of its format, or the bundle does
            not restore pictures of its size.
    """
    if isinstance(claims, Scene):
        for face in claims.faces:
            check_claims(face.header, manifest)
        side = manifest.hr
        width, height = scene_size(claims, manifest.hr, options.size, max_pixels)
    else:
        check_claims(claims, manifest)
        side = enlargement(claims, manifest, options.size) * manifest.hr
        width, height = restored_size(claims, manifest, options.size)
    if width * height > max_pixels:
        raise ImageError(
            f"the picture would have {width} x {height} pixels, more than the limit of {max_pixels}; ask for "
            "size=native or fewer pixels")
    longest = MAX_SIDES[options.format]
    if max(width, height) > longest:
        raise ImageError(
            f"the picture would have {width} x {height} pixels, the sides of a {options.format.upper()} file have at "
            f"most {longest}; ask for image/png or size=native")
    return max(width * height, side * side)


def check_faces(scene: Scene, manifest: Manifest, size: Size, most: int) -> None:
    """Raise `ImageError` for a scene with more than ``most`` faces, of which those that are enlarged count twice."""
    original, sides = scene.original_size, manifest.sides[1:]
    scale = max(scene_size(scene, manifest.hr, size, 1 << 62)) / max(original)
    enlarged = sum(face.header.square is not None and face.header.square.side * scale > manifest.hr
                   for face in scene.faces) if sides else 0
    if len(scene.faces) + enlarged > most:
        counted = f", of which {enlarged} are enlarged and count twice" if enlarged else ""
        raise ImageError(
            f"the scene has {len(scene.faces)} faces{counted}, more than the {most} that are restored here in one "
            f"request; {'ask for size=native or restore' if enlarged else 'restore'} it with the SDK")
