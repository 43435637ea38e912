"""Mixup and cutmix: pixels and targets change by the same share, and the loss is that of the mixed target."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from peregrine.augmentation import Augmentation
from peregrine.engines.pytorch.loss import batch_loss
from peregrine.engines.pytorch.mixing import mix
from peregrine.engines.pytorch.pipeline import Batch
from peregrine.engines.pytorch.plan import Draws, plan_epoch
from peregrine.engines.pytorch.steps import right_answers

pytestmark = pytest.mark.torch
SIDE = 16


def greys(count: int) -> tuple[Tensor, Tensor]:
    """Images of one grey each, so that a pixel tells where it comes from; and a class for each."""
    index = torch.arange(count)
    return index[:, None, None, None].expand(-1, SIDE, SIDE, 3).float().contiguous(), index


def drawn(count: int, **settings: float) -> Draws:
    return plan_epoch(count, 0, 7, Augmentation(**settings)).draws


def test_mixup_blends_neighbours_by_one_share() -> None:
    draws = drawn(6, mixup=1.0)
    mixed, others, shares = mix(*greys(6), draws)
    own = draws.shares["mixup"]
    assert others.tolist() == [1, 0, 3, 2, 5, 4]
    torch.testing.assert_close(shares, 1 - own)
    assert len(set(own.tolist())) == 6
    for number, other in enumerate(others.tolist()):
        expected = torch.full((SIDE, SIDE, 3), float(own[number] * number + (1 - own[number]) * other))
        torch.testing.assert_close(mixed[number], expected)


def test_cutmix_takes_a_box_and_as_much_of_the_target() -> None:
    mixed, others, shares = mix(*greys(40), drawn(40, cutmix=1.0))
    areas = []
    for number, other in enumerate(others.tolist()):
        taken = mixed[number, :, :, 1].numpy() == other
        assert (taken[..., None] | (mixed[number].numpy() == number)).all()
        assert taken.sum() == taken.any(1).sum() * taken.any(0).sum()
        assert shares[number].item() == pytest.approx(taken.mean(), abs=1e-6)
        areas.append(taken.mean())
    assert 0.1 < np.mean(areas) < 0.5  # half of it on average, less what hangs over the border
    assert len(set(areas)) > 15


def test_with_both_each_image_gets_one_of_the_two() -> None:
    mixed, _, _ = mix(*greys(200), drawn(200, mixup=1.0, cutmix=1.0))
    boxed = sum(len(image.unique()) == 2 for image in mixed)
    assert 50 < boxed < 130


def test_the_last_of_an_odd_number_stays_alone() -> None:
    images, labels = greys(3)
    mixed, others, _ = mix(images, labels, drawn(3, mixup=1.0))
    assert others.tolist() == [1, 0, 2]
    assert torch.equal(mixed[2], images[2])


def test_without_mixing_the_loss_is_the_weighted_mean_of_cross_entropies() -> None:
    logits, labels, weights = torch.randn(8, 4), torch.arange(8) % 4, torch.tensor([0.5, 1.0, 1.5, 2.0])
    batch = Batch(torch.zeros(8, 3, 1, 1), labels, None)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.2, reduction="none") * weights[labels]
    assert torch.equal(batch_loss(logits, batch, weights, 0.2), expected.mean())
    assert batch_loss(logits.bfloat16(), batch, weights, 0.2).dtype == torch.float32


def test_the_loss_of_mixed_images_is_that_of_mixed_targets() -> None:
    """PyTorch's own cross-entropy with probabilities as targets; the weights are mixed as the targets are."""
    generator = torch.Generator().manual_seed(0)
    logits, shares = torch.randn(8, 4, generator=generator), torch.rand(8, generator=generator)
    labels, others = torch.arange(8) % 4, torch.randint(4, (8,), generator=generator)
    weights = torch.tensor([0.5, 1.0, 1.5, 2.0])
    targets = torch.lerp(torch.eye(4)[labels], torch.eye(4)[others], shares[:, None])
    losses = F.cross_entropy(logits, targets, label_smoothing=0.1, reduction="none")
    batch = Batch(torch.zeros(8, 3, 1, 1), labels, (others, shares))
    torch.testing.assert_close(batch_loss(logits, batch, weights, 0.1), (losses * (targets @ weights)).mean())


def test_of_a_mixed_image_the_larger_share_is_the_right_answer() -> None:
    """As in TensorFlow."""
    labels, others = torch.tensor([0, 1, 2]), torch.tensor([1, 0, 3])
    batch = Batch(torch.zeros(3, 3, 1, 1), labels, (others, torch.tensor([0.9, 0.8, 0.3])))
    assert right_answers(torch.eye(4)[[1, 0, 2]], batch) == 3
    assert right_answers(torch.eye(4)[labels], batch) == 1
    assert right_answers(torch.eye(4)[labels], Batch(batch.images, labels, None)) == 3
