"""Images as files: the users' own, or JPEG of what there is."""

from pathlib import Path

import making
from peregrine.data.sources import load_dataset
from peregrine.preprocess import Preprocess
from peregrine.stages.decoding import decoding, encode, encoded


def test_a_folders_own_files_are_decoded(tmp_path: Path) -> None:
    photos = making.split_photos(tmp_path / "photos", size=20)
    splits = load_dataset(photos, size=8, resize="crop")
    encode(splits.test, splits.source, tmp_path / "encoded")
    assert sorted(encoded(tmp_path / "encoded")) == sorted(
        path.read_bytes() for path in (photos / "test").rglob("*.png")
    )
    told = decoding(tmp_path / "encoded", Preprocess(size=8))
    assert told["images_per_s"] > 0
    assert told["what"].startswith("10 files of the test split, ")
    assert "resized to 8×8 pixels" in told["what"]


def test_data_that_never_was_files_is_written_as_jpeg(tmp_path: Path) -> None:
    splits = load_dataset("digits", size=16)
    encode(splits.test, splits.source, tmp_path / "encoded")
    contents = encoded(tmp_path / "encoded")
    assert len(contents) == 256
    assert Preprocess(size=16)(contents[0]).shape == (16, 16, 3)
    assert decoding(tmp_path / "encoded", Preprocess(size=16))["what"].startswith("256 test images as JPEG, ")
