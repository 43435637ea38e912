"""Aggregation proved: two ranks, and three with unequal parts, do to the weights what one does with the whole batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch
from safetensors.numpy import load_file
from torch import nn

import torch_ranks
from peregrine.engines.pytorch import distributed
from peregrine.engines.pytorch.device import pick
from peregrine.engines.pytorch.distributed import Pulse, World, meeting
from peregrine.engines.pytorch.norms import SynchronisedNorm, synchronise
from peregrine.errors import MachineError, MissingDevice
from peregrine.signals import StopRequest

pytestmark = pytest.mark.torch
# Sums in another order, in weights, and in everything else that a state holds. The largest differences seen:
# - resnet18: 1.6e-7, as long as rounding moves no activation across the kink of its ReLU. Each that is moved changes
#   the gradient: counted at a learning rate of 0.01, 1, 14 and 98 of 1.3 million in steps 3 to 5 made it 1.3e-3 in a
#   momentum and 2.8e-5 in a weight.
# - resnet18-double: 6e-16. In float64 none crosses, and nothing but the sums' order is left.
# - sprint: 2.7e-6, where weights and states are up to 2: Muon makes a step of full length out of every gradient.
TOLERANCE = {"resnet18": (1e-4, 5e-3), "resnet18-double": (1e-12, 1e-12), "sprint": (1e-5, 1e-5)}
TYPE = {"resnet18": np.float32, "resnet18-double": np.float64, "sprint": np.float32}
ALONE = World(torch.device("cpu"), "run")


def trained(folder: Path, *launcher: str) -> Path:
    """Train all models in a process of its own, or by the processes of a launcher."""
    command = [sys.executable, *launcher, torch_ranks.__file__, str(folder)]
    ended = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("alone"))


def state(folder: Path, model: str, step: int) -> dict[str, Any]:
    """Weights, statistics, what the optimisers keep, and each step's loss and hits."""
    found: dict[str, Any] = load_file(folder / model / f"checkpoints/resume/{step:09d}/training.safetensors")
    return found


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_are_one(alone: Path, tmp_path: Path, ranks: int) -> None:
    """Three have parts of 4, 6 and 6 images."""
    together = trained(tmp_path, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks))
    for model, limits in TOLERANCE.items():
        before, expected, found = state(alone, model, 0), state(alone, model, 5), state(together, model, 5)
        assert found.keys() == expected.keys()
        weights = [name for name in before if name.startswith("model.network.") and name.endswith(".weight")]
        assert max(np.abs(expected[name] - before[name]).max() for name in weights) > 0.02
        assert expected["epoch.losses"].dtype == TYPE[model]
        for name, value in expected.items():
            limit = limits[not name.startswith("model.")]
            np.testing.assert_allclose(found[name], value, atol=limit, rtol=limit, err_msg=f"{model} {name}")
        (mine,), (ours,) = (
            json.loads((folder / model / "results/training_history.json").read_text()) for folder in (alone, together)
        )
        assert ours["val_accuracy"] == mine["val_accuracy"]
        assert ours["val_loss"] == pytest.approx(mine["val_loss"], abs=limits[1])
        assert ours["accuracy"] == mine["accuracy"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_over_one_rank_is_a_batch_norm(dtype: torch.dtype) -> None:
    norm = nn.BatchNorm2d(3, momentum=0.4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    ours = SynchronisedNorm(nn.BatchNorm2d(3, momentum=0.4), ALONE)
    ours.load_state_dict(norm.state_dict())
    images = (torch.randn(6, 3, 5, 4) * 3 + 100).to(dtype)
    upstream = torch.randn(6, 3, 5, 4).to(dtype)
    answers = []
    for layer in (norm, ours):
        seen = images.clone().requires_grad_()
        made = layer(seen)
        made.backward(upstream)
        answers.append([made, seen.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()])
    for name, theirs, mine in zip(("out", "in", "weight", "bias", "mean", "var", "count"), *answers, strict=True):
        limit = 1e-4 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(mine, theirs, atol=limit, rtol=limit, msg=lambda text, name=name: f"{name}: {text}")
    torch.testing.assert_close(ours.eval()(images), norm.eval()(images))


def test_norms_keep_their_weights_and_names() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4)))
    names, weights = list(network.state_dict()), list(network.parameters())
    synchronise(network, ALONE)
    assert type(network[1][0]) is nn.BatchNorm2d
    synchronise(network, World(torch.device("cpu"), "run", ranks=2))
    assert type(network[1][0]) is SynchronisedNorm
    assert list(network.state_dict()) == names
    assert all(mine is theirs for mine, theirs in zip(network.parameters(), weights, strict=True))


def test_one_process_is_a_world_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with meeting(tmp_path, StopRequest()) as world:
        assert (world.rank, world.ranks, world.is_first, world.run) == (0, 1, True, str(tmp_path))
        assert not torch.distributed.is_initialized()
    losses = torch.ones(2)
    assert world.add_up(losses) is losses
    assert world.mean(1 / 3, 7) == 1 / 3
    assert (world.largest(15), world.from_first("this")) == (15, "this")
    assert world.part(10) == slice(0, 10)
    pulse = Pulse(world, 1.0)
    assert pulse.due()
    assert pulse.due()


@pytest.mark.parametrize(
    ("error", "told"), [(RuntimeError("gloo: connection closed by peer"), MachineError), (KeyError("a bug"), KeyError)]
)
def test_what_is_pending_is_aborted_before_a_failed_meeting_ends(
    error: Exception, told: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NCCL would wait for the one that is gone. Here a rank of two that meets nobody, over gloo."""
    done: list[str] = []
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "rendezvous", lambda *_, **__: iter([(torch.distributed.HashStore(), 0, 1)]))
    monkeypatch.setattr(torch.distributed.ProcessGroup, "abort", lambda group: done.append("abort"))
    destroy = torch.distributed.destroy_process_group
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: (done.append("destroy"), destroy()))
    with meeting(tmp_path, StopRequest()):
        assert torch.distributed.is_initialized()
    assert done == ["destroy"]
    with pytest.raises(told), meeting(tmp_path, StopRequest()):
        raise error
    assert done == ["destroy", "abort", "destroy"]
    assert not torch.distributed.is_initialized()


def test_parts_cover_everything() -> None:
    parts = [World(torch.device("cpu"), "run", rank, 3).part(10) for rank in range(3)]
    assert [index for part in parts for index in range(10)[part]] == list(range(10))


def test_processes_of_a_machine_share_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from peregrine import host

    before = torch.get_num_threads()
    monkeypatch.setattr(host, "threads", lambda: 7)
    for name, value in {"RANK": 4, "WORLD_SIZE": 6, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 3}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    try:
        assert pick() == torch.device("cpu")
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        with pytest.raises(MissingDevice, match="each process of torchrun takes a GPU; got 3 for 2 on this machine"):
            pick()
    finally:
        torch.set_num_threads(before)
