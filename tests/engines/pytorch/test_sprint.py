import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch

from peregrine.engines.pytorch.graph import Classifier, Normalise, build_classifier
from peregrine.engines.pytorch.models.sprint import Group
from peregrine.engines.pytorch.precision import choose
from peregrine.recipe import ModelChoice

pytestmark = pytest.mark.torch


def classifier(seed: int = 0, **options: object) -> Classifier:
    model = ModelChoice.model_validate({"name": "sprint", "widths": [6, 12, 12], "whitening": 8, **options})
    return build_classifier(model, 16, 5, seed)


@pytest.mark.parametrize("size", [8, 9, 13, 32, 64])
@pytest.mark.parametrize("activation", ["gelu", "silu", "relu"])
def test_takes_any_size(size: int, activation: str) -> None:
    model = classifier(activation=activation)
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


def test_folding_changes_no_answer() -> None:
    model = classifier().train()
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
    normalised = Normalise.of(images)(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    assert torch.equal(normalised[:, 2], torch.zeros(10, 8, 8))
    assert normalised[:, 0].std().item() == pytest.approx(1, abs=0.01)


def test_precision_is_what_was_asked_for_and_a_race_leaves_the_model_alone() -> None:
    model = classifier()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.rand(8, 3, 16, 16) * 255
    assert choose("fp32", model, images) == "fp32"
    assert choose("auto", model, images) in ("fp32", "bf16")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_bf16_without_hardware_is_never_chosen_and_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("peregrine.host.has_bf16", lambda: False)
    images = torch.rand(8, 3, 16, 16) * 255
    assert choose("auto", classifier(), images) == "fp32"
    assert choose("bf16", classifier(), images) == "bf16"
    assert "no bf16 in hardware" in caplog.text
