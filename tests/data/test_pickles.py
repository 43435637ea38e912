"""The restricted unpickler: reads what CIFAR is stored in, runs nothing."""

import builtins
import collections
import datetime
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peregrine.data import pickles
from peregrine.errors import DamagedFile

# What Python 2 and the NumPy of 2009 wrote for {"data": uint8 array [[1, 2], [3, 255]], "labels": [6, 9]}, by hand
PYTHON2 = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87R"
    b"(K\x01K\x02K\x02\x86cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89U\x04\x01\x02\x03\xfftbU\x06labelsq\x06]q\x07(K\x06K\teu."
)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[bytes], dict[str, Any]]:
    def load(content: bytes) -> dict[str, Any]:
        path = tmp_path / "data_batch_1"
        path.write_bytes(content)
        return pickles.load(path)

    return load


def test_reads_what_python_2_wrote(load: Callable[[bytes], dict[str, Any]]) -> None:
    content = load(PYTHON2)
    assert content["data"].dtype == np.uint8
    assert content["data"].tolist() == [[1, 2], [3, 255]]
    assert content["labels"] == [6, 9]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["u1", "<i4", ">i8", "f8", "?"])
def test_reads_what_any_numpy_writes(load: Callable[[bytes], dict[str, Any]], protocol: int, dtype: str) -> None:
    for array in (
        np.arange(12).reshape(3, 4).astype(dtype),
        np.asfortranarray(np.arange(6).reshape(2, 3)).astype(dtype),
    ):
        content = load(pickle.dumps({"data": array, "names": ["a", b"b"], "float": 0.5, "large": 1 << 80}, protocol))
        np.testing.assert_array_equal(content["data"], array)
        assert content["names"] == ["a", b"b"]
        assert (content["float"], content["large"]) == (0.5, 1 << 80)


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def hostile(marker: str) -> dict[str, bytes]:
    shell = f"touch {marker}"
    return {
        "os.system": pickle.dumps(Calls(os.system, shell)),
        "os.system for Python 2": b"cos\nsystem\n(S'" + shell.encode() + b"'\ntR.",
        "eval": pickle.dumps({"data": Calls(eval, f"open({marker!r}, 'w')")}),
        "nested": pickle.dumps({"data": [[{"x": Calls(builtins.getattr, Calls(__import__, "os"), "system")}]]}),
        "getattr on an allowed name": pickle.dumps({"data": np.zeros(1), "x": Calls(getattr, np.dtype, "mro")}, 2),
        "INST": b"(S'" + shell.encode() + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + shell.encode() + b"'\no.",
        "NEWOBJ": pickle.dumps(collections.OrderedDict(a=1), 4),
        "a class": pickle.dumps({"when": datetime.datetime.now()}),
        "a set": pickle.dumps({"data": {1, 2}}),
        "an object array": pickle.dumps({"data": np.array([None])}),
        "a structured array": pickle.dumps({"data": np.zeros(1, [("a", "i4")])}),
        "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.fromfile\x93.".replace(b"\x0d", bytes([16])),
        "ndarray itself": b"cnumpy\nndarray\n(I1000000000\ntR.",
        "an attribute of an allowed name": b"cnumpy\nndarray\n}S'__call__'\nI1\nsb.",
        "another encoding": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
        "a persistent id": b"Pname\n.",
        "an extension": b"\x80\x02\x82\x01.",
        "a huge memo": b"\x80\x02K\x01r" + struct.pack("<I", 2**32 - 1) + b".",
        "a huge array": PYTHON2.replace(b"K\x02K\x02\x86", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"),
        "no dict": pickle.dumps([1, 2]),
        "cut off": PYTHON2[:-9],
        "a huge string": b"\x80\x04\x8e" + struct.pack("<Q", 2**62),
        "text": b"hello",
        "nothing": b"",
    }


@pytest.mark.parametrize("name", sorted(hostile("")))
def test_refuses_everything_else(load: Callable[[bytes], dict[str, Any]], tmp_path: Path, name: str) -> None:
    marker = tmp_path / "executed"
    with pytest.raises(DamagedFile, match=r"data_batch_1 is (refused|damaged): .*; get the official file") as caught:
        load(hostile(str(marker))[name])
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_says_what_was_asked_for(load: Callable[[bytes], dict[str, Any]]) -> None:
    with pytest.raises(
        DamagedFile, match=r"is refused: its pickle asks for '(posix|nt)\.system', which images and labels"
    ):
        load(pickle.dumps(Calls(os.system, "true"), 2))
    with pytest.raises(DamagedFile, match=r"is refused: its pickle numbers a value 4,294,967,295 where 2 is the most"):
        load(hostile("")["a huge memo"])
