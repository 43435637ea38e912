"""What `export` refuses before it begins, and what it hands to workers; whole exports are in test_pipeline.py."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import photo_runs
import tiny
from machine import small_disk
from peregrine.dataset import Selection
from peregrine.errors import CheckFailed, MachineError, UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages.exporting import attempt, export, images_file


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """With an ancestor that nothing has to open."""
    made = tiny.run(tmp_path / "run")
    tiny.artifact(made.artifact_path("torch"), "torch")
    return made


@pytest.mark.parametrize(
    ("formats", "batch", "message"),
    [
        ("onnx", 0, r"^a static batch has 1 to 10,000 images; got 0$"),
        ("onnx", 10_001, r"^a static batch has 1 to 10,000 images; got 10001$"),
        ("onx", None, r"^a format is one of .*; got 'onx'; did you mean 'onnx'\?$"),
        ("torch", 8, r"^ONNX, OpenVINO and TensorRT can have a static batch; torch cannot; leave it or --batch out$"),
    ],
)
def test_what_cannot_be_made_is_refused_first(run: RunDirectory, formats: str, batch: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export(run.path, formats, batch=batch)


def test_settings_of_int8_are_not_chosen_on_what_was_trained_on(tmp_path: Path) -> None:
    """After a training image went, another tenth is the validation part; fp32 has nothing to do with it."""
    photos = photo_runs.pictures(tmp_path / "photos", seed=0)
    run = photo_runs.run(tmp_path / "run", photos)
    (photos / "train" / "ant" / "00.png").unlink()
    int8, onnx = attempt(run.path, ["onnx-int8", "onnx"])
    assert int8.status == "failed"
    assert onnx.status in ("proved", "inconclusive")
    assert int8.reason.startswith(f"the validation images in {photos} are not those of the run any more; restore")
    assert not run.artifact_path("onnx-int8").exists()
    (photos / "test" / "ant" / "00.png").unlink()
    with pytest.raises(CheckFailed, match=r"^the test images in .* are not those of the run any more"):
        attempt(run.path, "onnx")


def test_images_are_copied_a_few_at_a_time(tmp_path: Path) -> None:
    """More than fits into memory, from a map, in another order: into the run's cache, and gone afterwards."""
    shape = (300, 256, 256, 3)
    np.lib.format.open_memmap(tmp_path / "store.npy", "w+", np.uint8, shape)[:, 7, 7, 1] = np.arange(300) % 256
    images = Selection(np.load(tmp_path / "store.npy", mmap_mode="r"), np.arange(300)[::-1])
    tracemalloc.start()
    try:
        with images_file(images, tmp_path / "cache") as path:
            assert tracemalloc.get_traced_memory()[1] < images.nbytes / 2
            assert path.parent.parent == tmp_path / "cache"
            copied = np.load(path, mmap_mode="r")
            assert (copied.shape, copied.dtype, copied.flags.c_contiguous) == (shape, np.uint8, True)
            assert (copied[:, 7, 7, 1] == np.arange(300)[::-1] % 256).all()
    finally:
        tracemalloc.stop()
    assert not list((tmp_path / "cache").iterdir())


def test_without_a_run_they_are_temporary(tmp_path: Path) -> None:
    with images_file(tiny.images(5)) as path:
        assert np.array_equal(np.load(path), tiny.images(5))
    assert not path.parent.exists()


def test_no_room_for_the_images(tmp_path: Path) -> None:
    images = np.zeros((100, 32, 32, 3), np.uint8)
    with small_disk(tmp_path / "disk", "64k") as disk:
        with (
            pytest.raises(
                MachineError, match=r"^cannot read or write .*/disk/cache: the disk is full; free some space"
            ),
            images_file(images, disk / "cache"),
        ):
            pass
        assert not list((disk / "cache").iterdir())
