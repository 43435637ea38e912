"""An epoch has every image once, all randomness is a function of seed, epoch and step; streamed is as resident."""

import contextlib
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import small_runs
from peregrine import host
from peregrine.engines.tensorflow import strategy
from peregrine.engines.tensorflow.batches import Batches
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.pipeline import Block, Resident, Streamed, order, source

pytestmark = pytest.mark.tensorflow
DATA = small_runs.patterns(50, 0)
SIZE = 16
ALONE = tf.distribute.get_strategy()
DEVICES = ("/job:localhost/replica:0/task:0/device:GPU:0", "/job:localhost/replica:0/task:0/device:GPU:1")
MIRRORED = SimpleNamespace(num_replicas_in_sync=2, extended=SimpleNamespace(worker_devices=DEVICES))


def batches(changes: dict[str, Any] | None = None) -> Batches:
    settings = {"augmentation": {}, "batch_size": SIZE, **(changes or {})}
    return Batches(small_runs.recipe("tensorflow", settings), len(DATA), 4, [1.0, 2.0, 3.0])


def batch(made: Batches, block: Block, epoch: int, step: int) -> tuple[Any, Any]:
    places, ids = tf.constant(block.places), tf.constant(block.ids)
    found = made.batch(block.images[0], block.labels[0], places, ids, tf.constant(epoch), tf.constant(step), 12)
    return found[0].numpy(), found[1].numpy()


def epoch(made: Batches, number: int) -> tuple[Any, Any]:
    resident, visits = Resident(DATA, ALONE), order(50, 0, number)
    parts = [batch(made, resident.block(visits, start, start + SIZE), number, start) for start in range(0, 50, SIZE)]
    images, targets = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(targets)


def test_an_epoch_has_every_image_once() -> None:
    images, targets = epoch(batches(), 0)
    visits = order(50, 0, 0)
    assert sorted(visits) == list(range(50))
    np.testing.assert_array_equal(images, DATA.images[visits])
    np.testing.assert_array_equal(targets, np.eye(4)[DATA.labels[visits]])
    assert not np.array_equal(visits, order(50, 0, 1))
    assert not np.array_equal(visits, order(50, 1, 0))


def test_a_batch_depends_on_seed_epoch_and_step_alone() -> None:
    changes = {"augmentation": {"rotation": 30.0, "flip": "random", "translate": 2, "mixup": 0.2}}
    first, second = batches(changes), batches(changes)
    tf.random.set_seed(1)
    block = Resident(DATA, ALONE).block(order(50, 0, 3), 16, 32)
    at_once = batch(first, block, 3, 2)[0]
    batch(second, block, 0, 0)
    np.testing.assert_array_equal(at_once, batch(second, block, 3, 2)[0])
    assert not np.array_equal(at_once, batch(first, block, 3, 3)[0])
    assert not np.array_equal(at_once, batch(batches({**changes, "seed": 1}), block, 3, 2)[0])


def test_alternating_flips_show_every_image_both_ways_in_two_epochs() -> None:
    made = batches({"augmentation": {"flip": "alternating"}})
    mirrored = []
    for number in range(3):
        images, _ = epoch(made, number)
        images = images[np.argsort(order(50, 0, number))]
        flipped = (images == DATA.images[:, :, ::-1]).all((1, 2, 3))
        np.testing.assert_array_equal(images[~flipped], DATA.images[~flipped])
        mirrored.append(flipped)
    assert 10 < mirrored[0].sum() < 40
    np.testing.assert_array_equal(mirrored[1], ~mirrored[0])
    np.testing.assert_array_equal(mirrored[2], mirrored[0])


# ---- streaming ------------------------------------------------------------------------------------------------------


def test_streamed_blocks_hold_the_images_that_resident_ones_name() -> None:
    resident, visits = Resident(DATA, ALONE), order(50, 0, 0)
    with contextlib.closing(Streamed(DATA, ALONE)) as streamed:
        for start, stop in ((0, 16), (16, 32), (32, 40), (40, 50), (8, 9)):  # foreseen, not foreseen, and back again
            ours, theirs = streamed.block(visits, start, stop), resident.block(visits, start, stop)
            np.testing.assert_array_equal(ours.ids, theirs.ids)
            np.testing.assert_array_equal(
                tf.gather(ours.images[0], ours.places), tf.gather(theirs.images[0], theirs.places)
            )
            np.testing.assert_array_equal(
                tf.gather(ours.labels[0], ours.places), tf.gather(theirs.labels[0], theirs.places)
            )


def test_the_next_block_is_read_while_this_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    once = Streamed._read

    def counted(self: Streamed, ids: Any) -> Any:
        read.append(len(ids))
        return once(self, ids)

    monkeypatch.setattr(Streamed, "_read", counted)
    visits = order(50, 0, 0)
    with contextlib.closing(Streamed(DATA, ALONE)) as streamed:
        for start in range(0, 50, 10):
            streamed.block(visits, start, start + 10)
    assert read == [10] * 5


@pytest.mark.parametrize("chosen", [ALONE, MIRRORED], ids=["alone", "mirrored"])
def test_on_gpus_their_memory_decides_too(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: what TensorFlow and the driver would say of some, and what would go there."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(strategy, "on_replicas", lambda chosen, make: (make(),))
    enough = 3 * DATA.images.nbytes
    for memory, kind in ((enough, Resident), (enough - 3, Streamed), (None, Resident)):  # None: another maker's GPU
        monkeypatch.setattr(host, "gpu_memory_bytes", lambda found=memory: found)
        with source(DATA, chosen) as made:
            assert isinstance(made, kind)


def test_without_gpus_theirs_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "gpu_memory_bytes", lambda: 0)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    with source(DATA, ALONE) as made:
        assert isinstance(made, Resident)


def test_the_memory_decides_and_no_thread_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    with source(DATA, ALONE) as made:
        assert isinstance(made, Resident)
    monkeypatch.setenv("PEREGRINE_RESIDENT_GIB", "0.00001")
    before = set(threading.enumerate())
    with source(DATA, ALONE) as made:
        assert isinstance(made, Streamed)
        made.block(order(50, 0, 0), 0, 10)
        (reader,) = set(threading.enumerate()) - before
    assert not reader.is_alive()
