"""The payload format: an LR with its header, as bytes. ``docs/payload.md`` is its byte table.

    version and LR size 1 | contract id 2 | flags 1 | [LR w, h] | [original w, h] | [square] | body | CRC 3

This is version 2, the one that is written; version 1 is read too. No field is used before the CRC is checked, and
nothing is allocated before every claim is known to be in range.

`parse_payload` does these checks once; all later steps take its result, a `ParsedPayload`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from codec_contract.errors import PayloadError, cut_off
from codec_contract.lr_coder.coder import decode_lr, deflate_lr, encode_lr, inflate_lr
from codec_contract.lr_coder.coder_tables import CoderTables, rounded
from codec_contract.oriented_square import OrientedSquare, centre_square
from codec_contract.payload_text import misread
from codec_contract.pixels import Rgb, describe_array, is_rgb

PAYLOAD_SUFFIX = ".grain"
"""Suffix of payload files, by convention."""

VERSION = 2
"""The version that is written. Its payloads begin with one of five bytes, which say the size of the LR."""
MAGIC = b"\xed\x6e"
"""The beginning of payloads of version 1 and of scenes; the high four bits after it are 1 or `SCENE_VERSION`."""
SCENE_VERSION = 2
CODING_RAW = 0
CODING_RANGE = 1
CODING_DEFLATE = 2
CODINGS = (CODING_RAW, CODING_RANGE, CODING_DEFLATE)
FIT_PAD, FIT_STRETCH, FIT_CROP = "pad", "stretch", "crop"
FITS = (FIT_PAD, FIT_STRETCH, FIT_CROP)
"""Fit policies; the index is the code on the wire, where ``FIT_ALIGN`` follows them."""
FIT_ALIGN = "align"  # the fit of a payload whose header says which square of the original was cut out

CONTRACT_ID_BYTES = 2  # bytes of the LR contract id in a payload; version 1 has four
MAX_LR_SIDE = 256  # longest side of ordinary LRs, which the range coder takes
MAX_LARGE_LR_SIDE = 65535
MAX_LARGE_LR_PIXELS = 1 << 24  # most pixels in the LR of a photograph: a quarter of each side of the largest original
MAX_ORIGINAL_SIDE = 65535
MAX_ORIGINAL_PIXELS = 1 << 28

_WIRE_FITS = (*FITS, FIT_ALIGN)
_LR_SIZES = ((16, 16), (32, 32), (64, 64), (128, 128))
_FIRST = 0xA8  # first byte of a payload with the first of these sizes
_LAST = _FIRST + len(_LR_SIZES)  # first byte of a payload with another size, which follows
_USUAL_ORIGINAL = (256, 256)
_ORIGINAL_FOLLOWS = 16
_LARGE_SIZE, _EXPLICIT_SIZE = 14, 15  # of version 1
_MIN_BYTES = {1: 14, 2: 7}
_CRC_BYTES = {1: 4, 2: 3}
# The longest payloads are those of version 1: 12 bytes, two for an LR size or six for a large one, six for that of the
# original, 12 for the square, and the body.
MAX_PAYLOAD_BYTES = 12 + 2 + 6 + 12 + 3 * MAX_LR_SIDE * MAX_LR_SIDE  # longest payload of an ordinary LR
MAX_LARGE_PAYLOAD_BYTES = 12 + 6 + 6 + 12 + 3 * MAX_LARGE_LR_PIXELS  # longest payload of any LR

BytesLike = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Header:
    """The header of a payload; every field was checked against its range."""

    version: int
    coding: int
    contract_id: bytes
    """The first two bytes of the LR contract id; four in version 1."""
    lr_width: int
    lr_height: int
    original_width: int
    original_height: int
    fit: str
    """One of ``FITS``, or ``FIT_ALIGN``: how the original was brought to the encoder's square."""
    square: OrientedSquare | None = None
    """The square that was cut out of the original; only with ``FIT_ALIGN``."""

    @property
    def original_size(self) -> tuple[int, int]:
        """(width, height) of the original picture, in pixels."""
        return self.original_width, self.original_height

    @property
    def lr_size(self) -> tuple[int, int]:
        """(width, height) of the LR."""
        return self.lr_width, self.lr_height

    def is_of(self, contract_id: bytes) -> bool:
        """True if the payload names this LR contract, given by its 32 bytes or their beginning."""
        return contract_id[: len(self.contract_id)] == self.contract_id

    @property
    def cut(self) -> OrientedSquare | None:
        """The part of the original that the encoder saw; None with the fits that show all of it."""
        return centre_square(self.original_size) if self.fit == FIT_CROP else self.square


@dataclass(frozen=True)
class ParsedPayload:
    """A payload whose length, CRC and header were checked; the body is still coded."""

    header: Header
    body: bytes


def encode_payload(
    lr: Rgb,
    *,
    contract_id: bytes,
    tables: CoderTables,
    original_size: tuple[int, int],
    fit: str = FIT_PAD,
    coding: int = CODING_RANGE,
    square: OrientedSquare | None = None,
) -> bytes:
    """Pack an LR, uint8 ``[h, w, 3]``, into a payload; `PayloadError` for arguments outside the range of the format.

    Args:
        lr: sides of 1 to 256, or, for the LRs of photographs, up to 65,535 with at most 2^24 pixels.
        contract_id: the 32-byte LR contract id, or its first two bytes.
        tables: the coder tables of that contract. In every coding, levels are rounded to multiples of their step.
        original_size: (width, height) of the picture before fitting, in pixels.
        fit: how the picture was fitted, one of ``FITS``, or ``FIT_ALIGN``.
        coding: 1 for the range coder (an LR with a side over 256 is deflated instead), 2 for deflate, 0 for raw bytes.
            A body that coding does not shorten is stored raw.
        square: the square that was cut out of the picture; required with ``FIT_ALIGN``, not allowed otherwise.
    """
    if not is_rgb(lr):
        raise PayloadError(f"an LR is uint8 [h, w, 3], got {describe_array(lr)}")
    height, width = lr.shape[:2]
    _check_lr_size(width, height)
    if len(contract_id) not in (CONTRACT_ID_BYTES, 32):
        raise PayloadError(f"a contract id has 32 bytes, or 2 for its beginning, got {len(contract_id)}")
    if fit not in _WIRE_FITS:
        raise PayloadError(f"unknown fit {fit!r}, expected one of {', '.join(_WIRE_FITS)}")
    if (fit == FIT_ALIGN) != (square is not None):
        raise PayloadError(f"the fit {FIT_ALIGN} needs a square, no other fit has one; got {fit} and {square}")
    if coding not in CODINGS:
        raise PayloadError(f"unknown coding {coding}, expected 0 (raw), 1 (range coder) or 2 (deflate)")
    check_original(*original_size)
    if square is not None:
        square.check(original_size)
    if coding == CODING_RANGE and max(width, height) > MAX_LR_SIDE:
        coding = CODING_DEFLATE  # at some microseconds a sample, megapixels would take minutes

    lr = rounded(lr, tables.step)
    body = lr.tobytes()
    if coding != CODING_RAW:
        coded = encode_lr(lr, tables) if coding == CODING_RANGE else deflate_lr(lr)
        if len(coded) < len(body):
            body = coded
        else:
            coding = CODING_RAW
    numbers: list[int] = []
    first, flags = _LAST, _WIRE_FITS.index(fit) | coding << 2
    if (width, height) in _LR_SIZES:
        first = _FIRST + _LR_SIZES.index((width, height))
    else:
        numbers += (width, height)
    if original_size != _USUAL_ORIGINAL:
        flags |= _ORIGINAL_FOLLOWS
        numbers += original_size
    if square is not None:
        numbers += (square.x, square.y, *(2 * abs(step) - (step < 0) for step in (square.across_x, square.across_y)))
    head = bytes((first, *contract_id[:CONTRACT_ID_BYTES], flags)) + b"".join(map(write_leb128, numbers))
    return head + body + _crc(head + body, _CRC_BYTES[VERSION])


def parse_payload(data: BytesLike) -> ParsedPayload:
    """Check a payload's length, CRC and every claim of its header; `PayloadError` if one is wrong."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise PayloadError(f"a payload is bytes, got {type(data).__name__}; Payload.from_text reads a text")
    length = memoryview(data).nbytes
    if not length:
        raise PayloadError("the payload is empty: 0 bytes")
    if length > MAX_LARGE_PAYLOAD_BYTES:
        raise PayloadError(f"a payload has at most {MAX_LARGE_PAYLOAD_BYTES} bytes, got {length}")
    data = bytes(data)
    version = _version(data)
    if version == 1 and not MAGIC.startswith(data[:2]):
        begins = f"it begins with {data[:2].hex()}, a payload with {_FIRST:x} to {_LAST:x} or {MAGIC.hex()}"
        raise PayloadError(f"not a payload: {misread(data) or begins}")
    if length < _MIN_BYTES[version]:
        raise cut_off(f"a payload has at least {_MIN_BYTES[version]} bytes, got {length}; it was truncated")
    if version == 1 and data[2] >> 4 == SCENE_VERSION:
        advice = "restore gives the whole photograph, without another background; sdk.Scene reads its faces"
        raise PayloadError(f"this is a scene of several faces, not the payload of one picture: {advice}")
    if version == 1 and data[2] >> 4 != 1:
        known = "this release reads versions 1 and 2; it is corrupt or needs a newer edgegrain"
        raise PayloadError(f"payload version {data[2] >> 4} is unknown, {known}")
    try:
        end = check_crc(data)
    except PayloadError:
        _refuse_truncated(data)
        raise
    header, position = _read_header(data, end)
    body = data[position:end]
    (width, height), raw = header.lr_size, _raw_bytes(header)
    if header.coding == CODING_RAW and len(body) != raw:
        raise PayloadError(f"a raw body of an LR of {width} x {height} has {raw} bytes, this one {len(body)}")
    if header.coding != CODING_RAW and len(body) >= raw:
        raise PayloadError(f"a coded body is shorter than the {raw} bytes of its LR, this one has {len(body)}")
    return ParsedPayload(header, body)


def other_contract(header: Header, explanation: str) -> PayloadError:
    """The error for a payload of another LR contract; ``explanation`` names those at hand and says what to do."""
    return PayloadError(f"the payload was made under LR contract {header.contract_id.hex()}, {explanation}")


def decode_body(payload: ParsedPayload, tables: CoderTables) -> Rgb:
    """Decode a payload's body with the coder tables of its contract to the LR, uint8 ``[h, w, 3]``; `PayloadError` if
    it is corrupt."""
    body, coding, (width, height), step = payload.body, payload.header.coding, payload.header.lr_size, tables.step
    if coding == CODING_RANGE:
        return decode_lr(body, width, height, tables)
    if coding == CODING_RAW:
        lr = np.frombuffer(body, dtype=np.uint8).reshape(height, width, 3).copy()
    else:
        lr = inflate_lr(body, width, height)
    if not np.array_equal(rounded(lr, step), lr):
        raise PayloadError(f"the payload is corrupt: its levels are no multiples of {step}, the step of its contract")
    return lr


def check_crc(data: bytes) -> int:
    """The position of the CRC at the end of a payload or scene; `PayloadError` if it is not that of what precedes."""
    size = _CRC_BYTES[_version(data)]
    end = max(0, len(data) - size)
    stored, computed = data[end:], _crc(data[:end], size)
    if stored == computed:
        return end
    before = data.replace(b"\r\n", b"\n")
    if len(before) > size and before[-size:] == _crc(before[:-size], size):
        advice = "write it in binary mode, or send Payload.text()"
        raise PayloadError(f"the payload was written as text, which put a CR before each LF; {advice}")
    crcs = f"the CRC of its {len(data)} bytes is {computed[::-1].hex()}, it says {stored[::-1].hex()}"
    raise PayloadError(f"the payload is corrupt or truncated: {crcs}; compare the length with the sender's")


def _crc(data: bytes, size: int) -> bytes:
    """The low ``size`` bytes of the CRC-32, little endian."""
    return zlib.crc32(data).to_bytes(4, "little")[:size]


def _version(data: bytes) -> int:
    """2 for bytes that begin as a payload of version 2, else 1; scenes have the CRC of version 1."""
    return VERSION if data and _FIRST <= data[0] <= _LAST else 1


def check_original(width: int, height: int) -> None:
    """Raise `PayloadError` for the size of an original that the format cannot say."""
    for name, side in (("width", width), ("height", height)):
        if not 1 <= side <= MAX_ORIGINAL_SIDE:
            raise PayloadError(f"the original {name} must be 1 to {MAX_ORIGINAL_SIDE} pixels, is {side}")
    if width * height > MAX_ORIGINAL_PIXELS:
        raise PayloadError(f"the original of {width} x {height} exceeds {MAX_ORIGINAL_PIXELS} pixels, the most allowed")


def _check_lr_size(width: int, height: int) -> None:
    if not (1 <= width <= MAX_LARGE_LR_SIDE and 1 <= height <= MAX_LARGE_LR_SIDE):
        raise PayloadError(f"an LR has sides of 1 to {MAX_LARGE_LR_SIDE}, got {width} x {height}")
    if width * height > MAX_LARGE_LR_PIXELS:
        raise PayloadError(f"an LR of {width} x {height} exceeds {MAX_LARGE_LR_PIXELS} pixels, the most allowed")


def _refuse_truncated(data: bytes) -> None:
    """Raise the error of a payload whose end is missing, as far as its header says so; only a raw body has a length."""
    try:
        header, position = _read_header(data, len(data))
    except PayloadError as error:
        if error.truncated:
            raise
        return
    whole = position + _raw_bytes(header) + _CRC_BYTES[header.version]
    if header.coding == CODING_RAW and len(data) < whole:
        raise cut_off(f"the payload is truncated: {len(data)} of {whole} bytes; ask for the rest")


def _read_header(data: bytes, end: int) -> tuple[Header, int]:
    """The header of at least as many bytes as `_MIN_BYTES`, and the position after it; errors as `parse_payload`."""
    version = _version(data)
    if version == 1:
        contract_id, flags, numbers = data[3:7], data[7], Numbers(data, 8, end)
        coding, reserved, original_follows = data[2] & 15, flags >> 6, True
    else:
        contract_id, flags, numbers = data[1:3], data[3], Numbers(data, 4, end)
        coding, reserved, original_follows = flags >> 2 & 3, flags >> 5, bool(flags & _ORIGINAL_FOLLOWS)
    if coding not in CODINGS:
        raise PayloadError(f"payload coding {coding} is unknown, expected 0 (raw), 1 (range coder) or 2 (deflate)")
    if reserved:
        raise PayloadError(f"reserved flag bits are set ({flags:08b}); a newer edgegrain may read this")
    lr_size = _read_lr_size(data[0], flags >> 2 & 15 if version == 1 else None, numbers)
    if max(lr_size) > MAX_LR_SIDE and coding == CODING_RANGE:
        raise PayloadError(f"an LR of {lr_size[0]} x {lr_size[1]} is too large for coding 1, the range coder")
    original_size = _USUAL_ORIGINAL
    if original_follows:
        original_size = numbers.size("original")
        check_original(*original_size)
        if version != 1 and original_size == _USUAL_ORIGINAL:
            raise PayloadError("the original size 256 x 256 is written, though it is the one that is left out")
    fit, square = _WIRE_FITS[flags & 3], None
    if fit == FIT_ALIGN:
        x, y, *across = (numbers.next(f"square's {name}") for name in ("x", "y", "edge", "slope"))
        square = OrientedSquare(x, y, *(-(code >> 1) - 1 if code & 1 else code >> 1 for code in across))
        square.check(original_size)
    return Header(version, coding, contract_id, *lr_size, *original_size, fit, square), numbers.position


def _raw_bytes(header: Header) -> int:
    return 3 * header.lr_width * header.lr_height


def _read_lr_size(first: int, code: int | None, numbers: Numbers) -> tuple[int, int]:
    """(width, height) of the LR; version 1 has a code, one of which for every square of a power of two up to 256."""
    if code is None and first != _LAST:
        return _LR_SIZES[first - _FIRST]
    if code is not None and code <= 8:
        return 1 << code, 1 << code
    if code == _EXPLICIT_SIZE:
        width, height = (side + 1 for side in numbers.take(2))
        short = width == height and width.bit_count() == 1
    elif code in (None, _LARGE_SIZE):
        width, height = numbers.size("LR")
        _check_lr_size(width, height)
        short = max(width, height) <= MAX_LR_SIDE if code else (width, height) in _LR_SIZES
    else:
        raise PayloadError(f"LR size code {code} is unknown, expected 0 to 8, 14 or 15")
    if short:
        raise PayloadError(f"the LR size {width} x {height} has a short code that was not used")
    return width, height


def write_leb128(value: int) -> bytes:
    """LEB128: a number in as few bytes as possible, low bits first; the high bit of a byte is set if more follow."""
    output = bytearray()
    while value > 127:
        output.append(value & 127 | 128)
        value >>= 7
    return bytes((*output, value))


class Numbers:
    """Reads numbers in LEB128 from a position on, up to an end; `PayloadError`s name the number."""

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data, self.position, self.end = data, position, end

    def take(self, count: int) -> bytes:
        """The next bytes, fewer at the end of the data."""
        self.position += count
        return self.data[self.position - count : self.position]

    def next(self, name: str) -> int:
        """A number in at most three bytes, of the shortest form only."""
        value = 0
        for count in range(3):
            if self.position >= self.end:
                raise cut_off(f"the payload is truncated: it ends inside the {name}")
            (byte,) = self.take(1)
            value |= (byte & 127) << (7 * count)
            if byte < 128:
                if byte == 0 and count:
                    raise PayloadError(f"the {name} is written with more bytes than it needs")
                return value
        raise PayloadError(f"the {name} takes more than three bytes, so it exceeds {(1 << 21) - 1}")

    def size(self, name: str) -> tuple[int, int]:
        """(width, height)."""
        return self.next(f"{name} width"), self.next(f"{name} height")
