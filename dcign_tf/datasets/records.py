"""Groups as TFRecords, all of one length, written without TensorFlow.

A file is a sequence of records, each a `tf.train.Example` in TFRecord's framing:

    active        int64 [1]    index of the factor that varies; the number of factors where all of them do
    coefficients  float [B*K]  the identities
    degrees       float [B*E]  the extrinsic factors' values, degrees or not; NaN where nobody knows them
    images        bytes        uint8, B*S*S values
    index         bytes        the group's number, eight decimal digits
    shape         int64 [3]    B, S, S

The index is text because a protocol buffer's integers take more bytes the larger they are: so that record j of
any file of a data set lies at j times the record's length and can be read without those before it. Rendering
processes write records; that they need no TensorFlow for it saves each of them seconds and half a gigabyte.
"""

import dataclasses
import functools
import struct

import numba
import numpy as np

_FRAME = 16  # length and its checksum before the payload, the payload's checksum after it
_MAX_INDEX = 10**8


@dataclasses.dataclass(frozen=True)
class RecordLayout:
    """The sizes that give all records of a data set their one length.

    Attributes:
        group_size: images in a group, B.
        image_size: height and width in pixels, S.
        extrinsic: how many extrinsic factors there are, E.
        coefficients: how many numbers describe an identity, K.
    """

    group_size: int
    image_size: int
    extrinsic: int
    coefficients: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a group's images, [B, S, S]."""
        return (self.group_size, self.image_size, self.image_size)

    @property
    def payload_length(self) -> int:
        """Bytes of a serialised Example."""
        return len(self._prefix) + self._features_length

    @property
    def record_length(self) -> int:
        """Bytes from the start of one record to the start of the next."""
        return self.payload_length + _FRAME

    def encode(
        self,
        images: np.ndarray,
        values: np.ndarray,
        coefficients: np.ndarray,
        active: int,
        index: int,
    ) -> bytes:
        """A group as a serialised `tf.train.Example`, what `SerializeToString(deterministic=True)` gives.

        Args:
            images: uint8 [B, S, S] or [B, S, S, 1].
            values: float32 [B, E], the extrinsic factors'.
            coefficients: float32 [B, K].
            active: index of the factor that varies.
            index: the group's number.
        """
        if images.dtype != np.uint8 or images.size != np.prod(self.shape):
            raise ValueError(
                f"images: got {images.dtype} {images.shape}, must be uint8 {self.shape}"
            )
        for name, array, columns in (
            ("values", values, self.extrinsic),
            ("coefficients", coefficients, self.coefficients),
        ):
            if array.shape != (self.group_size, columns):
                raise ValueError(
                    f"{name}: got shape {array.shape}, must be {(self.group_size, columns)}"
                )
        head, tail = self.signature(active, index)
        return b"".join(
            [
                self._prefix,
                head,
                _feature("coefficients", _floats(coefficients)),
                _feature("degrees", _floats(values)),
                _feature("images", _bytes(images.tobytes())),
                tail,
            ]
        )

    def signature(self, active: int, index: int) -> tuple[bytes, bytes]:
        """The first and the last features of a record, by which it can be told from others."""
        if not 0 <= index < _MAX_INDEX:
            raise ValueError(f"index: got {index}, must be 0 to {_MAX_INDEX - 1}")
        if not 0 <= active < 128:
            raise ValueError(f"active: got {active}, must be 0 to 127")
        head = _feature("active", _integers(active))
        tail = _feature("index", _bytes(b"%08d" % index)) + _feature(
            "shape", _integers(*self.shape)
        )
        return head, tail

    def has_signature(self, payload: bytes, active: int, index: int) -> bool:
        """Whether a payload is of this layout and of this group."""
        head, tail = self.signature(active, index)
        start = self._prefix + head
        return (
            len(payload) == self.payload_length
            and payload.startswith(start)
            and payload.endswith(tail)
        )

    @functools.cached_property
    def _features_length(self) -> int:
        fixed = sum(map(len, self.signature(0, 0)))
        for name, length in (
            ("coefficients", 4 * self.group_size * self.coefficients),
            ("degrees", 4 * self.group_size * self.extrinsic),
            ("images", int(np.prod(self.shape))),
        ):
            # The content lies in a list in a feature, and that with its name in an entry of the map.
            feature = _field_length(_field_length(length) if length else 0)
            fixed += _field_length(_field_length(len(name)) + _field_length(feature))
        return fixed

    @functools.cached_property
    def _prefix(self) -> bytes:
        """Tag and length of the Example's one field."""
        return b"\x0a" + _varint(self._features_length)


# --- Protocol buffers: fields are tag, length, content ---------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _field_length(content: int) -> int:
    """How long a field is whose content has this length."""
    return 1 + len(_varint(content)) + content


def _feature(name: str, feature: bytes) -> bytes:
    """An entry of the map `Features.feature`."""
    return _field(1, _field(1, name.encode()) + _field(2, feature))


def _bytes(value: bytes) -> bytes:
    return _field(1, _field(1, value))


def _floats(values: np.ndarray) -> bytes:
    packed = np.ascontiguousarray(values, "<f4").tobytes()
    # An empty list is written as no field at all.
    return _field(2, _field(1, packed) if packed else b"")


def _integers(*values: int) -> bytes:
    return _field(3, _field(1, b"".join(map(_varint, values))))


# --- TFRecord's framing ----------------------------------------------------------------------------------


def frame(payload: bytes) -> bytes:
    """A record: the payload's length, that length's checksum, the payload, its checksum."""
    length = struct.pack("<Q", len(payload))
    return b"".join(
        [
            length,
            struct.pack("<I", masked_crc32c(length)),
            payload,
            struct.pack("<I", masked_crc32c(payload)),
        ]
    )


def unframe(record: bytes) -> bytes | None:
    """The payload of one whole record, or None when a length or a checksum is wrong."""
    if len(record) < _FRAME:
        return None
    length, length_crc = struct.unpack_from("<QI", record)
    if length != len(record) - _FRAME or masked_crc32c(record[:8]) != length_crc:
        return None
    payload = record[12:-4]
    return payload if struct.unpack("<I", record[-4:])[0] == masked_crc32c(payload) else None


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), masked as TFRecord wants it so that data may hold its own checksums."""
    crc = int(_crc32c(np.frombuffer(data, np.uint8), _TABLE))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _make_table() -> np.ndarray:
    """uint32 [8, 256]: row k is the checksum of a byte that k zero bytes follow."""
    table = np.zeros((8, 256), np.uint32)
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, crc >> 1 ^ np.uint32(0x82F63B78), crc >> 1)
    table[0] = crc
    for k in range(1, 8):
        table[k] = table[k - 1] >> 8 ^ table[0][table[k - 1] & 0xFF]
    return table


_TABLE = _make_table()


@numba.njit(cache=True, nogil=True)
def _crc32c(data: np.ndarray, table: np.ndarray) -> int:
    crc = np.uint32(0xFFFFFFFF)
    whole = len(data) // 8 * 8
    # Eight bytes at a time, each looked up for itself: several times as fast as one after the other.
    for i in range(0, whole, 8):
        low = crc ^ (
            np.uint32(data[i])
            | np.uint32(data[i + 1]) << np.uint32(8)
            | np.uint32(data[i + 2]) << np.uint32(16)
            | np.uint32(data[i + 3]) << np.uint32(24)
        )
        crc = (
            table[7, low & np.uint32(0xFF)]
            ^ table[6, (low >> np.uint32(8)) & np.uint32(0xFF)]
            ^ table[5, (low >> np.uint32(16)) & np.uint32(0xFF)]
            ^ table[4, (low >> np.uint32(24)) & np.uint32(0xFF)]
            ^ table[3, data[i + 4]]
            ^ table[2, data[i + 5]]
            ^ table[1, data[i + 6]]
            ^ table[0, data[i + 7]]
        )
    for i in range(whole, len(data)):
        crc = table[0, (crc ^ np.uint32(data[i])) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return int(crc ^ np.uint32(0xFFFFFFFF))
