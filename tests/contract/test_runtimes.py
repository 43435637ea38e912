"""What every runtime promises with a real model; a new one needs no line here, its format names it."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import small_runs
from peregrine.artifact import ANCESTOR, Artifact
from peregrine.candidate import PROVIDERS, Candidate, candidates
from peregrine.errors import UsageError
from peregrine.formats import FORMATS
from peregrine.metrics import softmax
from peregrine.runtimes.base import Runtime
from workshop import ANCESTORS, Workshop, ancestor_of, engine_marks

LOWERED = {("openvino", "fp32"): "bf16"}  # what a runtime may run a file in instead
WAYS = [
    pytest.param(
        format.name,
        runtime,
        precision,
        id=f"{format.name}@{runtime}-{precision}",
        marks=engine_marks(ANCESTORS[ancestor_of(format.name)]),
    )
    for format in FORMATS.values()
    for runtime in format.runtimes
    for precision in (format.precision, LOWERED.get((runtime, format.precision)))
    if precision
]
TOLERANCE = {"fp32": 1e-5}  # between two batches of one model
LESS = 1e-2  # the same in lower precision
LARGEST = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.2}  # from the model that was trained
pytestmark = pytest.mark.parametrize(("format", "name", "precision"), WAYS)


@pytest.fixture
def artifact(format: str, workshop: Workshop) -> Artifact:
    return workshop.artifact(format)


@pytest.fixture
def candidate(artifact: Artifact, name: str, precision: str) -> Candidate:
    small_runs.need("runtime", name)
    for found in candidates(artifact):
        if (found.runtime, found.precision) == (name, precision):
            small_runs.need_device(found)
            return found
    pytest.skip(f"this processor has no {precision}")


@pytest.fixture
def runtime(candidate: Candidate) -> Iterator[Runtime]:
    with candidate.open() as opened:
        yield opened


def images(count: int) -> Any:
    return np.random.default_rng(count).integers(0, 256, (count, small_runs.SIZE, small_runs.SIZE, 3), np.uint8)


def test_gives_the_probabilities_of_the_model(runtime: Runtime, workshop: Workshop) -> None:
    test = small_runs.splits().test
    answers = runtime.predict(test.images)
    assert answers.dtype == np.float32
    assert answers.shape == (len(test), len(runtime.class_names))
    assert (answers >= 0).all()
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)
    assert (answers.argmax(1) == test.labels).mean() > 0.9
    assert runtime.class_names == small_runs.CLASSES


def test_runs_with_the_threads_that_were_asked_for(runtime: Runtime, candidate: Candidate) -> None:
    assert runtime.threads == candidate.threads


@pytest.mark.parametrize("count", [0, 1, 7, 250, 251, 10_000])
def test_any_batch(runtime: Runtime, count: int) -> None:
    answers = runtime.predict(images(count))
    assert answers.shape == (count, len(small_runs.CLASSES))
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)


def test_an_image_gets_the_same_answer_in_any_batch(runtime: Runtime, format: str) -> None:
    if FORMATS[format].dynamic:
        pytest.skip("its ranges are those of each batch")
    several = images(300)
    together = runtime.predict(several)
    limit = TOLERANCE.get(runtime.candidate.precision, LESS)
    for size in (1, 7, 100):
        parts = [runtime.predict(several[start : start + size]) for start in range(0, 300, size)]
        np.testing.assert_allclose(np.concatenate(parts), together, atol=limit)


def test_any_memory_layout(runtime: Runtime) -> None:
    several = images(10)
    read_only = several.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(several), read_only, several.repeat(2, axis=0)[::2]):
        np.testing.assert_array_equal(runtime.predict(same), runtime.predict(several))


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (np.zeros((2, 12, 12, 3), np.float32), r"float32 \(2, 12, 12, 3\)"),
        (np.zeros((2, 3, 12, 12), np.uint8), r"uint8 \(2, 3, 12, 12\)"),
        (np.zeros((12, 12, 3), np.uint8), r"uint8 \(12, 12, 3\)"),
        ([[0]], "list"),
    ],
)
def test_other_input_is_refused(runtime: Runtime, wrong: Any, found: str) -> None:
    with pytest.raises(UsageError, match=rf"images are uint8 \(N, 12, 12, 3\); got {found}"):
        runtime.predict(wrong)


def test_two_threads_get_their_own_answers(runtime: Runtime) -> None:
    several = images(400)
    expected = runtime.predict(several)
    answers: dict[int, Any] = {}

    def ask(half: int) -> None:
        answers[half] = [runtime.predict(several[half::2]) for _ in range(5)]

    threads = [threading.Thread(target=ask, args=(half,)) for half in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for half in (0, 1):
        for answer in answers[half]:
            np.testing.assert_allclose(answer, expected[half::2], atol=TOLERANCE.get(runtime.candidate.precision, LESS))


def test_the_golden_images_are_answered_as_proved(runtime: Runtime, artifact: Artifact) -> None:
    runtime.verify()
    golden = artifact.golden()
    limit = LARGEST[runtime.candidate.precision]
    np.testing.assert_allclose(runtime.predict(golden.images), golden.answers[ANCESTOR], atol=limit)


def test_runs_where_it_was_asked_to(runtime: Runtime) -> None:
    assert runtime.provider == runtime.candidate.provider == PROVIDERS.get(runtime.candidate.runtime, "cpu")


def test_only_an_ancestor_gives_logits(runtime: Runtime, artifact: Artifact) -> None:
    several = images(20)
    if artifact.manifest.ancestor is None:
        logits = runtime.logits(several)
        assert logits.dtype == np.float32
        expected = softmax(logits / artifact.manifest.temperature)
        np.testing.assert_allclose(runtime.predict(several), expected, atol=1e-5)
    else:
        with pytest.raises(UsageError, match="only an ancestor gives logits"):
            runtime.logits(several)


def test_after_closing(candidate: Candidate) -> None:
    runtime = candidate.open()
    runtime.close()
    runtime.close()
    with pytest.raises(UsageError, match="is closed; open it again"):
        runtime.predict(images(1))
