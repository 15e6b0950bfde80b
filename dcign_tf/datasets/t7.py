"""Files of Torch7's `torch.save` in its binary form, without Torch.

The form, as Torch7 writes it on 64-bit little-endian machines (torch7: File.lua, generic/Tensor.c, generic/Storage.c);
`int` has 4 bytes, `long` 8, `double` 8; nothing is aligned:

    object   int type, then
               0  nil       nothing
               1  number    double
               2  string    int length, its bytes
               5  boolean   int, 1 for true
               3  table     int index; unless that index was there before: int n, n times key and value (objects)
               4  torch     int index; unless that index was there before: string "V 1" (versions before: none),
                            string class, the object's own data
               6, 7, 8      functions, whose code is never looked at
    tensor   int dimensions, long sizes[], long strides[], long offset (from 1), storage or nil (an object)
    storage  long n, n elements
    others   an object, mostly a table: the fields

Files are not trusted: each size is compared with what is left of the file before anything is made of it.
"""

import dataclasses
import math
import os
import pathlib
import re
import struct
from typing import Any

import numpy as np

from dcign_tf import files
from dcign_tf.errors import DcignError

MAX_BYTES = 1 << 30
# What bounds memory: 4 bytes of a file may make an object of 200.
MAX_OBJECTS = 1_000_000
MAX_DEPTH = 100
MAX_DIMENSIONS = 16

_NIL, _NUMBER, _STRING, _TABLE, _TORCH, _BOOLEAN, _FUNCTION, _OLD_CLOSURE, _CLOSURE = range(9)
_ELEMENTS = {
    "Byte": "u1",
    "Char": "i1",
    "Short": "<i2",
    "Int": "<i4",
    "Long": "<i8",
    "Half": "<f2",
    "Float": "<f4",
    "Double": "<f8",
}
# How a file that is something else can begin, to tell its owner what it is.
_OTHER_KINDS = (
    (b"PK\x03\x04", "a ZIP archive, perhaps of PyTorch"),
    (b"\x80", "a Python pickle, perhaps of PyTorch"),
    (b"\x89PNG", "a PNG image"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "gzip data"),
    (b"\0\0\0", "of a big-endian machine"),
)


@dataclasses.dataclass
class TorchObject:
    """An object of a class other than tensors and storages.

    Attributes:
        name: of its class.
        fields: what it holds, mostly a dict.
    """

    name: str
    fields: Any = None


@dataclasses.dataclass
class Function:
    """Stands for a Lua function, which is never read, let alone run."""


def read(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> Any:
    """Reads the object in a file, as `parse` does.

    Args:
        path: the file.
        max_bytes: a larger file is refused.

    Raises:
        DcignError: the file cannot be read, or `parse` refuses it.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file:
            data = files.read_at_most(file, max_bytes + 1)
    except OSError as error:
        raise DcignError(f"{path}: {error.strerror or error}") from error
    if len(data) > max_bytes:
        raise DcignError(f"{path}: larger than {max_bytes / 2**20:.4g} MiB, too large to be read")
    return parse(data, str(path))


def parse(data: bytes, name: str) -> Any:
    """Reads the object in a file's content.

    Args:
        data: the whole content.
        name: what to call the file in errors.

    Returns:
        nil is None; numbers, booleans and strings (UTF-8; other bytes become surrogates) are Python's; a table is a
        dict whose whole numbers are int; tensors and storages are read-only arrays that share the memory of
        `data`; all else is a `TorchObject` or a `Function`. One object that is there several times is the same one.

    Raises:
        DcignError: it is no such file, cut short, or says what cannot be; the message names the byte.
    """
    reader = _Reader(data)
    try:
        value = reader.object(0)
        if reader.at != len(data):
            raise _Wrong(
                f"the object ends here, {len(data) - reader.at} bytes before the file's end"
            )
        return value
    except _Wrong as error:
        what = _describe(data)
        if what:
            raise DcignError(f"{name}: not a binary file of Torch7 but {what}") from error
        raise DcignError(
            f"{name}: not a whole binary file of Torch7: at byte {reader.at}: {error}"
        ) from None


def _describe(data: bytes) -> str | None:
    """Says what a file is that is none of Torch7's; None when that is not known."""
    if not data:
        return "an empty file"
    if re.match(rb"[0-8]\n", data):
        return "its ASCII form; save it with torch.save(path, object), which is binary"
    for start, kind in _OTHER_KINDS:
        if data.startswith(start) and data[:4] != b"\0\0\0\0":
            return kind
    return None


class _Wrong(Exception):
    """The content is not as it must be."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data
        self._known: dict[int, Any] = {}
        self._objects = 0

    def object(self, depth: int) -> Any:
        """The object that begins here, with all it holds."""
        self._objects += 1
        if self._objects > MAX_OBJECTS:
            raise _Wrong(f"more than {MAX_OBJECTS} objects")
        if depth > MAX_DEPTH:
            raise _Wrong(f"objects in objects, more than {MAX_DEPTH} deep")
        kind = self._int("a type")
        if kind == _NIL:
            return None
        if kind == _NUMBER:
            return struct.unpack("<d", self._bytes(8, "a number"))[0]
        if kind == _STRING:
            return self._string("a string")
        if kind == _BOOLEAN:
            return self._int("a boolean") == 1
        if kind == _FUNCTION:  # The oldest form, without an index.
            return self._function(depth)
        if kind not in (_TABLE, _TORCH, _OLD_CLOSURE, _CLOSURE):
            raise _Wrong(f"got type {kind} of an object, must be 0 to 8")
        index = self._int("an index")
        if index in self._known:
            return self._known[index]
        if kind == _TABLE:
            return self._table(index, depth)
        if kind == _TORCH:
            return self._torch(index, depth)
        self._known[index] = Function()
        return self._function(depth)

    def _table(self, index: int, depth: int) -> dict[Any, Any]:
        count = self._int("a table's size")
        # The shortest entry is an empty text and a nil.
        if not 0 <= count <= (len(self._data) - self.at) // 12:
            raise _Wrong(f"got a table of {count} entries, more than the file can hold")
        table: dict[Any, Any] = {}
        self._known[index] = table
        for _ in range(count):
            key = self.object(depth + 1)
            if isinstance(key, float) and key.is_integer():
                key = int(key)
            elif not isinstance(key, float | str) or key != key:
                raise _Wrong(
                    f"got a table's key of type {type(key).__name__}, must be a number or text"
                )
            table[key] = self.object(depth + 1)
        return table

    def _torch(self, index: int, depth: int) -> Any:
        name = self._string("a version")
        if re.fullmatch(r"V \d{1,9}", name):
            name = self._string("a class")
        match = re.fullmatch(r"torch\.([A-Z][a-z]+)(Tensor|Storage)", name)
        if match is None or match[1] not in _ELEMENTS:
            if name.startswith("torch.") or not re.fullmatch(r"[A-Za-z_][\w.]{0,200}", name):
                raise _Wrong(f"got class {name[:60]!r}, which is not read")
            self._known[index] = thing = TorchObject(name)
            thing.fields = self.object(depth + 1)
            return thing
        # Until it is read, it cannot be what it holds itself.
        self._known[index] = None
        dtype = np.dtype(_ELEMENTS[match[1]])
        array = self._storage(dtype) if match[2] == "Storage" else self._tensor(dtype, depth)
        self._known[index] = array
        return array

    def _storage(self, dtype: np.dtype) -> np.ndarray:
        count = self._long("a storage's size")
        if not 0 <= count <= (len(self._data) - self.at) // dtype.itemsize:
            raise _Wrong(f"got a storage of {count} elements, more than the file can hold")
        start = self.at
        self.at += count * dtype.itemsize
        return np.frombuffer(self._data, dtype, count, start)

    def _tensor(self, dtype: np.dtype, depth: int) -> np.ndarray:
        dimensions = self._int("a tensor's dimensions")
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise _Wrong(
                f"got a tensor of {dimensions} dimensions, must be at most {MAX_DIMENSIONS}"
            )
        sizes = [self._long("a tensor's size") for _ in range(dimensions)]
        strides = [self._long("a tensor's stride") for _ in range(dimensions)]
        offset = self._long("a tensor's offset") - 1
        storage = self.object(depth + 1)
        if storage is None:
            storage = np.zeros(0, dtype)
        if not isinstance(storage, np.ndarray) or storage.ndim != 1 or storage.dtype != dtype:
            raise _Wrong("a tensor without a storage of its type")
        if dimensions == 0:
            return storage[:0]
        shape = " x ".join(map(str, sizes))
        if min(sizes) < 0 or min(strides) < 0 or offset < 0:
            raise _Wrong(f"got a tensor {shape} with strides {strides}, offset {offset + 1}")
        if math.prod(sizes) > len(storage):
            # Tensors may repeat elements, but a copy of such a one takes memory without bounds.
            raise _Wrong(f"got a tensor {shape} of a storage of {len(storage)} elements")
        if min(sizes) == 0:
            # numpy has no array of, say, 0 x 2^62.
            return storage[:0]
        last = offset + sum(
            (size - 1) * stride for size, stride in zip(sizes, strides, strict=True)
        )
        if last >= len(storage):
            raise _Wrong(
                f"got a tensor {shape} with strides {strides} that ends at element {last + 1} of a storage of "
                f"{len(storage)}"
            )
        # A dimension of one element never steps: what its stride says can be too large for numpy.
        steps = [
            stride * dtype.itemsize if size > 1 else 0
            for size, stride in zip(sizes, strides, strict=True)
        ]
        return np.lib.stride_tricks.as_strided(storage[offset:], sizes, steps, writeable=False)

    def _function(self, depth: int) -> Function:
        self._bytes(self._int("the length of a function"), "a function")
        self.object(depth + 1)  # Its variables.
        return Function()

    def _string(self, what: str) -> str:
        return self._bytes(self._int(f"the length of {what}"), what).decode(
            "utf-8", "surrogateescape"
        )

    def _int(self, what: str) -> int:
        return int.from_bytes(self._bytes(4, what), "little", signed=True)

    def _long(self, what: str) -> int:
        return int.from_bytes(self._bytes(8, what), "little", signed=True)

    def _bytes(self, count: int, what: str) -> bytes:
        left = len(self._data) - self.at
        if not 0 <= count <= left:
            raise _Wrong(f"{what} of {count} bytes, but {left} are left")
        self.at += count
        return self._data[self.at - count : self.at]
