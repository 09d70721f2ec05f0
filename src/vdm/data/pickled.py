"""Pickles of byte arrays, read without running anything that they name.

A pickle is a program that may call any function it names. Here it may name only those things of which NumPy's arrays are
made, and each of them is an inert record of what was said; the array is put together afterwards from the records. Bytes,
which protocols 0 to 2 of Python 3 write as a call, are made from their text and nothing else.
"""

import math
import pickle
from io import BytesIO
from typing import Any

import numpy as np

from vdm.errors import InvalidInput


class _Record:
    """What a pickle says of an object: what to make it from, and its state."""

    def __init__(self, *made_from: Any) -> None:
        self.made_from = made_from
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The array that is meant, if it is one of unsigned bytes."""
        if self.state is None:  # protocol 5
            content, dtype, shape, order = self.made_from
        else:
            _, shape, dtype, column_major, content = self.state
            order = "F" if column_major else "C"
        if dtype.made_from[0] not in (b"u1", "u1") or len(content) != math.prod(shape):
            raise ValueError("an array that is not of unsigned bytes, or not whole")
        return np.frombuffer(content, np.uint8).reshape(shape, order=order)


class _Bytes(_Record):
    """A byte string, at once, since it may be the key of a dictionary."""

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
    """A dictionary of plain values and uint8 arrays, its keys as bytes; pickled by Python 2 or 3, with any NumPy.

    Args:
        content: the file's.
        name: the file's, for the message.

    Raises:
        InvalidInput: anything else, whatever it would do.
    """
    try:
        found = _Reader(BytesIO(content), encoding="bytes").load()
        return {
            key.encode() if isinstance(key, str) else key: value.array() if isinstance(value, _Record) else value
            for key, value in found.items()
        }
    except Exception as error:  # a broken pickle may raise anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InvalidInput(
            f"{name} cannot be read as a pickle of byte arrays ({reason}): download it again, or write a dictionary of "
            "plain values and uint8 arrays"
        ) from error
