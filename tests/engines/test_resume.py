"""A run goes on from the newest sound state, whatever happened to the files."""

import json
import logging
from pathlib import Path

import pytest

from machine import python
from peregrine import files
from peregrine.engines import resume
from peregrine.errors import DamagedFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "resume"


def save(folder: Path, step: int, linked: Path | None = None) -> Path:
    with resume.saving(folder, step, {"step": step, "history": [0.1]}, linked) as state:
        (state / "weights.npz").write_bytes(b"weights after %d steps" % step)
    return folder / f"{step:09d}"


def names(folder: Path) -> list[int]:
    return sorted(int(entry.name) for entry in folder.iterdir())


def test_there_is_none_yet(folder: Path) -> None:
    assert resume.newest(folder) is None
    folder.mkdir()
    assert resume.newest(folder) is None


def test_the_newest_is_found_and_two_are_kept(folder: Path) -> None:
    for step in (9, 10, 100, 1000):
        save(folder, step)
        state = resume.newest(folder)
        assert state is not None
        assert state.content == {"step": step, "history": [0.1]}
        assert (state.folder / "weights.npz").read_bytes() == b"weights after %d steps" % step
    assert names(folder) == [100, 1000]


def test_the_same_step_again_replaces_its_state(folder: Path) -> None:
    save(folder, 5)
    with resume.saving(folder, 5, {"second": True}) as state:
        (state / "other").touch()
    assert names(folder) == [5]
    found = resume.newest(folder)
    assert found is not None
    assert found.content == {"second": True}
    assert not (found.folder / "weights.npz").exists()


def test_a_state_that_fails_to_save_changes_nothing(folder: Path) -> None:
    save(folder, 1)
    with pytest.raises(IsADirectoryError), resume.saving(folder, 2, {}) as state:
        state.write_bytes(b"half")
    assert names(folder) == [1]


@pytest.mark.parametrize("name", ["weights.npz", "state.json", "checksums.json"])
def test_every_flipped_byte_falls_back(folder: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A flip is noticed, or it leaves every file as it was: a byte of white space in the list of checksums."""
    save(folder, 1)
    path = save(folder, 2) / name
    content = path.read_bytes()
    harmless = 0
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "peregrine"):
            state = resume.newest(folder)
        assert state is not None
        if state.content["step"] == 2:
            harmless += 1
        else:
            assert state.content["step"] == 1
            assert caplog.messages[0].startswith(str(path.parent))
            assert caplog.messages[0].endswith("; falling back to the state before it")
    assert harmless == 0 or name == "checksums.json"
    assert harmless < 0.1 * len(content)


@pytest.mark.parametrize("name", ["weights.npz", "state.json", "checksums.json"])
def test_a_file_that_is_gone_or_empty_falls_back(folder: Path, name: str) -> None:
    save(folder, 1)
    path = save(folder, 2) / name
    for damage in (lambda: path.write_bytes(b""), path.unlink):
        damage()
        state = resume.newest(folder)
        assert state is not None
        assert state.content["step"] == 1


@pytest.mark.parametrize("content", ["[]", "5", "{}", '{"state.json": 1}', '{"state.json": {"size_bytes": 3}}'])
def test_checksums_that_are_something_else(folder: Path, content: str) -> None:
    (save(folder, 1) / "checksums.json").write_text(content)
    with pytest.raises(DamagedFile, match=f"^every resume state in {folder} is damaged; start a new run$"):
        resume.newest(folder)


def test_going_on_from_the_older_one_replaces_the_damaged_one(folder: Path) -> None:
    """The damaged state must not count as one of the two that are kept, nor win again later."""
    save(folder, 1)
    save(folder, 2)
    (save(folder, 8) / "weights.npz").unlink()
    assert names(folder) == [2, 8]
    save(folder, 5)
    assert names(folder) == [2, 5]
    state = resume.newest(folder)
    assert state is not None
    assert state.content["step"] == 5


def test_a_linked_file_stays_as_it_was(folder: Path, tmp_path: Path) -> None:
    best = tmp_path / "best_model.bin"
    files.write_bytes(best, b"best of epoch 1")
    state = save(folder, 1, best)
    assert best.samefile(state / best.name)
    files.write_bytes(best, b"best of epoch 2, which the resumed run has not seen")
    found = resume.newest(folder)
    assert found is not None
    found.restore(best)
    assert best.read_bytes() == b"best of epoch 1"
    assert not best.samefile(state / best.name)


def test_there_may_be_no_best_yet(folder: Path, tmp_path: Path) -> None:
    save(folder, 1, tmp_path / "best_model.bin")
    found = resume.newest(folder)
    assert found is not None
    found.restore(tmp_path / "best_model.bin")
    assert not (tmp_path / "best_model.bin").exists()


SAVE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from peregrine import files
from peregrine.engines import resume

folder, survives = Path(sys.argv[1]), int(sys.argv[2])
flush, count = files._flush, 0
def counted(path):
    global count
    count += 1
    if count > survives:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(path)
files._flush = counted
with resume.saving(folder, 3, {"step": 3, "history": []}) as state:
    (state / "weights.npz").write_bytes(b"new")
print(count)
"""


def test_killed_at_every_flush_there_is_a_whole_state(folder: Path) -> None:
    flushes = 0
    while True:
        save(folder, 1)
        save(folder, 2)
        ended = python(SAVE_AND_DIE, folder, flushes)
        state = resume.newest(folder)
        assert state is not None
        if ended.returncode == 0:
            break
        assert state.content["step"] in (2, 3)
        files.sweep(folder)
        flushes += 1
    assert json.loads(ended.stdout) == flushes
    assert flushes >= 8
    assert state.content["step"] == 3
