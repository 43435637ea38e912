"""Files are whole or absent, whatever happens to the writer."""

import random
import re
import time
from pathlib import Path

import pytest

from machine import kill, python, small_disk, started
from peregrine import files
from peregrine.errors import DamagedFile, machine_error

TEMPORARY = ".tmp-*"


def fail_after_writing(path: Path) -> None:
    path.write_text("half of the n")
    raise RuntimeError


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.writing(path) as temporary:
        fail_after_writing(temporary)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_a_new_file_has_the_usual_rights_and_a_new_folder_too(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "plain folder").mkdir()
    files.write_bytes(tmp_path / "deep" / "er" / "file.png", b"content")
    with files.writing_folder(tmp_path / "folder"):
        pass
    assert (tmp_path / "deep/er/file.png").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "plain folder").stat().st_mode


def test_the_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with files.writing(tmp_path / "model.onnx") as temporary:
        assert temporary.suffix == ".onnx"
        assert temporary.parent == tmp_path
        assert files.is_temporary(temporary)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    with files.writing_folder(path) as temporary:
        (temporary / "only in the old one").touch()
    with files.writing_folder(path) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "new").write_text("new")
        assert (path / "only in the old one").exists()
    assert [entry.relative_to(path).as_posix() for entry in sorted(path.rglob("*"))] == ["sub", "sub/new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    with files.writing_folder(path) as temporary:
        (temporary / "old").touch()
    with pytest.raises(RuntimeError), files.writing_folder(path) as temporary:
        fail_after_writing(temporary / "new")
    assert [entry.name for entry in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


WRITE_FOREVER = """
import sys
from pathlib import Path
from peregrine import files

folder, round = Path(sys.argv[1]), 0
while True:
    content = b"AB"[round % 2 : round % 2 + 1] * 300_000
    files.write_bytes(folder / "file", content)
    with files.writing_folder(folder / "folder") as temporary:
        (temporary / "first").write_bytes(content)
        (temporary / "second").write_bytes(content)
    round += 1
    if round == 2:
        print("going", flush=True)
"""


def test_killed_at_any_moment_what_is_there_is_whole(tmp_path: Path) -> None:
    moments = random.Random(0)
    for _ in range(8):
        with started(WRITE_FOREVER, tmp_path) as process:
            time.sleep(moments.uniform(0, 0.05))
            kill(process)
        files.sweep(tmp_path)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]
        assert re.fullmatch(rb"A{300000}|B{300000}", (tmp_path / "file").read_bytes())
        first, second = ((tmp_path / "folder" / name).read_bytes() for name in ("first", "second"))
        assert first == second
        assert len(first) == 300_000


STAY_INSIDE = """
import sys, time
from pathlib import Path
from peregrine import files

with files.writing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of the n")
    print("inside", flush=True)
    time.sleep(60)
"""


def test_killed_in_the_middle_leaves_the_old_content_and_one_leftover_to_sweep(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with started(STAY_INSIDE, path):
        pass
    assert path.read_text() == "old"
    assert len(list(tmp_path.glob(TEMPORARY))) == 1
    files.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


DIE_BETWEEN_THE_RENAMES = """
import os, signal, sys
from pathlib import Path
from peregrine import files

rename = Path.rename
def once(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = once
with files.writing_folder(Path(sys.argv[1])) as temporary:
    (temporary / "new").touch()
"""


def test_a_folder_that_was_moved_aside_comes_back(tmp_path: Path) -> None:
    """Two renames replace a folder; a kill between them must not cost the old one."""
    path = tmp_path / "artifact"
    path.mkdir()
    (path / "old").touch()
    assert python(DIE_BETWEEN_THE_RENAMES, path).returncode == -9
    assert not path.exists()
    files.sweep(tmp_path)
    assert [entry.name for entry in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_sweep_of_an_absent_folder_is_nothing(tmp_path: Path) -> None:
    files.sweep(tmp_path / "absent")


def test_a_full_disk_leaves_the_old_content_and_is_told_in_one_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        path = disk / "file"
        files.write_bytes(path, b"old" * 1000)
        with pytest.raises(OSError, match="space") as caught:
            files.write_bytes(path, b"new" * 100_000)
        assert path.read_bytes() == b"old" * 1000
        with pytest.raises(OSError, match="space"), files.writing_folder(disk / "folder") as temporary:
            (temporary / "part").write_bytes(bytes(200_000))
        assert list(disk.iterdir()) == [path]
    message = str(machine_error(caught.value, path))
    assert message == f"cannot read or write {path}: the disk is full; free some space or choose another folder"


EXCEED = """
import resource, signal, sys
from pathlib import Path
from peregrine import files
from peregrine.errors import machine_error

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    files.write_bytes(Path(sys.argv[1]), bytes(20_000))
except OSError as error:
    print(machine_error(error, sys.argv[1]))
"""


def test_a_file_above_the_allowed_size_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    assert python(EXCEED, path).stdout == f"cannot read or write {path}: file too large; see `peregrine doctor`\n"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_written_for_people_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    files.write_json(path, {"name": "é", "values": [1, 0.1]})
    assert path.read_text("utf-8") == '{\n  "name": "é",\n  "values": [\n    1,\n    0.1\n  ]\n}\n'
    assert files.read_json(path) == {"name": "é", "values": [1, 0.1]}
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, float("nan"))
    assert files.read_json(path)["name"] == "é"


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1}}', b"\xff\xfe\xfd", b"nothing"])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"result\.json is not valid JSON \(.*\); restore it or delete it$"):
        files.read_json(path)


def test_sha256_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"a" * 2_500_000)
    pieces: list[int] = []
    files.sha256(path, pieces.append)
    assert sum(pieces) == 2_500_000
    assert len(pieces) == 3
    path.write_bytes(b"abc")
    assert files.sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_is_replaced_again_and_again_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    files.replace_json(path, list(range(20_000)))
    script = f"""
import sys
from pathlib import Path
from peregrine import files
print("begun", flush=True)
while True:
    files.replace_json(Path({str(path)!r}), list(range(20_000)))
"""
    with started(script):
        for _ in range(200):
            assert len(files.read_json(path)) == 20_000
    files.sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["live.json"]
    with pytest.raises(ValueError, match="nan"):
        files.replace_json(path, float("nan"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["live.json"]
