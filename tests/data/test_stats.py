"""`data stats`: a data set in numbers."""

import json
from pathlib import Path

import numpy as np

import making
from peregrine.data.sources import load_dataset
from peregrine.data.stats import statistics


def test_statistics(tmp_path: Path) -> None:
    making.split_photos(tmp_path / "d", ("train", "val", "test"), each=3)
    splits = load_dataset(tmp_path / "d")
    result = statistics(splits)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert (result["source"], result["height"], result["width"]) == (str(tmp_path / "d"), 16, 16)
    assert result["classes"] == ["cat", "dog"]
    assert list(result["splits"]) == ["train", "validation", "test"]
    train = result["splits"]["train"]
    assert train == {
        "images": 6,
        "per_class": {"cat": 3, "dog": 3},
        "balance": 1.0,
        "fingerprint": splits.train.fingerprint,
    }
    scaled = splits.train.images / 255
    np.testing.assert_allclose(result["mean"], scaled.mean((0, 1, 2)))
    np.testing.assert_allclose(result["std"], scaled.std((0, 1, 2)))
