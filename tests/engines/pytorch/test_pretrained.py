"""First weights from files: what is taken, what is refused and in which words."""

import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch
from safetensors.torch import save, save_file

import hub_server
import making
from peregrine.engines.pytorch import pretrained
from peregrine.engines.pytorch.models import resnet18
from peregrine.engines.pytorch.models.resnet18 import Options, ResNet18
from peregrine.errors import DamagedFile, MissingDependency, RecipeError

pytestmark = pytest.mark.torch
IMAGES = making.images(2, 8)


class Trap:
    """What a hostile file holds: opened as a pickle it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    """Weights that somebody else trained, for 7 classes."""
    torch.manual_seed(3)
    return dict(ResNet18(Options(), 7).state_dict())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def official(state: dict[str, Any], folder: Path) -> Path:
    """As torchvision writes it; its old files have no counts of batches."""
    path = folder / "resnet18.pth"
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, path)
    return path


def fitted(weights: Path | str, class_count: int, **options: Any) -> ResNet18:
    resolved = resnet18.resolve(Options(weights=str(weights), **options), IMAGES)
    torch.manual_seed(4)
    network = resnet18.build(resolved, 8, class_count)
    network.fit(torch.zeros(2, 3, 8, 8))
    return network


def test_none_needs_nothing() -> None:
    resolved = resnet18.resolve(Options(), IMAGES)
    assert (resolved.weights, resolved.pixels) == ("none", "data")
    resnet18.build(resolved, 8, 3).fit(torch.zeros(2, 3, 8, 8))


def test_the_recipe_says_how_pixels_are_standardised(official: Path) -> None:
    assert resnet18.resolve(Options(weights=str(official)), IMAGES).pixels == "imagenet"
    assert resnet18.resolve(Options(weights=str(official), pixels="data"), IMAGES).pixels == "data"
    again = resnet18.resolve(Options(weights=str(official)), IMAGES)
    assert resnet18.resolve(again, IMAGES) == again


@pytest.mark.parametrize("kind", ["plain", "wrapped", "parallel", "safetensors", "half"])
def test_every_weight_is_taken(kind: str, state: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    if kind == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    elif kind == "wrapped":
        torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, path)
    elif kind == "parallel":
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    elif kind == "half":
        torch.save({name: value.half() if value.is_floating_point() else value for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    network = fitted(path, 7)
    for name, value in network.state_dict().items():
        assert value.dtype == state[name].dtype
        torch.testing.assert_close(
            value, state[name], atol=1e-3 if kind == "half" else 0, rtol=1e-3 if kind == "half" else 0
        )


def test_the_head_starts_fresh_for_other_classes(
    official: Path, state: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "peregrine"):
        network = fitted(official, 3)
    assert "knows 7 classes, the data has 3: the layer fc starts fresh" in caplog.text
    assert tuple(network.fc.weight.shape) == (3, 512)
    assert torch.equal(network.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    caplog.clear()
    with caplog.at_level(logging.INFO, "peregrine"):
        assert torch.equal(fitted(official, 7).fc.bias, state["fc.bias"])
    assert not caplog.text


def change(state: dict[str, Any], path: Path, **changes: Any) -> Path:
    """Write a state dict with some tensors replaced, or left out with None; `_` stands for a dot."""
    content = {**state, **{name.replace("_", "."): value for name, value in changes.items()}}
    torch.save({name: value for name, value in content.items() if value is not None}, path)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"conv1_weight": torch.zeros(64, 3, 3, 3)},
            "does not fit the model: conv1.weight has shape (64, 3, 3, 3), the network needs (64, 3, 7, 7); use --set "
            "model.stem=cifar",
        ),
        (
            {"bn1_weight": torch.zeros(32), "layer1_0_conv1_weight": None, "layer5_0_conv1_weight": torch.zeros(1)},
            "bn1.weight has shape (32,), the network needs (64,); missing: layer1.0.conv1.weight; unexpected: "
            "layer5.0.conv1.weight; give model.weights another file",
        ),
        ({"fc_weight": None, "fc_bias": None}, "missing: fc.weight, fc.bias; give model.weights another file"),
        ({"fc_weight": torch.zeros(7, 2048)}, "fc.weight has shape (7, 2048), the network needs (7, 512)"),
        ({"fc_bias": torch.zeros(5)}, "fc.bias has shape (5,), the network needs (7,); give model.weights another"),
    ],
)
def test_weights_of_another_network(
    state: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = change(state, tmp_path / "other.pth", **changes)
    with pytest.raises(RecipeError) as caught:
        fitted(path, 7)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_the_other_stem(official: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        fitted(official, 7, stem="cifar")
    assert str(caught.value).endswith(
        "conv1.weight has shape (64, 3, 7, 7), the network needs (64, 3, 3, 3); use --set model.stem=imagenet"
    )


def test_many_differences_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "vit.pt"
    torch.save({f"blocks.{number}.weight": torch.zeros(2) for number in range(9)}, path)
    with pytest.raises(RecipeError) as caught:
        fitted(path, 7)
    assert "missing: conv1.weight, bn1.weight, bn1.bias and 99 more; unexpected: blocks.0.weight, " in str(caught.value)
    assert "blocks.2.weight and 6 more; give" in str(caught.value)


def test_no_file() -> None:
    with pytest.raises(
        RecipeError, match=r"model\.weights is none, a file or hf://owner/name; got gone\.pth, which is"
    ):
        fitted("gone.pth", 7)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1, 2], "with a list"),
        ({}, "with nothing"),
        ({0: torch.zeros(1)}, "with the keys 0;"),
        (
            {"epoch": 3, "model": {}, "optimizer": {}, "loss": 0.1},
            "with the keys 'epoch', 'model', 'optimizer' and 1 more;",
        ),
    ],
)
def test_no_state_dict(content: Any, found: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(
        RecipeError, match=r"model\.weights takes tensors by name, .*; save the model's state_dict"
    ) as caught:
        fitted(tmp_path / "other.pt", 7)
    assert found in str(caught.value)


def hostile_by_torch(path: Path, state: dict[str, Any], trap: Trap) -> None:
    torch.save({**state, "trap": trap}, path)


def hostile_pickle(path: Path, state: dict[str, Any], trap: Trap) -> None:
    path.write_bytes(pickle.dumps(trap))


def whole_model(path: Path, state: dict[str, Any], trap: Trap) -> None:
    torch.save(ResNet18(Options(), 7), path)


@pytest.mark.parametrize("write", [hostile_by_torch, hostile_pickle, whole_model])
def test_a_file_that_would_run_code_is_refused(
    write: Callable[[Path, dict[str, Any], Trap], None], state: dict[str, Any], tmp_path: Path
) -> None:
    trap = tmp_path / "sprung"
    write(tmp_path / "weights.pt", state, Trap(trap))
    with pytest.raises(
        DamagedFile, match=r"weights\.pt cannot be opened as tensors and nothing else, the one way that"
    ):
        fitted(tmp_path / "weights.pt", 7)
    assert not trap.exists()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("kept", [0, 1000])
def test_a_torn_file_is_damaged(suffix: str, kept: int, state: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFile, match="cannot be opened as tensors and nothing else"):
        pretrained.read(path)


# ---- from the hub ---------------------------------------------------------------------------------------------------

# Resolve a recipe's options, and once more what they were resolved to, as a run and its repetition do; then fill.
FROM_HUB = """
import sys, torch, making
from peregrine.engines.pytorch.models import resnet18
options = resnet18.resolve(resnet18.Options(weights=sys.argv[1]), making.images(2, 8))
assert resnet18.resolve(options, making.images(2, 8)) == options
network = resnet18.build(options, 8, 7)
network.fit(torch.zeros(2, 3, 8, 8))
print(options.weights, options.pixels, network.fc.bias.sum().item())
"""


def test_weights_from_the_hub(state: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
    with hub_server.serving({"model.safetensors": save(state)}) as hub:
        environment = hub_server.environment(hub.url, tmp_path / "home")
        environment["PYTHONPATH"] = str(Path(making.__file__).parent)
        command = [sys.executable, "-c", FROM_HUB, "hf://owner/name"]
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    address, pixels, total = ended.stdout.split()
    assert (address, pixels) == (f"hf://owner/name@{hub_server.COMMIT}/model.safetensors", "imagenet")
    assert float(total) == pytest.approx(state["fc.bias"].sum().item(), rel=1e-5)
    assert [asked.partition(" ")[0] for asked in hub.asked] == ["HEAD", "GET"], "fetched once"


def test_the_hub_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "peregrine.engines.hub", raising=False)
    with pytest.raises(MissingDependency) as caught:
        pretrained.locate("hf://owner/name")
    assert str(caught.value) == (
        "weights hf:// needs the library 'huggingface_hub', which is not installed; run: pip install 'peregrine[hub]'"
    )
