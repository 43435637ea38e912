"""Reading the pickles of CIFAR's Python edition without running what a pickle can run.

A pickle is a program. This one may build dicts, lists, tuples, strings, bytes, numbers and plain numeric arrays, and
that is all, by three fences:

1. The opcodes are read before anything runs; one that such data does not need is refused, and so is a memo index that
   nothing has led up to, with which a file of a few bytes can ask for many gigabytes.
2. Every global is answered by a stand-in of ours or refused. No name is ever imported.
3. NumPy itself never sees the pickle's state: the stand-ins check it and build the array from its bytes.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from peregrine.errors import DamagedFile

_OPCODES = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "  # noqa: SIM905
    "STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS "
    "PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD".split()
)


def load(path: Path) -> dict[str, Any]:
    """Read a pickled dict of plain values and arrays, written by Python 2 or 3, with any NumPy.

    The keys are strings; byte strings inside the values stay bytes.

    Raises:
        DamagedFile: the file is no such pickle, or asks for anything else.
    """
    content = path.read_bytes()
    try:
        _check_opcodes(content)
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _Refused as refused:
        raise DamagedFile(f"{path} is refused: {refused}; get the official file") from None
    except Exception as error:  # damaged pickles raise nearly anything
        raise DamagedFile(f"{path} is damaged: not a readable pickle ({error}); get the official file") from None
    if not isinstance(loaded, dict):
        raise DamagedFile(f"{path} is damaged: it holds a dict, got a {type(loaded).__name__}; get the official file")
    return {text(key): value.array if isinstance(value, _Array) else value for key, value in loaded.items()}


def text(value: object) -> str:
    """A string that Python 2 pickled as bytes or Python 3 as a string."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


class _Refused(Exception):
    """The pickle asks for something that data does not need."""


def _check_opcodes(content: bytes) -> None:
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name not in _OPCODES:
            raise _Refused(f"its pickle holds the instruction {opcode.name}, which images and labels do not need")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > count:
            raise _Refused(f"its pickle numbers a value {argument:,} where {count:,} is the most possible")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> "_Global":
        stand_in = _GLOBALS.get(f"{module}.{name}")
        if stand_in is None:
            raise _Refused(f"its pickle asks for {f'{module}.{name}'!r}, which images and labels do not need")
        return _Global(stand_in)


class _Global:
    """A global that can be called and nothing else; without `__setstate__` a pickle could set its attributes."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> NoReturn:
        raise _Refused("its pickle changes a function, which images and labels do not need")


class _DType:
    """Stands in for `numpy.dtype`: a plain number type."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        if not re.fullmatch(r"[biuf][1248]", text(code)):
            raise _Refused(f"its pickle holds an array of {text(code)!r}, not of numbers")
        self.dtype = np.dtype(text(code))

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.dtype = self.dtype.newbyteorder("S" if text(state[1]) == ">" else "=")


class _Array:
    """Stands in for an empty `numpy.ndarray` that gets its content as state."""

    __slots__ = ("array",)
    array: npt.NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran_order, raw = state
        self.array = _from_bytes(raw, dtype, shape, "F" if fortran_order else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(raw: bytes, dtype: _DType, shape: tuple[int, ...], order: Literal["C", "F"]) -> _Array:
    made = _Array()
    made.array = _from_bytes(raw, dtype, shape, order)
    return made


def _from_bytes(raw: bytes, dtype: _DType, shape: tuple[int, ...], order: Literal["C", "F"]) -> npt.NDArray[Any]:
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _encode(characters: str, encoding: str) -> bytes:
    """`_codecs.encode`, by which Python 3 writes bytes into pickles that Python 2 can read."""
    if encoding != "latin1":
        raise _Refused(f"its pickle holds bytes encoded as {encoding!r}")
    return characters.encode("latin1")


def _ndarray(*_: object) -> NoReturn:
    """`numpy.ndarray` is only ever handed to `_reconstruct`."""
    raise _Refused("its pickle calls numpy.ndarray, which images and labels do not need")


_GLOBALS: dict[str, Callable[..., object]] = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "numpy.ndarray": _ndarray,
    "numpy.dtype": _DType,
    "_codecs.encode": _encode,
}
