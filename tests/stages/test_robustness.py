"""The errors of a model on corrupted images: the right images, the right labels, the right mean."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peregrine.artifact import Artifact, Golden
from peregrine.candidate import Candidate
from peregrine.corruptions import CORRUPTIONS, corrupt
from peregrine.dataset import Dataset, Images
from peregrine.runtimes.base import Runtime
from peregrine.stages import robustness

CLASSES = ("dark", "bright")


class ByBrightness(Runtime):
    """Right about dark and bright images, as long as nothing makes dark ones bright."""

    provider = "cpu"

    def _infer(self, images: Images) -> Any:
        return np.eye(2, dtype=np.float32)[(images.mean((1, 2, 3)) > 127).astype(int)]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    like = {
        "class_names": CLASSES, "preprocess": {"size": 32}, "model": {}, "engine": "pytorch", "recipe": {},
        "temperature": 1.0,
    }  # fmt: skip
    golden = Golden(np.zeros((1, 32, 32, 3), np.uint8), {"ancestor": np.ones((1, 2), np.float32)})
    with Artifact.write(tmp_path / "model", format="torch", like=like, golden=golden) as folder:
        (folder / "model.safetensors").write_text("weights")
    artifact = Artifact.open(tmp_path / "model")
    return ByBrightness(Candidate(artifact.path, "torch", "torch"), artifact)


def photos(count: int) -> Dataset:
    random = np.random.default_rng(0)
    labels = np.arange(count) % 2
    level = np.where(labels == 1, 150, 90)[:, None, None, None]
    pixels = (level + random.integers(-60, 60, (count, 32, 32, 3))).astype(np.uint8)
    return Dataset(pixels, labels, np.arange(count).astype(str), CLASSES)


def test_one_image_says_nothing_of_others(runtime: Runtime) -> None:
    part = photos(1)
    assert robustness.measure_robustness(runtime, part, runtime.predict(part.images))["interval"] == [0, 1]


def test_by_brightness_alone(runtime: Runtime) -> None:
    part = photos(60)
    plain = runtime.predict(part.images)
    found = robustness.measure_robustness(runtime, part, plain)
    assert found["clean_error"] == 0
    assert (found["images"], found["settings"]) == (60, "CIFAR-10-C")
    assert list(found["corruptions"]) == list(CORRUPTIONS)
    assert {len(errors) for errors in found["corruptions"].values()} == {5}
    assert found["mean_corruption_error"] == pytest.approx(np.mean(list(found["corruptions"].values())))
    low, high = found["interval"]
    assert low < found["mean_corruption_error"] < high
    assert found["seconds"] > 0
    # Brighter by 0.3 is brighter by up to 76 levels: from about 90 to far above 127, where the model changes its mind.
    assert found["corruptions"]["brightness"][0] == 0
    assert found["corruptions"]["brightness"][4] == 0.5
    for name in ("contrast", "defocus_blur", "jpeg_compression", "gaussian_noise"):
        assert found["corruptions"][name] == [0] * 5


def test_the_images_do_not_depend_on_threads(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    predict = runtime.predict

    def watched(images: Any) -> Any:
        seen.append(images.tobytes())
        return predict(images)

    monkeypatch.setattr(runtime, "predict", watched)
    monkeypatch.setattr(robustness, "BLOCK_PIXELS", 8 * 32 * 32)
    part = photos(20)
    plain = predict(part.images)
    runs = []
    for threads in (1, 3):
        monkeypatch.setattr(robustness.host, "threads", lambda threads=threads: threads)
        seen.clear()
        runs.append(
            {
                key: value
                for key, value in robustness.measure_robustness(runtime, part, plain).items()
                if key != "seconds"
            }
        )
        runs[-1]["seen"] = list(seen)
    assert runs[0] == runs[1]
    assert len(runs[0]["seen"]) == 75 * 3
    assert runs[0]["seen"][1] == corrupt(part.images[8:16], "gaussian_noise", 1, seed=1).tobytes()


def test_of_many_images_some_of_each_class(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "IMAGES", 12)
    monkeypatch.setattr(robustness, "CORRUPTIONS", {"contrast": None})
    part = photos(90)
    plain = np.eye(2, dtype=np.float32)[1 - part.labels]
    plain[np.flatnonzero(part.labels)[:30]] = (0.1, 0.9)
    found = robustness.measure_robustness(runtime, part, plain)
    assert found["images"] == 12
    assert found["clean_error"] >= 0.5, "of the drawn images, half of which are dark"
    assert found["corruptions"] == {"contrast": [0] * 5}
