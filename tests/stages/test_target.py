"""Which images a model is judged on, and that they are those that its run says."""

from pathlib import Path

import pytest

import making
import photo_runs
import tiny
from peregrine.dataset import Dataset, Splits
from peregrine.errors import CheckFailed, DataError, UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages.preparing import described
from peregrine.stages.target import Target


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_runs.pictures(tmp_path / "photos", seed=0)


def add_one(data: Path) -> None:
    """One more image to train on."""
    more = making.photos(data.parent / f"{data.name}-more", tiny.CLASSES, each=1, size=tiny.SIZE, seed=7)
    (more / "ant" / "0.png").rename(data / "train" / "ant" / "new.png")


def in_memory(path: Path, splits: Splits) -> Target:
    """The target of a run that was trained on arrays."""
    run = RunDirectory.create(path, tiny.recipe(), described(splits, tiny.SIZE, "crop"))
    photo_runs.write(run.artifact_path("onnx"), 0, recipe=tiny.recipe().to_dict())
    return Target.find(run)


def arrays(seed: int) -> Splits:
    """Ten images of each class in each split."""

    def part(name: str, number: int) -> Dataset:
        made = making.splits(tiny.images(30, 10 * seed + number), tiny.images(1), classes=3).train
        return Dataset(made.images, made.labels, made.ids, tiny.CLASSES)

    return Splits(*(part(name, number) for number, name in enumerate(("train", "validation", "test"))))


def test_the_runs_own_data(tmp_path: Path, photos: Path) -> None:
    target = Target.find(photo_runs.run(tmp_path / "run", photos))
    for split in ("train", "validation", "test"):
        splits = target.splits(None, split)
        assert target.recorded(split) == splits.part(split).fingerprint
    assert (len(splits.train), len(splits.part("validation")), len(splits.test)) == (33, 3, 36)
    assert target.held_out
    assert not Target.find(photo_runs.run(tmp_path / "on test", photos, validation="test")).held_out


def test_an_image_more_to_train_on(tmp_path: Path, photos: Path) -> None:
    """The validation part is drawn anew then, from what was trained on; the test part is what it was."""
    target = Target.find(photo_runs.run(tmp_path / "run", photos))
    before = target.splits()
    add_one(photos)
    after = target.splits()
    assert after.test.fingerprint == before.test.fingerprint
    for split in ("validation", "train"):
        with pytest.raises(CheckFailed) as caught:
            target.splits(None, split)
        assert str(caught.value) == (
            f"the {split} images in {photos} are not those of the run any more; restore what was there when it was "
            "trained, or train again with what is there now"
        )
    with pytest.raises(CheckFailed, match=r"are not those of the run any more"):
        target.require(after, "test", "validation")


def test_other_test_images(tmp_path: Path, photos: Path) -> None:
    target = Target.find(photo_runs.run(tmp_path / "run", photos))
    (photos / "test" / "ant" / "00.png").unlink()
    with pytest.raises(
        CheckFailed, match=r"^the test images in .*photos are not .* as new data by `peregrine evaluate"
    ):
        target.splits()
    assert len(target.splits(None, "validation").part("validation")) == 3, "which are what they were"


def test_what_a_run_on_arrays_recorded(tmp_path: Path) -> None:
    target = in_memory(tmp_path / "run", arrays(0))
    target.require(target.own_splits(arrays(0)), "train", "validation", "test")
    with pytest.raises(CheckFailed, match=r"^the test images in memory are not those of the run"):
        target.require(target.own_splits(arrays(1)), "test")
    others = photo_runs.pictures(tmp_path / "others", seed=1)
    with pytest.raises(CheckFailed) as caught:
        target.require(target.own_splits(others), "test")
    assert str(caught.value) == (
        f"the test images in {others} are not those of the run; give its own, or judge it on others by `peregrine "
        "evaluate --data`"
    )
    with pytest.raises(UsageError, match=r"does not tell where its data is; give it with --data"):
        target.splits()
    with pytest.raises(DataError, match=r"has the splits train, validation, test; got 'tets'"):
        target.require(target.own_splits(arrays(0)), "tets")
