"""The worker's side of a benchmark: what it says it measured is what the library saw."""

from pathlib import Path

import numpy as np
import pytest

import tiny
from peregrine.stages.measuring import Session


@pytest.mark.parametrize(
    ("side", "static", "batch", "swept"),
    [
        (8, None, 250, [1, 8, 32, 250]),
        (64, None, 250, [1, 8, 32, 250]),
        (256, None, 15, [1, 8, 15]),
        (256, 4, 12, [4]),
        (256, 20, 20, [20]),
    ],
)
def test_of_large_images_batches_are_smaller(
    side: int, static: int | None, batch: int, swept: list[int], tmp_path: Path
) -> None:
    images = np.zeros((260 if side < 256 else 30, side, side, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    artifact = tiny.fake_artifact(tmp_path / "onnx", pixels=images[:2], preprocess={"size": side})
    candidate = tiny.fake_candidate(artifact, batch=static)
    session = Session(candidate.to_dict(), str(tmp_path / "images.npy"), "plain", str(tmp_path))
    assert session.prepare(0.01)["batch_size"] == batch
    rows = session.sweep([static] if static else [1, 8, 32, 250], 0.001)
    assert [row["batch_size"] for row in rows] == swept
