"""Numbers and texts out of MATLAB's `.mat` files of level 5 that may be damaged, foreign or made to harm.

A reader of its own rather than `scipy.io.loadmat`, which takes a file's word for how much memory a variable needs
and decompresses without limit; damaged cell arrays crash it. Only full, two-dimensional arrays of real numbers are
read, a column at a time, as they are stored, and cell arrays of short texts; anything else (objects, functions,
structs, sparse arrays) is refused by name. The format is described in The MathWorks' "MAT-File Format".
"""

import dataclasses
import io
import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np

HEADER = b"MATLAB 5.0 MAT-file"

_HEADER_BYTES = 128
_MAX_VARIABLES = 1000
_MAX_PART = 256  # bytes of flags, sizes or name
_MAX_BYTES = 1 << 30  # of one variable
_EXPANSION = 1032  # zlib makes at most so many bytes of one
_PIECE = 1 << 16

_MAX_TEXTS = 100_000
_MAX_TEXT = 1024  # bytes of a text and what is said of it

_MATRIX, _COMPRESSED = 14, 15
_CELL, _TEXT = 1, 4
# How letters are stored: as MATLAB's own 16 bits, or in Unicode.
_LETTERS = {1: "utf-8", 2: "utf-8", 16: "utf-8", 4: "utf-16", 17: "utf-16"}
_STORAGE = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4"},
    **{7: "f4", 9: "f8", 12: "i8", 13: "u8"},
}
# What a variable can be besides an array of numbers; those are 6 (double) to 15 (uint64).
_OTHERS = {
    _CELL: "a cell array",
    2: "a struct",
    3: "an object",
    _TEXT: "text",
    5: "a sparse array",
    16: "a function",
    17: "an object",
}
_OPAQUE = 17  # has no sizes
_COMPLEX = 0x08


@dataclasses.dataclass(frozen=True)
class Variable:
    """A variable in a file, of which only the beginning has been read.

    Attributes:
        position: of its content in the file.
        length: of its content in the file, in bytes.
        compressed: whether that is compressed.
        order: "<" or ">".
        name: as MATLAB knows it.
        shape: as MATLAB says it, rows first.
        dtype: of the numbers as they are stored.
        refusal: why they cannot be read, or "".
    """

    position: int
    length: int
    compressed: bool
    order: str
    name: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    refusal: str = ""


def index(file: IO[bytes]) -> dict[str, Variable]:
    """The variables of an open file by name.

    Raises:
        ValueError: it is no such file, or damaged.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    header = file.read(_HEADER_BYTES)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if not header.startswith(HEADER) or order is None:
        raise ValueError("not a MATLAB file of level 5")
    variables: dict[str, Variable] = {}
    position = _HEADER_BYTES
    for _ in range(_MAX_VARIABLES):
        if position == size:
            return variables
        file.seek(position)
        tag = file.read(8)
        kind, length = struct.unpack(order + "II", tag) if len(tag) == 8 else (_MATRIX, size)
        position += 8
        if kind not in (_MATRIX, _COMPRESSED):
            raise ValueError(f"type {kind} at byte {position - 8}, where a variable must begin")
        if length > size - position:
            raise ValueError(f"cut short within the variable at byte {position - 8}")
        variable = Variable(position, length, kind == _COMPRESSED, order)
        try:
            variable = _described(file, variable)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"variable at byte {position - 8}: {error}") from error
        if variable.name in variables:
            raise ValueError(f"{variable.name}: there twice")
        variables[variable.name] = variable
        position += length
    raise ValueError(f"more than {_MAX_VARIABLES - 1} variables")


def find(variables: Mapping[str, Variable], name: str) -> Variable:
    """The variable of this name.

    Raises:
        ValueError: it is missing or no array of numbers.
    """
    if name not in variables:
        raise ValueError(f"{name}: missing")
    if variables[name].refusal:
        raise ValueError(f"{name}: {variables[name].refusal}")
    return variables[name]


def columns(file: IO[bytes], variable: Variable) -> Iterator[np.ndarray]:
    """Reads a variable that `find` found column by column, [rows] each, as numbers of the type they are stored in.

    Raises:
        ValueError: it is damaged; the message starts with its name.
    """
    rows, count = variable.shape
    dtype = np.dtype(variable.dtype)
    try:
        content = _Content(file, variable)
        for _ in range(3):  # Flags, sizes and name, which `index` has read.
            content.part()
        content.tag()
        for _ in range(count):
            yield np.frombuffer(content.read(rows * dtype.itemsize), dtype)
        content.finish()
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{variable.name}: {error}") from error


def texts(file: IO[bytes], variables: Mapping[str, Variable], name: str) -> list[str]:
    """Reads a cell array of texts of one line each, in MATLAB's order: column by column.

    Raises:
        ValueError: it is missing, no such array, or damaged; the message starts with its name.
    """
    if name not in variables:
        raise ValueError(f"{name}: missing")
    variable = variables[name]
    if variable.refusal != _not_numbers(_CELL):
        found_instead = variable.refusal.split(",")[0] or "numbers"
        raise ValueError(f"{name}: {found_instead}, must be a cell array of texts")
    if min(variable.shape) < 0 or (count := math.prod(variable.shape)) > _MAX_TEXTS:
        raise ValueError(f"{name}: of shape {variable.shape}, must be at most {_MAX_TEXTS} texts")
    try:
        content = _Content(file, variable)
        for _ in range(3):  # Flags, sizes and name.
            content.part()
        found = []
        for _ in range(count):
            kind, length = content.tag()
            if kind != _MATRIX or length > _MAX_TEXT:
                raise ValueError("damaged, or holds what is no short text")
            found.append(_text(content.read(length), variable.order))
        content.finish()
        return found
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{name}: {error}") from error


def _text(data: bytes, order: str) -> str:
    """The text that is all of a cell's content."""
    content = _Content(io.BytesIO(data), Variable(0, len(data), False, order))
    _, flags = content.part()
    if len(flags) != 8 or struct.unpack(order + "II", flags)[0] & 0xFF != _TEXT:
        raise ValueError("holds what is no text")
    for _ in range(2):  # Sizes, of which there is one line, and a name, of which there is none.
        content.part()
    kind, letters = content.part()
    if kind not in _LETTERS:
        raise ValueError(f"text of the unknown type {kind}")
    coding = _LETTERS[kind]
    return letters.decode(
        f"{coding}-{'le' if order == '<' else 'be'}" if "16" in coding else coding
    )


def _described(file: IO[bytes], variable: Variable) -> Variable:
    """The variable with what its beginning says of it."""
    content = _Content(file, variable)
    kind, flags = content.part()
    if kind != 6 or len(flags) != 8:
        raise ValueError("damaged flags")
    flag = struct.unpack(variable.order + "II", flags)[0]
    of_class = flag & 0xFF
    shape: tuple[int, ...] = ()
    if of_class != _OPAQUE:
        kind, sizes = content.part()
        if kind != 5 or len(sizes) % 4:
            raise ValueError("damaged sizes")
        shape = struct.unpack(f"{variable.order}{len(sizes) // 4}i", sizes)
    kind, letters = content.part()
    if kind not in (1, 2):
        raise ValueError("damaged name")
    name = letters.decode("ascii", "backslashreplace")
    dtype, refusal = "", ""
    if of_class in _OTHERS:
        refusal = _not_numbers(of_class)
    elif not 6 <= of_class <= 15:
        refusal = f"of the unknown class {of_class}"
    elif flag >> 8 & _COMPLEX:
        refusal = "complex numbers, must be an array of real numbers"
    elif len(shape) != 2 or min(shape) < 0:
        refusal = f"an array of shape {shape}, must have two dimensions"
    else:
        dtype, refusal = _numbers(content, variable, shape)
    return dataclasses.replace(variable, name=name, shape=shape, dtype=dtype, refusal=refusal)


def _not_numbers(of_class: int) -> str:
    return f"{_OTHERS[of_class]}, must be an array of real numbers"


def _numbers(content: "_Content", variable: Variable, shape: tuple[int, ...]) -> tuple[str, str]:
    """How the numbers are stored, and why they cannot be read, or ""."""
    kind, length = content.tag()
    if kind not in _STORAGE:
        return "", f"numbers of the unknown type {kind}"
    dtype = variable.order + _STORAGE[kind]
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if length != size:
        return "", f"got {length} bytes, must be {size} for {shape} of {np.dtype(dtype)}"
    if size > _MAX_BYTES or size > variable.length * (_EXPANSION if variable.compressed else 1):
        return "", f"an array of shape {shape}, which is too large"
    return dtype, ""


class _Content:
    """The parts of a variable, read from the front; nothing is decompressed before it is asked for."""

    def __init__(self, file: IO[bytes], variable: Variable) -> None:
        self._file = file
        self._order = variable.order
        self._position = variable.position
        self._left = variable.length
        self._ahead = b""
        self._inflate = zlib.decompressobj() if variable.compressed else None
        if variable.compressed and self.tag()[0] != _MATRIX:
            raise ValueError("compressed, but no variable")

    def tag(self) -> tuple[int, int]:
        """Type and length of the part that begins here; what is read next is its content."""
        tag = self.read(8)
        kind, length = struct.unpack(self._order + "II", tag)
        if kind >> 16:  # The short form: both in the first four bytes, the content in the others.
            kind, length = kind & 0xFFFF, kind >> 16
            if length > 4:
                raise ValueError("damaged")
            self._ahead = tag[4:]
        return kind, length

    def part(self) -> tuple[int, bytes]:
        """Type and content of the small part that begins here."""
        kind, length = self.tag()
        if length > _MAX_PART:
            raise ValueError("damaged")
        padded = len(self._ahead) or -(-length // 8) * 8
        return kind, self.read(padded)[:length]

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        data, self._ahead = self._ahead[:count], self._ahead[count:]
        data += self._next(count - len(data))
        if len(data) < count:
            raise ValueError("cut short")
        return data

    def finish(self) -> None:
        """Checks that what was compressed ends here, and its checksum."""
        if self._inflate is not None:
            self._next(8)  # What fills up the last part, if anything, and one byte more.
            if not self._inflate.eof:
                raise ValueError("damaged: holds more than it should")

    def _next(self, count: int) -> bytes:
        """The next `count` bytes, or fewer at the end."""
        if self._inflate is None:
            return self._stored(count)
        parts = []
        while count and not self._inflate.eof:
            waiting = self._inflate.unconsumed_tail or self._stored(_PIECE)
            part = self._inflate.decompress(waiting, count)
            if not part and not waiting:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _stored(self, count: int) -> bytes:
        self._file.seek(self._position)
        data = self._file.read(min(count, self._left))
        self._position += len(data)
        self._left -= len(data)
        return data
