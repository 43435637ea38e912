"""Image folders: what is recognised, what is refused, what is left out."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import making
from peregrine.data import image_files
from peregrine.data.sources import load_dataset
from peregrine.errors import CheckFailed, DataError

# --- what is recognised ---------------------------------------------------------------------------------------------


def test_split_folder(tmp_path: Path) -> None:
    making.split_photos(tmp_path / "d", ("train", "val", "test"), classes=("b", "a", "c"), each=4)
    splits = load_dataset(tmp_path / "d")
    assert splits.source == str(tmp_path / "d")
    assert splits.notes == ()
    assert splits.class_names == ("a", "b", "c")
    assert splits.validation is not None
    for name, part in (("train", splits.train), ("val", splits.validation), ("test", splits.test)):
        assert part.images.shape == (12, 16, 16, 3)
        assert isinstance(part.images, np.memmap)
        assert part.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert part.ids[5] == f"{name}/b/1.png"
        np.testing.assert_array_equal(part.images[5], np.asarray(Image.open(tmp_path / "d" / name / "b" / "1.png")))


def test_other_name_of_validation_and_other_folders(tmp_path: Path) -> None:
    making.split_photos(tmp_path / "d", ("train", "validation", "test"))
    (tmp_path / "d" / "models").mkdir()
    splits = load_dataset(tmp_path / "d")
    assert splits.validation is not None
    assert splits.notes == ("folders beside the splits were passed over: models",)


def test_unsplit_folder(tmp_path: Path) -> None:
    making.photos(tmp_path / "d", each=20)
    splits, again, other = (load_dataset(tmp_path / "d", seed=seed) for seed in (0, 0, 1))
    assert splits.train.counts.tolist() == [16, 16]
    assert splits.test.counts.tolist() == [4, 4]
    assert not set(splits.train.ids) & set(splits.test.ids)
    assert splits.test.ids.tolist() == again.test.ids.tolist() != other.test.ids.tolist()
    assert splits.notes == ("the data has no test split, so 20% of each class, drawn with seed 0, is that",)


def test_unsplit_folder_to_judge_on(tmp_path: Path) -> None:
    making.photos(tmp_path / "d", each=20)
    making.photos(tmp_path / "d", ["fox"], each=1)
    splits = load_dataset(tmp_path / "d", seed=None)
    assert splits.test.counts.tolist() == [20, 20, 1]
    assert (len(splits.train), splits.validation) == (0, None)
    assert splits.notes == ("the data has no splits, so all of it is the test split",)
    again = load_dataset(tmp_path / "d", seed=None)
    assert again.test.fingerprint == splits.test.fingerprint


def test_nested_and_hidden_files_and_suffixes(tmp_path: Path) -> None:
    making.photos(tmp_path / "d", each=3)
    cat = tmp_path / "d" / "cat"
    (cat / "deep" / "er").mkdir(parents=True)
    (cat / ".hidden").mkdir()
    shutil.copy(cat / "0.png", cat / "deep" / "er" / "UPPER.PNG")
    for ignored in (".hidden/0.png", "._0.png", "notes.txt", "0.gif"):
        shutil.copy(cat / "0.png", cat / ignored)
    (tmp_path / "d" / ".git").mkdir()
    (tmp_path / "d" / "readme.md").write_text("about")
    splits = load_dataset(tmp_path / "d")
    ids = sorted(set(splits.train.ids) | set(splits.test.ids))
    assert ids == ["cat/0.png", "cat/1.png", "cat/2.png", "cat/deep/er/UPPER.PNG", *(f"dog/{i}.png" for i in range(3))]


def test_links_within_the_folder(tmp_path: Path) -> None:
    making.photos(tmp_path / "d", classes=["cat", "dog", "fox"])
    (tmp_path / "d" / "fox").rename(tmp_path / "d" / ".foxes")
    (tmp_path / "d" / "fox").symlink_to(".foxes")
    (tmp_path / "d" / "cat" / "link.png").symlink_to("../dog/0.png")
    (tmp_path / "d" / "fox" / "loop").symlink_to(tmp_path / "d")
    splits = load_dataset(tmp_path / "d")
    assert splits.class_names == ("cat", "dog", "fox")
    assert "cat/link.png" in {*splits.train.ids, *splits.test.ids}
    (tmp_path / "link").symlink_to("d")
    assert load_dataset(tmp_path / "link").train.fingerprint == splits.train.fingerprint


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".JPG"])
def test_every_format(tmp_path: Path, suffix: str) -> None:
    making.photos(tmp_path / "d", suffix=suffix)
    assert len(load_dataset(tmp_path / "d").train) == 8


def test_same_fingerprint_as_cifar(tmp_path: Path) -> None:
    pixels, labels = making.cifar10_binary(tmp_path / "cifar-10-batches-bin")
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        place = tmp_path / "png" / ("train" if index < 50 else "test") / making.CIFAR10_CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{index}.png")
    ours, theirs = load_dataset(tmp_path / "png"), load_dataset(tmp_path / "cifar-10-batches-bin")
    assert ours.train.fingerprint == theirs.train.fingerprint
    assert ours.test.fingerprint == theirs.test.fingerprint


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_own_size(tmp_path: Path) -> None:
    making.photos(tmp_path / "d", size=21)
    assert load_dataset(tmp_path / "d").train.image_size == (21, 21)
    assert load_dataset(tmp_path / "d", size=24).train.image_size == (24, 24)


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(40, 60), (50, 44), (90, 47)], 48),
        ([(9, 8), (8, 9)], 32),
        ([(700, 800), (800, 700)], 128),
        ([(800, 800)], 128),
    ],
)
def test_derived_size(tmp_path: Path, shapes: list[tuple[int, int]], size: int) -> None:
    for name in ("a", "b"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", shapes[index % len(shapes)]).save(tmp_path / "d" / name / f"{index}.jpg")
    for _ in range(2):
        splits = load_dataset(tmp_path / "d")
        assert splits.train.image_size == (size, size)
        assert f"the images are prepared at {size}×{size}, from a median shorter side of" in splits.notes[1]


def test_pad(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (20, 10), "white").save(tmp_path / "d" / name / f"{index}.png")
    cropped, padded = (load_dataset(tmp_path / "d", size=16, resize=resize) for resize in ("crop", "pad"))
    assert (cropped.train.images == 255).all()
    assert (padded.train.images[:, [0, -1]] == 0).all()


# --- what cannot be trained on --------------------------------------------------------------------------------------


def refused(path: Path, cache: Path, message: str, error: type[Exception] = DataError) -> None:
    with pytest.raises(error, match=message) as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)
    assert not cache.exists()


def test_empty_class(tmp_path: Path, cache: Path) -> None:
    making.photos(tmp_path / "d")
    (tmp_path / "d" / "fox").mkdir()
    refused(
        tmp_path / "d", cache, r"a class folder holds at least one image \(.jpg, .*\); .*/d/fox holds none; add images"
    )


def test_one_class(tmp_path: Path, cache: Path) -> None:
    making.photos(tmp_path / "d", classes=["cat"])
    refused(tmp_path / "d", cache, r"a classifier needs two class folders or more; .*/d has only 'cat'; add a class")


def test_split_without_classes(tmp_path: Path, cache: Path) -> None:
    making.split_photos(tmp_path / "d", ["train"])
    (tmp_path / "d" / "test").mkdir()
    refused(tmp_path / "d", cache, r"a classifier needs two class folders or more; .*/d/test has none; add a class")


def test_train_without_test(tmp_path: Path, cache: Path) -> None:
    making.split_photos(tmp_path / "d", ["train"])
    refused(
        tmp_path / "d", cache, r"a folder with splits has both train/ and test/; .*/d has only train; add the other"
    )
    making.split_photos(tmp_path / "d", ["val"])
    splits = load_dataset(tmp_path / "d")
    assert splits.validation is None
    assert "the data has no test split, so its validation split is the test split" in splits.notes


@pytest.mark.parametrize(
    "names", [["Training", "Testing"], ["TRAIN", "VAL", "TEST"], ["train", "dev", "eval"], ["train", "valid", "test"]]
)
def test_the_words_for_splits(tmp_path: Path, cache: Path, names: list[str]) -> None:
    making.split_photos(tmp_path / "d", names)
    splits = load_dataset(tmp_path / "d")
    assert splits.train.class_names == ("cat", "dog")
    assert (splits.validation is not None) == (len(names) == 3)
    assert not splits.notes


def test_a_class_with_the_name_of_a_split(tmp_path: Path, cache: Path) -> None:
    making.photos(tmp_path / "d", classes=["bus", "train"])
    assert load_dataset(tmp_path / "d").train.class_names == ("bus", "train")


def test_two_validations(tmp_path: Path, cache: Path) -> None:
    making.split_photos(tmp_path / "d", ["train", "val", "validation", "test"])
    refused(tmp_path / "d", cache, r"a split has one folder; .*/d has val and validation for validation; merge or")


@pytest.mark.parametrize(
    ("where", "message"), [("train", "in train and not in test"), ("test", "in test and not in train")]
)
def test_classes_differ(tmp_path: Path, cache: Path, where: str, message: str) -> None:
    making.split_photos(tmp_path / "d")
    making.photos(tmp_path / "d" / where, classes=["fox"])
    refused(
        tmp_path / "d", cache, rf"every split has the same classes; in .*/d class 'fox' is {message}; make the splits"
    )


def test_class_of_one_image(tmp_path: Path, cache: Path) -> None:
    making.photos(tmp_path / "d")
    making.photos(tmp_path / "d", classes=["fox"], each=1)
    refused(
        tmp_path / "d", cache, r"split into train and test has two images or more; class 'fox' has one; add images, or"
    )


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"bell\x07"])
def test_class_name_that_cannot_be_shown(tmp_path: Path, cache: Path, name: bytes) -> None:
    making.photos(tmp_path / "d")
    (tmp_path / "d" / "cat").rename(tmp_path / "d" / os.fsdecode(name))
    refused(tmp_path / "d", cache, r"a class name is printable UTF-8 on one line; got '.*\\.*'; rename the class")


def test_file_name_that_cannot_be_shown(tmp_path: Path) -> None:
    making.photos(tmp_path / "d")
    (tmp_path / "d" / "cat" / "0.png").rename(tmp_path / "d" / "cat" / os.fsdecode(b"caf\xe9\n.png"))
    splits = load_dataset(tmp_path / "d")
    assert r"cat/caf\udce9\n.png" in {*splits.train.ids, *splits.test.ids}


# --- unreadable images ----------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Two classes of 50, eight images of which cannot be read, each for another reason."""
    making.photos(tmp_path / "d", each=50, suffix=".jpg")
    cat = tmp_path / "d" / "cat"
    (cat / "0.jpg").write_text("this is a text")
    (cat / "1.jpg").write_bytes(b"")
    (cat / "2.jpg").write_bytes((cat / "2.jpg").read_bytes()[:-20])
    Image.new("1", (30_000, 30_000)).save(cat / "3.jpg", "PNG")
    (cat / "4.jpg").unlink()
    os.mkfifo(cat / "4.jpg")
    (cat / "5.jpg").unlink()
    (cat / "5.jpg").symlink_to("nowhere")
    with (cat / "6.jpg").open("wb") as sparse:
        sparse.truncate(image_files.MAX_BYTES + 1)
    (tmp_path / "secret.jpg").write_bytes((cat / "7.jpg").read_bytes())
    (cat / "7.jpg").unlink()
    (cat / "7.jpg").symlink_to("../../secret.jpg")
    return tmp_path / "d"


REASONS = {
    "cat/0.jpg": "not a JPEG, PNG, WEBP or BMP image",
    "cat/1.jpg": "the file is empty",
    "cat/2.jpg": "damaged: image file is truncated",
    "cat/3.jpg": "more than 64,000,000 pixels",
    "cat/4.jpg": "not a regular file",
    "cat/5.jpg": "no such file or directory",
    "cat/6.jpg": "268,435,457 bytes are more than 268,435,456",
    "cat/7.jpg": "a link leads out of the data's folder; put the file itself there",
}


def test_unreadable_images_are_left_out_and_listed(
    damaged: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "peregrine"):
        splits = load_dataset(damaged, max_bad=0.08)
    assert sorted(splits.train.counts + splits.test.counts) == [42, 50]
    assert splits.notes[1:] == ("8 of 100 images could not be read and were left out",)
    (index,) = cache.glob("store/*/store.json")
    listed = {entry["id"]: entry["reason"] for entry in json.loads(index.read_text())["left_out"]}
    assert listed.keys() == REASONS.keys()
    for name, reason in REASONS.items():
        assert listed[name].startswith(reason)
        assert f"left out {name}: {reason}" in caplog.text
    assert load_dataset(damaged, max_bad=0.08).notes == splits.notes


def test_too_many_unreadable_images(damaged: Path, cache: Path) -> None:
    message = (
        r"at most 1.0% of the images may be unreadable; in .*/d it is 8 of 100: cat/.*; and 5 more; .* raise --max-bad"
    )
    for _ in range(2):
        with pytest.raises(CheckFailed, match=message) as caught:
            load_dataset(damaged)
        assert caught.value.exit_code == 1
        assert not list(cache.glob("store/*/store.json"))
    load_dataset(damaged, max_bad=1)
    with pytest.raises(CheckFailed, match=message):  # of the prepared store too
        load_dataset(damaged)


def test_many_unreadable_images_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    making.photos(tmp_path / "d", each=40)
    for index in range(15):
        (tmp_path / "d" / "cat" / f"{index}.png").write_bytes(b"")
    load_dataset(tmp_path / "d", max_bad=1)
    assert caplog.text.count("left out cat/") == 10
    assert f"left out 5 more; `peregrine data check {tmp_path}/d` lists all" in caplog.text


def test_class_without_a_readable_image(tmp_path: Path, cache: Path) -> None:
    making.split_photos(tmp_path / "d")
    for path in (tmp_path / "d" / "test" / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"every class has a readable image in every split; .* none of class 'dog' in test"
    ):
        load_dataset(tmp_path / "d", max_bad=0.9)
    assert not list(cache.glob("store/*/store.json"))
