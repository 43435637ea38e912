"""Arrays and tensors are the same memory: on a GPU, and on the CPU as far as TensorFlow takes it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import places
import small_runs
from peregrine import arrays, device
from peregrine.dataset import channel_statistics, packed
from peregrine.engines.tensorflow.library import tf
from peregrine.engines.tensorflow.pipeline import Resident, as_tensor, colours

pytestmark = pytest.mark.tensorflow
ALONE = tf.distribute.get_strategy()


def address(tensor: Any) -> int:
    """Of a tensor's memory on the CPU."""
    return np.frombuffer(memoryview(tensor), np.uint8).ctypes.data


def aligned(count: int) -> Any:
    """Bytes that begin where TensorFlow wants them to."""
    room = np.arange(count + 64, dtype=np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + count]


def test_what_numpy_holds() -> None:
    array = aligned(64)
    tensor = as_tensor(array)
    assert address(tensor) == array.ctypes.data
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_what_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    """By NumPy: TensorFlow's form of DLPack cannot say so. The engine copies such images, by `tf.constant`."""
    np.save(tmp_path / "a.npy", np.arange(64, dtype=np.uint8))
    with pytest.raises(BufferError, match="readonly"):
        as_tensor(np.load(tmp_path / "a.npy", mmap_mode="r"))


def test_statistics_of_resident_images() -> None:
    data = small_runs.splits().train
    resident = Resident(data, ALONE)
    np.testing.assert_array_equal(resident.images[0].numpy(), data.images)
    assert colours(resident, data) == channel_statistics(data.images)


# ---- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> arrays.Place:
    places.need_gpu("cupy")
    if not tf.config.list_logical_devices("GPU"):
        pytest.skip("needs TensorFlow for CUDA")
    monkeypatch.setenv(device.VARIABLE, "cuda")
    return arrays.choose("packing", 1)


@pytest.mark.gpu
def test_cupy_to_tensorflow_and_back(place: arrays.Place) -> None:
    array = packed(small_runs.splits().train.images, place)
    place.fetch(array[:1])
    tensor = as_tensor(array)
    assert "GPU" in tensor.device
    back = place.xp.from_dlpack(tf.experimental.dlpack.to_dlpack(tensor))
    assert back.data.ptr == array.data.ptr
    del array, back
    np.testing.assert_array_equal(tensor.numpy(), small_runs.splits().train.images)


@pytest.mark.gpu
def test_training_images_come_to_the_gpu_once(place: arrays.Place) -> None:
    data = small_runs.splits().train
    resident = Resident(data, ALONE)
    assert "GPU" in resident.images[0].device
    np.testing.assert_array_equal(resident.images[0].numpy(), data.images)
    assert colours(resident, data) == channel_statistics(data.images)
