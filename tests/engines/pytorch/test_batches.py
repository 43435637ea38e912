"""What the steps see: at the size that is due, split between ranks, and the same wherever the pixels lie."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

from peregrine.dataset import Dataset
from peregrine.engines.pytorch.augment import to_network
from peregrine.engines.pytorch.pipeline import Batches, Resident, as_tensor, mean_colour
from peregrine.errors import RecipeError
from peregrine.recipe import Recipe

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")
EVERYTHING: dict[str, Any] = {
    "input.size": 12,
    "augmentation": {"flip": "random", "translate": 2, "rotation": 20.0, "contrast": 0.2, "cutout": 3, "mixup": 1.0,
                     "cutmix": 1.0},
}  # fmt: skip


def pixels(count: int = 20, size: int = 9) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))


def test_resizing_keeps_the_range_and_the_memory_format() -> None:
    images = pixels(size=16)
    small = to_network(images, 10)
    assert small.shape == (20, 3, 10, 10)
    assert small.dtype == torch.float32
    assert small.is_contiguous(memory_format=torch.channels_last)
    assert small.min() >= 0
    assert small.max() <= 255
    assert small.mean().item() == pytest.approx(images.float().mean().item(), abs=0.5)
    assert torch.equal(to_network(images, 16), images.permute(0, 3, 1, 2).float())
    assert torch.equal(to_network(images.float() + 0.4, 10), small)  # resized as uint8


def test_images_grow_over_the_run(tiny: Callable[..., Recipe], shades: Callable[..., Dataset]) -> None:
    recipe = tiny({"input.size": 12, "input.growth": [[0.25, 8], [0.5, 10]], "epochs": 2, "batch_size": 16})
    batches = Batches(Resident.of(shades(70), CPU), recipe)
    assert (batches.size, batches.per_epoch, batches.total) == (16, 4, 8)
    sizes = []
    for epoch in range(2):
        plan = batches.plan(epoch)
        for step in range(4):
            batch = batches.batch(plan, epoch, step)
            assert batch.images.shape[:2] == (16, 3)
            assert batch.labels.shape == (16,)
            assert batch.mixed is None
            sizes.append(batch.images.shape[-1])
    assert sizes == [8, 8, 10, 10, 12, 12, 12, 12]


def test_fewer_images_than_a_batch_are_one_batch(tiny: Callable[..., Recipe], shades: Callable[..., Dataset]) -> None:
    batches = Batches(Resident.of(shades(7), CPU), tiny({"input.size": 12, "batch_size": 500}))
    assert (batches.size, batches.per_epoch) == (7, 1)


@pytest.mark.parametrize(("size", "ranks"), [(16, 2), (18, 2), (15, 2), (24, 3), (20, 3)])
@pytest.mark.parametrize("growth", [[], [[1.0, 10]]])
def test_ranks_together_see_what_one_rank_sees(
    size: int, ranks: int, growth: Any, tiny: Callable[..., Recipe], shades: Callable[..., Dataset]
) -> None:
    recipe = tiny({**EVERYTHING, "batch_size": size, "input.growth": growth})
    data = Resident.of(shades(70), CPU)
    alone, all_ = Batches(data, recipe), [Batches(data, recipe, rank, ranks) for rank in range(ranks)]
    assert [(one.size, one.per_epoch) for one in all_] == [(alone.size, alone.per_epoch)] * ranks
    assert all(one.mine.start % 2 == 0 for one in all_)
    lengths = [one.mine.stop - one.mine.start for one in all_]
    assert sum(lengths) == size
    assert max(lengths) - min(lengths) <= 3
    if size % (2 * ranks) == 0:
        assert len(set(lengths)) == 1
    plan = alone.plan(1)
    for step in range(alone.per_epoch):
        whole = alone.batch(plan, 1, step)
        parts = [one.batch(one.plan(1), 1, step) for one in all_]
        assert [len(part.labels) for part in parts] == lengths
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
        assert whole.mixed is not None
        for number in (0, 1):
            mixed = [part.mixed[number] for part in parts if part.mixed is not None]
            assert torch.equal(torch.cat(mixed), whole.mixed[number])


def test_a_rank_without_images_is_refused(tiny: Callable[..., Recipe], shades: Callable[..., Dataset]) -> None:
    data, recipe = Resident.of(shades(70), CPU), tiny({"input.size": 12, "batch_size": 5})
    message = "batch_size gives each of 3 processes two images or more of every batch, 6 in all; got 5; use a larger"
    with pytest.raises(RecipeError, match=message):
        Batches(data, recipe, 0, 3)
    assert Batches(data, recipe, 1, 2).mine == slice(2, 5)


@pytest.mark.parametrize("preset", ["crop-flip", "classic"])
def test_everything_happens_on_the_device_of_the_images(
    preset: str, tiny: Callable[..., Recipe], shades: Callable[..., Dataset]
) -> None:
    """On PyTorch's device `meta`, which computes nothing, but not with tensors of another device either."""
    changes = {"brightness": 0.1, "contrast": 0.1, "cutout": 3, "mixup": 1.0, "cutmix": 1.0}
    recipe = tiny({"input.size": 12, "input.growth": [[0.5, 8]], "augmentation": {"preset": preset, **changes}})
    batches = Batches(Resident.of(shades(70), torch.device("meta")), recipe)
    plan = batches.plan(0)
    batch = batches.batch(plan, 0, 0)
    assert batch.mixed is not None
    assert {part.device.type for part in (batch.images, batch.labels, *batch.mixed)} == {"meta"}
    assert batch.images.shape == (16, 3, 8, 8)


def test_neighbours_of_the_batch_are_mixed(tiny: Callable[..., Recipe], shades: Callable[..., Dataset]) -> None:
    batches = Batches(Resident.of(shades(70), CPU), tiny({"input.size": 12, "augmentation": {"mixup": 1.0}}))
    batch = batches.batch(batches.plan(0), 0, 2)
    assert batch.mixed is not None
    others, shares = batch.mixed
    assert torch.equal(others, batch.labels.view(-1, 2).flip(1).flatten())
    assert shares.shape == (16,)


def test_the_mean_colour_is_that_of_all_images(shades: Callable[..., Dataset]) -> None:
    data = shades(70)
    expected = data.images.reshape(-1, 3).mean(0)
    np.testing.assert_allclose(mean_colour(Resident.of(data, CPU), 12), expected, rtol=1e-6)


def test_the_mean_colour_of_large_images_is_summed_up_a_few_at_once() -> None:
    """Of streamed ones, four such blocks are in memory."""
    asked: list[int] = []

    class Asked(Resident):
        def in_order(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            asked.append(size)
            return super().in_order(size)

    for size in (32, 64, 256):
        mean_colour(Asked(torch.zeros(3, size, size, 3, dtype=torch.uint8), torch.zeros(3)), size)
    assert asked == [1000, 1000, 62]


def test_a_mapped_file_is_used_where_it_lies(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", pixels().numpy())
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    tensor = as_tensor(mapped)
    assert tensor.data_ptr() == mapped.ctypes.data
    assert torch.equal(tensor, pixels())
