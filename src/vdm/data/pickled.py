"""Read pickles of byte arrays without running any function that they name.

A pickle is a program that may call any function it names. Here it may name only the parts of NumPy arrays, and each of them
becomes an inert record of its arguments; the array is put together from the records afterwards. Byte strings, which
protocols 0 to 2 of Python 3 write as a call, are made from their text alone.
"""

import math
import pickle
import pickletools
from io import BytesIO
from typing import Any

import numpy as np

from vdm.errors import InvalidInput, one_line

MEMO = 2**20  # largest number under which a pickle may remember an object


class _Record:
    """The arguments and the state of an object in a pickle."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """Return the array, which must be of unsigned bytes."""
        if self.state is None:  # protocol 5
            content, dtype, shape, order = self.arguments
        else:
            _, shape, dtype, column_major, content = self.state
            order = "F" if column_major else "C"
        if len(shape) > 4 or not all(isinstance(length, int) and 0 <= length < 2**40 for length in shape):
            raise ValueError("an array of no shape that images have")
        if dtype.arguments[0] not in (b"u1", "u1") or len(content) != math.prod(shape):
            raise ValueError("an array of another type than unsigned bytes, or cut short")
        return np.frombuffer(content, np.uint8).reshape(shape, order=order)


class _Bytes(_Record):
    """A byte string, made at once, since it may be the key of a dictionary."""

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        if encoding != "latin1":
            raise ValueError(f"bytes written as {encoding!r}")
        return str.encode(text, "latin1")


ADMITTED = {
    ("numpy", "ndarray"): _Record,
    ("numpy", "dtype"): _Record,
    ("numpy.core.multiarray", "_reconstruct"): _Record,
    ("numpy._core.multiarray", "_reconstruct"): _Record,  # since NumPy 2
    ("numpy.core.numeric", "_frombuffer"): _Record,
    ("numpy._core.numeric", "_frombuffer"): _Record,
    ("_codecs", "encode"): _Bytes,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Record]:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which byte arrays do not need")
        return ADMITTED[module, name]


def read_pickled(content: bytes, name: str) -> dict[bytes, Any]:
    """Return a dictionary of plain values and uint8 arrays, its keys as bytes; pickled by Python 2 or 3, with any NumPy.

    Args:
        content: of the file.
        name: of the file, for the error message.

    Raises:
        InvalidInput: any other content.
    """
    try:
        for operation, argument, _ in pickletools.genops(content):
            if (
                operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > MEMO
            ):  # room is made up to this number
                raise ValueError(f"it remembers something under the number {argument}")
        found = _Reader(BytesIO(content), encoding="bytes").load()
        return {
            key.encode() if isinstance(key, str) else key: value.array() if isinstance(value, _Record) else value
            for key, value in found.items()
        }
    except Exception as error:  # a broken pickle may raise anything
        reason = one_line(error, 120)
        raise InvalidInput(
            f"{name} cannot be read as a pickle of byte arrays ({reason}): download it again, or write a dictionary of "
            "plain values and uint8 arrays"
        ) from error
