"""What only the LiteRT runtime does; `contract/test_runtimes.py` has the rest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peregrine.export.keras_to_tflite", reason="needs the extra tensorflow", exc_type=ImportError)
pytest.importorskip("peregrine.runtimes.tflite", reason="needs the extra litert", exc_type=ImportError)
import keras_ancestor
import making
from machine import python
from peregrine.artifact import Artifact
from peregrine.candidate import candidates, default_candidate
from peregrine.errors import MissingDevice
from peregrine.export.base import convert_task

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    ancestor = keras_ancestor.write(tmp_path_factory.mktemp("artifacts") / "keras")
    path = ancestor.path.with_name("tflite")
    convert_task("keras_to_tflite", str(ancestor.path), str(path), "tflite")
    return Artifact.open(path)


def test_any_number_of_threads_gives_the_same(artifact: Artifact) -> None:
    images = making.images(50, 12)
    answers = []
    for threads in (1, 3):
        with replace(default_candidate(artifact), threads=threads).open() as runtime:
            answers.append(runtime.predict(images))
    np.testing.assert_allclose(*answers, atol=1e-6)


def test_one_way_to_run_it(artifact: Artifact) -> None:
    assert [candidate.key for candidate in candidates(artifact)] == ["tflite@tflite"]


def test_another_device(artifact: Artifact) -> None:
    with pytest.raises(MissingDevice, match=r"^tflite@tflite-cuda runs on cuda; LiteRT is used on the CPU alone$"):
        replace(default_candidate(artifact), provider="cuda").open()


def test_it_needs_no_tensorflow(artifact: Artifact, tmp_path: Path) -> None:
    ended = python(f"""
import sys
import peregrine
with peregrine.open({str(artifact.path)!r}, verify=True) as runtime:
    print(runtime.provider, {{"tensorflow", "keras", "torch"}} & set(sys.modules))
""")
    assert ended.stdout.strip() == "cpu set()", ended.stderr
