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


def test_new_photos_are_judged_as_a_whole(tmp_path: Path, photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where they tell no splits: nobody trains on them. A class with one or two images is no obstacle."""
    target = Target.find(photo_runs.run(tmp_path / "run", photos))
    new = photo_runs.pictures(tmp_path / "new", seed=3, splits=())
    for image in sorted((new / "bee").iterdir())[1:]:
        image.unlink()
    with caplog.at_level("INFO", logger="peregrine"):
        splits = target.splits(new)
    assert splits.test.counts.tolist() == [12, 1, 12]
    assert "the data has no splits, so all of it is the test split" in caplog.messages
    assert (len(splits.train), splits.validation) == (0, None)
    with pytest.raises(DataError, match="has the splits test; got 'train'"):
        splits.part("train")


def test_of_new_photos_with_splits_the_test_part_is_judged(tmp_path: Path, photos: Path) -> None:
    """Whatever there is to train on: nothing is held out of it."""
    target = Target.find(photo_runs.run(tmp_path / "run", photos))
    new = photo_runs.pictures(tmp_path / "new", seed=3)
    for image in sorted((new / "train" / "bee").iterdir())[1:]:
        image.unlink()
    splits = target.splits(new)
    assert (len(splits.test), splits.validation) == (36, None)
    lines = [f"test/{name}/00.png,{name},test" for name in tiny.CLASSES]
    (new / "some.csv").write_text("\n".join(["path,label,split", *lines]))
    assert len(target.splits(new / "some.csv").test) == 3, "a file without a training split"


def test_a_part_to_choose_on_is_made_where_it_is_asked_for(tmp_path: Path, photos: Path) -> None:
    target = Target.find(photo_runs.run(tmp_path / "run", photos))
    new = photo_runs.pictures(tmp_path / "new", seed=3, splits=())
    parts = [len(target.splits(new, split).part(split)) for split in ("train", "validation", "test")]
    assert parts == [27, 3, 36]


def test_the_runs_own_photos_at_another_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Four fifths of them were trained on. Once they have changed, nobody knows which."""
    photos = photo_runs.pictures(tmp_path / "photos", seed=0, splits=())
    target = Target.find(photo_runs.run(tmp_path / "run", photos))
    moved = photos.rename(tmp_path / "moved")
    splits = target.splits(moved)
    assert splits.test.fingerprint == target.recorded("test")
    assert len(splits.test) == 6
    assert splits.part("validation").fingerprint == target.recorded("validation")
    assert "has changed" not in caplog.text
    moved.rename(photos)
    (photos / "ant" / "00.png").unlink()
    assert len(target.splits(photos).test) == 35
    assert "it may have seen most of the 35 images that are judged" in caplog.text


def test_arrays_of_ones_own_are_the_runs_or_not(tmp_path: Path) -> None:
    target = in_memory(tmp_path / "run", arrays(0))
    own, other = target.splits(arrays(0)), target.splits(Splits(arrays(1).train, None, arrays(1).test))
    assert own.part("validation").fingerprint == target.recorded("validation")
    assert (len(other.test), other.validation) == (30, None)
