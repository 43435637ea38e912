import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

from peregrine.augmentation import Augmentation
from peregrine.engines.pytorch.augment import EpochPlan, cut, plan_epoch, to_network
from peregrine.engines.pytorch.pipeline import Batches, Resident, as_tensor

pytestmark = pytest.mark.torch


def pixels(count: int = 20, size: int = 9) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))


def test_a_batch_is_reflected_padding_shift_and_flip_to_the_last_pixel() -> None:
    images = pixels()
    plan = plan_epoch(20, seed=3, epoch=1, settings=Augmentation(flip="random", translate=4))
    batch, which = cut(images, plan, slice(5, 15))
    assert torch.equal(which, plan.order[5:15])
    padded = np.pad(images.numpy(), ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    for image, index in zip(batch.numpy(), which.tolist(), strict=True):
        top, left = 4 + int(plan.down[index]), 4 + int(plan.right[index])
        expected = padded[index, top : top + 9, left : left + 9]
        np.testing.assert_array_equal(image, expected[:, ::-1] if plan.flipped[index] else expected)


def test_draws_reach_both_ends_and_no_further() -> None:
    plan = plan_epoch(2000, seed=0, epoch=0, settings=Augmentation(translate=2))
    assert set(plan.down.tolist()) == set(plan.right.tolist()) == {-2, -1, 0, 1, 2}
    assert not plan.flipped.any()
    assert sorted(plan.order.tolist()) == list(range(2000))


def test_alternating_flips_show_every_image_both_ways_in_two_epochs() -> None:
    settings = Augmentation(flip="alternating")
    flipped = [plan_epoch(1000, seed=0, epoch=epoch, settings=settings).flipped for epoch in range(4)]
    assert 400 < flipped[0].sum() < 600
    assert torch.equal(flipped[0], ~flipped[1])
    assert torch.equal(flipped[0], flipped[2])
    randomly = [plan_epoch(1000, 0, epoch, Augmentation(flip="random")).flipped for epoch in range(3)]
    assert not torch.equal(randomly[0], randomly[2])


def test_plans_are_functions_of_seed_and_epoch_alone() -> None:
    settings = Augmentation(flip="random", translate=2)

    def plan(seed: int, epoch: int) -> EpochPlan:
        return plan_epoch(50, seed, epoch, settings)

    first = plan(7, 3)
    torch.rand(10)  # the global generator has no say
    again = plan(7, 3)
    assert all(
        torch.equal(getattr(first, name), getattr(again, name)) for name in ("order", "down", "right", "flipped")
    )
    assert not torch.equal(first.order, plan(7, 4).order)
    assert not torch.equal(first.order, plan(8, 3).order)


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


def test_images_grow_over_the_run(tiny, shades) -> None:  # type: ignore[no-untyped-def]
    recipe = tiny({"input.size": 12, "input.growth": [[0.25, 8], [0.5, 10]], "epochs": 2, "batch_size": 16})
    batches = Batches(Resident.of(shades(70), torch.device("cpu")), recipe)
    assert (batches.size, batches.per_epoch, batches.total) == (16, 4, 8)
    sizes = []
    for epoch in range(2):
        plan = batches.plan(epoch)
        for step in range(4):
            images, labels = batches.batch(plan, epoch, step)
            assert images.shape[:2] == (16, 3)
            assert labels.shape == (16,)
            sizes.append(images.shape[-1])
    assert sizes == [8, 8, 10, 10, 12, 12, 12, 12]


def test_fewer_images_than_a_batch_are_one_batch(tiny, shades) -> None:  # type: ignore[no-untyped-def]
    batches = Batches(Resident.of(shades(7), torch.device("cpu")), tiny({"input.size": 12, "batch_size": 500}))
    assert (batches.size, batches.per_epoch) == (7, 1)


def test_a_mapped_file_is_used_where_it_lies(tmp_path) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "images.npy", pixels().numpy())
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    tensor = as_tensor(mapped)
    assert tensor.data_ptr() == mapped.ctypes.data
    assert torch.equal(tensor, pixels())
