import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

from peregrine.dataset import channel_statistics
from peregrine.engines.pytorch.distributed import World
from peregrine.engines.pytorch.graph import Classifier, Normalise, build_classifier
from peregrine.engines.pytorch.models.sprint import Group
from peregrine.engines.pytorch.optim import optimizers
from peregrine.engines.pytorch.precision import choose
from peregrine.recipe import ModelChoice, Muon

pytestmark = pytest.mark.torch
ALONE = World(torch.device("cpu"), "run")


def classifier(seed: int = 0, **options: object) -> Classifier:
    model = ModelChoice.model_validate({"name": "sprint", "widths": [6, 12, 12], "whitening": 8, **options})
    return build_classifier(model, 16, 5, seed)


@pytest.mark.parametrize("size", [8, 9, 13, 32, 64])
@pytest.mark.parametrize(("activation", "depth"), [("gelu", 2), ("silu", 1), ("relu", 3), ("hard-swish", 4)])
def test_takes_any_size(size: int, activation: str, depth: int) -> None:
    model = classifier(activation=activation, depth=depth)
    logits = model.train().network(torch.randn(4, 3, size, size))
    assert logits.shape == (4, 5)
    logits.sum().backward()
    probabilities = model.eval()(torch.zeros(3, size, size, 3, dtype=torch.uint8))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))


def test_convolutions_start_by_passing_their_channels_on() -> None:
    group = classifier().network.groups[0]
    assert isinstance(group, Group)
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(group.conv1(x), x[:, :6])


def test_a_deep_group_adds_its_first_activation_to_its_last_norm() -> None:
    """Zeroed by its scale, the last norm leaves the first activation alone."""
    for depth in (2, 3, 4):
        group = classifier(depth=depth, activation="relu").network.groups[0].eval()
        x = torch.randn(2, 8, 6, 6)
        first = group.activation(group.norm1(torch.nn.functional.max_pool2d(group.conv1(x), 2)))
        getattr(group, f"norm{depth}").weight.zero_()
        torch.testing.assert_close(group(x), first if depth >= 3 else torch.zeros_like(first))


def test_a_skip_begins_where_the_recipe_says() -> None:
    group = classifier(depth=2, skip_from=2, activation="relu").network.groups[0].eval()
    x = torch.randn(2, 8, 6, 6)
    first = group.activation(group.norm1(torch.nn.functional.max_pool2d(group.conv1(x), 2)))
    group.norm2.weight.zero_()
    torch.testing.assert_close(group(x), first)


@pytest.mark.parametrize(("size", "classes"), [(64, 1000), (128, 2), (64, 10)])
@pytest.mark.parametrize("depth", [2, 3])
def test_learns_from_larger_images_and_any_number_of_classes(size: int, classes: int, depth: int) -> None:
    """A few steps with Muon on one batch, whose loss falls."""
    model = ModelChoice.model_validate({"name": "sprint", "widths": [8, 16, 16], "whitening": 8, "depth": depth})
    network = build_classifier(model, size, classes).train().network
    random = np.random.default_rng(0)
    labels = torch.from_numpy(random.integers(0, classes, 16))
    images = torch.from_numpy(random.normal(0, 1, (16, 3, size, size)).astype(np.float32))
    network.fit(images)
    rates = Muon(learning_rate=0.05, bias_learning_rate=0.005, head_learning_rate=0.05)
    found = optimizers(network, rates, 16, torch.float32)
    losses = []
    for _ in range(6):
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        for optimizer in found:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_seed_decides_the_first_weights_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = classifier(0), classifier(0), classifier(1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.network.head.weight, again.network.head.weight)
    assert not torch.equal(first.network.head.weight, other.network.head.weight)


def test_the_whitening_bias_rests_after_its_share_of_the_run() -> None:
    network = classifier(whitening_bias=0.25).network
    network.before_step(0.2)
    assert network.whitening.bias.requires_grad
    network.before_step(0.25)
    assert not network.whitening.bias.requires_grad
    assert not network.whitening.weight.requires_grad


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_folding_changes_no_answer(depth: int) -> None:
    model = classifier(depth=depth, skip_from=2).train()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8))
    for _ in range(3):
        model(images)
    for weight in model.network.parameters():
        weight.data.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    model.eval()
    folded = model.folded()
    torch.testing.assert_close(folded(images), model(images), atol=1e-5, rtol=0)
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_whitening_runs_in_fp32_under_autocast() -> None:
    network = classifier().network
    seen = []
    network.whitening.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(2, 3, 16, 16))
    assert seen == [torch.float32]
    assert logits.dtype == torch.bfloat16


def test_a_channel_without_contrast_is_only_centred() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)
    images[..., 2] = 7
    normalised = Normalise.by(*channel_statistics(images))(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    assert torch.equal(normalised[:, 2], torch.zeros(10, 8, 8))
    assert normalised[:, 0].std().item() == pytest.approx(1, abs=0.01)


def test_precision_is_what_was_asked_for_and_a_race_leaves_the_model_alone() -> None:
    model = classifier()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.rand(8, 3, 16, 16) * 255
    assert choose("fp32", model, images, ALONE) == "fp32"
    assert choose("auto", model, images, ALONE) in ("fp32", "bf16")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_bf16_without_hardware_is_never_chosen_and_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("peregrine.host.has_bf16", lambda: False)
    images = torch.rand(8, 3, 16, 16) * 255
    assert choose("auto", classifier(), images, ALONE) == "fp32"
    assert choose("bf16", classifier(), images, ALONE) == "bf16"
    assert "no bf16 in hardware" in caplog.text
