"""Arrays and tensors are the same memory, on the CPU and on a GPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

import places
import small_runs
from peregrine import arrays, device
from peregrine.dataset import Dataset, channel_statistics, packed
from peregrine.engines.pytorch.pipeline import Resident, as_tensor, colours

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")


def test_what_numpy_holds() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    tensor = as_tensor(array)
    assert tensor.data_ptr() == array.ctypes.data
    back = np.from_dlpack(tensor)
    assert back.ctypes.data == array.ctypes.data
    np.testing.assert_array_equal(back, array)


def test_what_may_not_be_written_to(tmp_path: Path) -> None:
    """Maps of the store, which DLPack alone would refuse or copy."""
    np.save(tmp_path / "a.npy", np.arange(12, dtype=np.uint8))
    for array in (np.load(tmp_path / "a.npy", mmap_mode="r"), np.frombuffer(b"abc", np.uint8)):
        assert not array.flags.writeable
        assert as_tensor(array).data_ptr() == array.ctypes.data


def test_what_gives_its_memory_by_dlpack() -> None:
    """Anything but NumPy's, such as CuPy's; here a tensor stands in for it."""

    class Holder:
        def __init__(self, held: Any) -> None:
            self.held = held

        def __dlpack__(self, **arguments: Any) -> Any:
            return self.held.__dlpack__(**arguments)

        def __dlpack_device__(self) -> Any:
            return self.held.__dlpack_device__()

    held = torch.arange(6)
    tensor = as_tensor(Holder(held))
    assert tensor.data_ptr() == held.data_ptr()


def test_training_images_on_the_cpu_stay_where_they_are() -> None:
    data = small_runs.splits().train
    resident = Resident.of(data, CPU)
    assert resident.images.data_ptr() == data.images.ctypes.data
    assert colours(resident, data) == channel_statistics(data.images)


# ---- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> arrays.Place:
    places.need_gpu("cupy")
    if not torch.cuda.is_available():
        pytest.skip("needs PyTorch for CUDA")
    monkeypatch.setenv(device.VARIABLE, "cuda")
    return arrays.choose("packing", 1)


@pytest.mark.gpu
def test_cupy_to_pytorch_and_back(place: arrays.Place) -> None:
    array = packed(small_runs.splits().train.images, place)
    tensor = as_tensor(array)
    assert tensor.is_cuda
    assert tensor.data_ptr() == array.data.ptr
    back = place.xp.from_dlpack(tensor)
    assert back.data.ptr == array.data.ptr
    del array, back
    np.testing.assert_array_equal(tensor.cpu().numpy(), small_runs.splits().train.images)


@pytest.mark.gpu
def test_training_images_come_to_the_gpu_once(place: arrays.Place) -> None:
    data: Dataset = small_runs.splits().train
    resident = Resident.of(data, torch.device("cuda"))
    np.testing.assert_array_equal(resident.images.cpu().numpy(), data.images)
    before = torch.cuda.memory_allocated()
    assert colours(resident, data) == channel_statistics(data.images)
    assert torch.cuda.memory_allocated() == before
