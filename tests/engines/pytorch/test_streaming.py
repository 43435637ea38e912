"""Streamed data gives the same batches as resident data, from a thread that ends with the loop."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

from peregrine.dataset import Dataset
from peregrine.engines.base import TrainingJob
from peregrine.engines.pytorch import streaming
from peregrine.engines.pytorch.engine import PyTorchEngine
from peregrine.engines.pytorch.pipeline import AHEAD, Batches, Resident, mean_colour
from peregrine.engines.pytorch.streaming import Streamed, source
from peregrine.errors import Interrupted
from peregrine.recipe import Recipe
from small_runs import StopAt

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")
EVERYTHING: dict[str, Any] = {"flip": "alternating", "translate": 2, "rotation": 20.0, "cutout": 3, "cutmix": 1.0}


@pytest.fixture
def data(shades: Callable[..., Dataset], tmp_path: Path) -> Dataset:
    """Mapped from a disk."""
    made = shades(70)
    np.save(tmp_path / "images.npy", made.images)
    return replace(made, images=np.load(tmp_path / "images.npy", mmap_mode="r"))


@pytest.fixture(autouse=True)
def no_thread_stays() -> Any:
    before = set(threading.enumerate())
    yield
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("peregrine-reader")]


@pytest.mark.parametrize("augmentation", [{"flip": "random", "translate": 1}, EVERYTHING])
def test_batches_are_the_resident_ones(augmentation: Any, data: Dataset, tiny: Callable[..., Recipe]) -> None:
    """In order, after a jump to and fro, and as the part of a rank."""
    recipe = tiny({"input.size": 12, "augmentation": augmentation, "batch_size": 10})
    streamed = Streamed(data, CPU)
    for rank, ranks in ((0, 1), (1, 2)):
        ours, theirs = (Batches(one, recipe, rank, ranks) for one in (streamed, Resident.of(data, CPU)))
        for epoch, step in [*((0, step) for step in range(7)), (1, 0), (1, 1), (1, 5), (1, 2), (0, 3), (0, 4)]:
            one, other = (made.batch(made.plan(epoch), epoch, step) for made in (ours, theirs))
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)
            assert (one.mixed is None) == (other.mixed is None)
            for pair in zip(one.mixed or (), other.mixed or (), strict=True):
                assert torch.equal(*pair)
        np.testing.assert_array_equal(ours.shown(1, 5), theirs.shown(1, 5))
    streamed.close()


def test_all_images_in_order(data: Dataset) -> None:
    streamed, resident = Streamed(data, CPU), Resident.of(data, CPU)
    for one, other in zip(streamed.in_order(32), resident.in_order(32), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert torch.equal(mean_colour(streamed, 12), mean_colour(resident, 12))
    streamed.close()


def test_each_block_is_read_once_and_a_few_ahead(
    data: Dataset, tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    once = Streamed._read

    def counted(self: Streamed, ids: streaming.Ids) -> Any:
        read.append(len(ids))
        return once(self, ids)

    monkeypatch.setattr(Streamed, "_read", counted)
    streamed = Streamed(data, CPU)
    batches = Batches(streamed, tiny({"input.size": 12, "batch_size": 10}))
    plan = batches.plan(0)
    batches.batch(plan, 0, 0)
    streamed._reader.submit(int).result()  # after what was asked for
    assert read == [10] * (1 + AHEAD)
    for step in range(1, 7):
        batches.batch(plan, 0, step)
    assert read == [10] * 7
    streamed.close()


def test_the_memory_decides(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with source(data, CPU) as found:
        assert isinstance(found, Resident)
    monkeypatch.setenv("PEREGRINE_RESIDENT_GIB", "0.00001")
    with source(data, CPU) as found:
        assert isinstance(found, Streamed)


def test_on_a_gpu_its_free_memory_decides_too(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: what PyTorch would say of its memory, and what would go there."""
    free = 3 * data.images.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    resident, streamed = Resident.of(data, CPU), Streamed(data, CPU)
    monkeypatch.setattr(Resident, "of", lambda dataset, device: resident)
    monkeypatch.setattr(streaming, "Streamed", lambda dataset, device: streamed)
    with source(data, torch.device("cuda")) as found:
        assert found is resident
    free -= 3
    with source(data, torch.device("cuda")) as found:
        assert found is streamed


def test_an_error_of_the_thread_reaches_the_loop(
    job: Callable[..., TrainingJob], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Streamed, ids: streaming.Ids) -> Any:
        raise OSError("the disk is gone")

    monkeypatch.setenv("PEREGRINE_RESIDENT_GIB", "0")
    monkeypatch.setattr(Streamed, "_read", fails)
    with pytest.raises(OSError, match="the disk is gone"):
        PyTorchEngine().train(job(train=data))


def test_a_streamed_run_that_is_stopped_and_resumed_is_the_resident_run(
    job: Callable[..., TrainingJob], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, validation included; with everything that an image can go through."""
    changes = {"augmentation": EVERYTHING}
    resident = PyTorchEngine().train(job("resident", changes, train=data))
    monkeypatch.setenv("PEREGRINE_RESIDENT_GIB", "0")
    with pytest.raises(Interrupted):
        PyTorchEngine().train(job("streamed", changes, train=data, stop=StopAt(7)))
    streamed = PyTorchEngine().train(job("streamed", resume=True, train=data))
    for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert [row[key] for row in streamed.history] == [row[key] for row in resident.history]
    assert streamed.checkpoint.read_bytes() == resident.checkpoint.read_bytes()
