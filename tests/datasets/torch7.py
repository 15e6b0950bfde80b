"""Writes files as Torch7's `torch.save` does, from its description alone: for tests."""

import struct
from typing import Any

import numpy as np

_NAMES = {
    "u1": "Byte",
    "i1": "Char",
    "i2": "Short",
    "i4": "Int",
    "i8": "Long",
    "f4": "Float",
    "f8": "Double",
}


def saved(value: Any) -> bytes:
    """What `torch.save` writes of an object: None, bool, numbers, str, dict, arrays (strided as they are)."""
    return _Writer().object(value)


class _Writer:
    def __init__(self) -> None:
        self._indices: dict[int, int] = {}
        self._kept: list[Any] = []  # An id is one thing's only as long as it lives.

    def object(self, value: Any) -> bytes:
        if value is None:
            return _int(0)
        if isinstance(value, bool):
            return _int(5) + _int(value)
        if isinstance(value, int | float):
            return _int(1) + struct.pack("<d", value)
        if isinstance(value, str):
            return _int(2) + _text(value.encode())
        if isinstance(value, dict):
            known, start = self._index(3, id(value), value)
            if known:
                return start
            entries = [self.object(part) for entry in value.items() for part in entry]
            return start + _int(len(value)) + b"".join(entries)
        return self._tensor(value)

    def _index(self, kind: int, identity: int, value: Any) -> tuple[bool, bytes]:
        known = identity in self._indices
        self._kept.append(value)
        index = self._indices.setdefault(identity, len(self._indices) + 1)
        return known, _int(kind) + _int(index)

    def _tensor(self, array: np.ndarray) -> bytes:
        name = b"torch." + _NAMES[array.dtype.str[1:]].encode()
        known, start = self._index(4, id(array), array)
        if known:
            return start
        storage = array
        while isinstance(storage.base, np.ndarray):
            storage = storage.base
        first = array.__array_interface__["data"][0] - storage.__array_interface__["data"][0]
        offset = first // array.itemsize + 1
        steps = [step // array.itemsize for step in array.strides]
        content = start + _text(b"V 1") + _text(name + b"Tensor")
        content += struct.pack(f"<i{2 * array.ndim}qq", array.ndim, *array.shape, *steps, offset)
        known, start = self._index(4, -id(storage), storage)
        if known:
            return content + start
        content += start + _text(b"V 1") + _text(name + b"Storage")
        return content + struct.pack("<q", storage.size) + storage.tobytes()


def _int(value: int) -> bytes:
    return struct.pack("<i", value)


def _text(value: bytes) -> bytes:
    return _int(len(value)) + value
