from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

import making
import torch_ancestor
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.errors import DamagedFile, MissingDevice, UsageError
from peregrine.metrics import softmax

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return torch_ancestor.write(tmp_path_factory.mktemp("artifacts") / "torch")


def test_probabilities_are_the_softmax_of_the_tempered_logits(artifact: Artifact) -> None:
    images = making.images(300, 12, seed=1)
    with default_candidate(artifact).open() as runtime:
        probabilities, logits = runtime.predict(images), runtime.logits(images)
        runtime.verify()
        assert runtime.provider == "cpu"
    assert probabilities.dtype == logits.dtype == np.float32
    np.testing.assert_allclose(probabilities, softmax(logits / 1.7), atol=1e-6)
    assert len(set(probabilities.argmax(1))) > 1


def test_answers_do_not_depend_on_the_batch_or_the_memory(artifact: Artifact) -> None:
    images = making.images(10, 12, seed=1)
    read_only = images.copy()
    read_only.flags.writeable = False
    with default_candidate(artifact).open() as runtime:
        together = runtime.predict(images)
        np.testing.assert_allclose(runtime.predict(images[3:4]), together[3:4], atol=1e-6)
        np.testing.assert_array_equal(runtime.predict(read_only), together)
        np.testing.assert_array_equal(runtime.predict(np.asfortranarray(images)), together)
        assert runtime.predict(images[:0]).shape == (0, 3)


def test_runs_with_the_threads_of_its_candidate(artifact: Artifact) -> None:
    before = torch.get_num_threads()
    try:
        with replace(default_candidate(artifact), threads=1).open():
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_here(artifact: Artifact) -> None:
    with pytest.raises(MissingDevice, match="torch@torch-cuda runs on cuda; PyTorch finds no such device"):
        replace(default_candidate(artifact), provider="cuda").open()


def test_a_closed_runtime_answers_no_more(artifact: Artifact) -> None:
    runtime = default_candidate(artifact).open()
    runtime.close()
    runtime.close()
    with pytest.raises(UsageError, match="closed"):
        runtime.predict(making.images(1, 12))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """The hashes fit, so only the network itself can tell."""
    small, large = torch_ancestor.write(tmp_path / "small"), torch_ancestor.write(tmp_path / "large", widths=[8, 24])
    mixed = Artifact(small.path, large.manifest, small.id)
    from peregrine.runtimes.torch import TorchRuntime

    with pytest.raises(DamagedFile, match=r"model\.safetensors does not hold this model's weights"):
        TorchRuntime(default_candidate(small), mixed)
