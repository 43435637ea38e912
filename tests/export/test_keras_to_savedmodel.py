"""What only this edge does; `contract/test_edges.py` has the rest."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peregrine.export.keras_to_savedmodel", reason="needs the extra tensorflow", exc_type=ImportError)
import keras_ancestor
import making
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.export.base import convert_task

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def ancestor(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return keras_ancestor.write(
        tmp_path_factory.mktemp("artifacts") / "keras", 12, name="sprint", widths=[8, 12], whitening=12
    )


@pytest.fixture(scope="module")
def exported(ancestor: Artifact) -> Artifact:
    path = ancestor.path.with_name("savedmodel")
    convert_task("keras_to_savedmodel", str(ancestor.path), str(path), "savedmodel")
    return Artifact.open(path)


def test_every_file_is_in_the_manifest(exported: Artifact) -> None:
    assert {"saved_model/saved_model.pb", "saved_model/variables/variables.index"} <= exported.manifest.files.keys()
    assert exported.manifest.notes["signature"] == "serving_default"


def test_it_tells_nothing_of_this_machine(exported: Artifact) -> None:
    for file in exported.manifest.files:
        content = (exported.path / file).read_bytes()
        assert os.fsencode(Path.home()) + b"/" not in content
        assert b".py" not in content, file


def test_tensorflow_alone_serves_it(exported: Artifact, tmp_path: Path) -> None:
    """In a process without Keras and without us: one signature, and nothing that trains."""
    images = making.images(5, 12)
    np.save(tmp_path / "images.npy", images)
    script = """
import sys, numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
assert list(loaded.signatures) == ["serving_default"]
(signature,) = loaded.signatures.values()
assert signature.structured_input_signature[1]["images"].dtype == tf.uint8
assert not any(hasattr(loaded, name) for name in ("fit", "optimizer", "call", "__call__", "layers"))
answers = signature(images=tf.constant(np.load(sys.argv[2])))
assert list(answers) == ["probabilities"]
np.save(sys.argv[3], answers["probabilities"].numpy())
"""
    arguments = [exported.model_path, tmp_path / "images.npy", tmp_path / "answers.npy"]
    ended = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    with default_candidate(exported).open() as runtime:
        np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), runtime.predict(images), atol=1e-6)
