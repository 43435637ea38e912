"""What every Runtime does around its library, shown on the one that has none."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from peregrine.artifact import Artifact
from peregrine.errors import CheckFailed, DamagedFile, UsageError
from peregrine.runtimes.base import BATCH, predict_task
from peregrine.runtimes.fake import FakeRuntime


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return tiny.fake_artifact(tmp_path / "onnx")


def opened(artifact: Artifact, kind: type[FakeRuntime] = FakeRuntime, **changes: Any) -> FakeRuntime:
    return kind(tiny.fake_candidate(artifact, **changes), artifact)


class Recorder(FakeRuntime):
    """Notes the size of each batch, and whether two calls overlap."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.batches: list[int] = []
        self.inside = 0
        self.closed = 0

    def _infer(self, images: Any) -> Any:
        self.inside += 1
        assert self.inside == 1
        assert images.flags.c_contiguous
        self.batches.append(len(images))
        answers = super()._infer(images)
        self.inside -= 1
        return answers

    def _close(self) -> None:
        self.closed += 1


def test_probabilities(artifact: Artifact) -> None:
    with opened(artifact) as runtime:
        answers = runtime.predict(tiny.images(7))
        assert runtime.class_names == tiny.CLASSES
        assert runtime.provider == "cpu"
    assert answers.dtype == np.float32
    assert answers.shape == (7, 3)
    assert answers.sum(1) == pytest.approx(np.ones(7), abs=1e-6)
    assert (answers >= 0).all()


def test_any_number_and_any_strides(artifact: Artifact) -> None:
    images = tiny.images(2 * BATCH + 7)
    with opened(artifact, Recorder) as runtime:
        together = runtime.predict(images)
        assert runtime.batches == [BATCH, BATCH, 7]
        assert runtime.predict(images[:0]).shape == (0, 3)
        alone = np.concatenate([runtime.predict(images[i : i + 1]) for i in range(20)])
        assert np.array_equal(together[:20], alone)
        assert np.array_equal(runtime.predict(images[::-2]), together[::-2])
        mirrored = np.asfortranarray(images[:5, :, ::-1])
        assert np.array_equal(runtime.predict(mirrored), runtime.predict(np.ascontiguousarray(mirrored)))


@pytest.mark.parametrize(("side", "batch"), [(64, BATCH), (256, 15)])
def test_of_large_images_fewer_go_in_at_once(side: int, batch: int, tmp_path: Path) -> None:
    """Or what lies between the layers would take tens of gigabytes."""
    images = np.zeros((2 * batch + 3, side, side, 3), np.uint8)
    large = tiny.fake_artifact(tmp_path / "large", pixels=images[:2], preprocess={"size": side})
    with opened(large, Recorder) as runtime:
        assert runtime.batch_size == batch
        assert runtime.predict(images).shape == (2 * batch + 3, 3)
        assert runtime.batches == [batch, batch, 3]
    with opened(large, Recorder, batch=20) as static:
        static.predict(images[:21])
        assert static.batches == [20, 20]


def test_a_static_batch_is_filled_up(artifact: Artifact) -> None:
    images = tiny.images(10)
    with opened(artifact, Recorder, batch=4) as static, opened(artifact) as free:
        assert np.array_equal(static.predict(images), free.predict(images))
        assert static.batches == [4, 4, 4]
        assert static.predict(images[:1]).shape == (1, 3)
        assert static.predict(images[:0]).shape == (0, 3)


def test_a_file_mapped_into_memory(artifact: Artifact, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", tiny.images(5))
    with opened(artifact) as runtime:
        mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
        assert np.array_equal(runtime.predict(mapped), runtime.predict(tiny.images(5)))


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (tiny.images(2).astype(np.float32), r"float32 \(2, 8, 8, 3\)"),
        (tiny.images(2)[0], r"uint8 \(8, 8, 3\)"),
        (tiny.images(2).transpose(0, 3, 1, 2), r"uint8 \(2, 3, 8, 8\)"),
        (tiny.images(2)[:, :7], r"uint8 \(2, 7, 8, 3\)"),
        (tiny.images(2)[..., :1], r"uint8 \(2, 8, 8, 1\)"),
        ([[1, 2], [3, 4]], "list"),
        (None, "NoneType"),
    ],
)
def test_other_input_is_refused(artifact: Artifact, images: Any, found: str) -> None:
    with (
        opened(artifact) as runtime,
        pytest.raises(UsageError, match=rf"^images are uint8 \(N, 8, 8, 3\); got {found}; "),
    ):
        runtime.predict(images)


@pytest.mark.parametrize("count", [0, 1])
def test_after_closing(artifact: Artifact, count: int) -> None:
    runtime = opened(artifact, Recorder)
    with runtime:
        pass
    runtime.close()
    assert runtime.closed == 1
    with pytest.raises(UsageError, match=r"^onnx@fake is closed; open it again$"):
        runtime.predict(tiny.images(count))


def test_only_ancestors_give_logits(artifact: Artifact) -> None:
    with (
        opened(artifact) as runtime,
        pytest.raises(UsageError, match=r"^only an ancestor gives logits; onnx@fake gives"),
    ):
        runtime.logits(tiny.images(1))


def test_threads_take_turns(artifact: Artifact) -> None:
    images = tiny.images(400)
    with opened(artifact, Recorder, batch=20) as runtime:
        runtime.delay_s = 1e-5
        expected = runtime.predict(images)
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(runtime.predict(images))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 4
    assert all(np.array_equal(answers, expected) for answers in found)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (5, 1), (5, 4)])
def test_an_answer_of_another_shape_is_not_stretched(artifact: Artifact, shape: tuple[int, ...]) -> None:
    class Wrong(FakeRuntime):
        def _infer(self, images: Any) -> Any:
            return np.zeros(shape, np.float32)

    with opened(artifact, Wrong) as runtime, pytest.raises(CheckFailed) as caught:
        runtime.predict(tiny.images(5))
    assert str(caught.value) == (
        f"onnx@fake answers (N, C); got {shape} for 5 images of 3 classes; export the model again"
    )


def test_another_device_than_asked_for_is_refused(artifact: Artifact) -> None:
    with pytest.raises(
        CheckFailed, match=r"^onnx@fake-cuda was asked to run on cuda, its library runs it on cpu; check the"
    ):
        opened(artifact, provider="cuda")


class Shifted(FakeRuntime):
    """Answers a little differently than it was proved."""

    shift = 0.0

    def _infer(self, images: Any) -> Any:
        return super()._infer(images) + np.float32(self.shift)


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 0.001), ("fp16", 0.05), ("int8", 0.05)])
def test_verify_compares_with_the_golden_answers(artifact: Artifact, precision: str, limit: float) -> None:
    with opened(artifact, Shifted, precision=precision) as runtime:
        runtime.verify()
        runtime.shift = 0.9 * limit
        runtime.verify()
        runtime.shift = 1.1 * limit
        message = (
            f"^{runtime.candidate.key} answers its golden images differently than when it was proved: "
            f"the largest difference is {1.1 * limit:.4f}, the limit {limit}; export the model again on this machine$"
        )
        with pytest.raises(DamagedFile, match=message):
            runtime.verify()
        runtime.shift = float("nan")
        with pytest.raises(DamagedFile, match="the largest difference is nan"):
            runtime.verify()


def test_verify_prefers_what_this_candidate_gave(artifact: Artifact) -> None:
    with opened(artifact, Shifted) as runtime:
        runtime.shift = 0.01
        artifact.learn("parity", {}, {"onnx@fake": runtime.predict(artifact.golden().images)})
        runtime.verify()
        runtime.shift = 0.0
        with pytest.raises(DamagedFile, match=r"the largest difference is 0\.0100"):
            runtime.verify()


def test_predict_task(artifact: Artifact, tmp_path: Path) -> None:
    images = tiny.images(9, seed=2)
    np.save(tmp_path / "images.npy", images)
    candidate = tiny.fake_candidate(artifact)
    output = tmp_path / "answers.npz"
    assert predict_task(candidate.to_dict(), str(tmp_path / "images.npy"), str(output))["provider"] == "cpu"
    with opened(artifact) as runtime, np.load(output) as answers:
        assert np.array_equal(answers["probabilities"], runtime.predict(images))
        assert np.array_equal(answers["golden"], artifact.golden().answers["ancestor"])
