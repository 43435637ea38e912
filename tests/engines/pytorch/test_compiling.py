"""A compiled network is the same network: logits, gradients, names, and a run that goes on as it began."""

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
import torch
from safetensors import safe_open

from peregrine import host
from peregrine.engines.base import TrainingJob, TrainingResult
from peregrine.engines.pytorch import compiling
from peregrine.engines.pytorch.compiling import Compiled, caller, choose
from peregrine.engines.pytorch.distributed import World
from peregrine.engines.pytorch.engine import PyTorchEngine
from peregrine.engines.pytorch.graph import Classifier, build_classifier
from peregrine.engines.pytorch.pipeline import Batches, Resident
from peregrine.engines.pytorch.precision import Precision, autocast
from peregrine.errors import Interrupted, MachineError, MissingDependency, RecipeError
from peregrine.recipe import ModelChoice
from small_runs import StopAt

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")
IMAGES = torch.rand((8, 3, 12, 12), generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)


def classifier() -> Classifier:
    choice = {"name": "sprint", "widths": [6, 12], "whitening": 8, "activation": "gelu", "depth": 3}
    made = build_classifier(ModelChoice.model_validate(choice), 12, 3)
    torch.nn.init.normal_(made.network.whitening.weight, generator=torch.Generator().manual_seed(0))
    return made


@contextlib.contextmanager
def cxx(path: Path) -> Iterator[None]:
    """PyTorch takes another C++ compiler, and nothing that it compiled before."""
    from torch._inductor import config

    with config.patch({"cpp.cxx": (None, str(path)), "force_disable_caches": True}):
        yield


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.05)])
def test_logits_and_gradients_are_those_of_the_eager_network(precision: Precision, tolerance: float) -> None:
    if precision == "bf16" and not host.has_bf16():
        pytest.skip("this CPU has no bf16")
    network = classifier().network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    compiled, generator = Compiled(network), torch.get_rng_state()
    assert not compiled.fits(IMAGES)
    compiled.compile(IMAGES, precision)
    assert compiled.fits(IMAGES)
    assert torch.equal(torch.get_rng_state(), generator)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(weight.grad is None for weight in network.parameters())

    eager = copy.deepcopy(network)
    results = []
    for forward, weights in ((compiled, network), (eager, eager)):
        with autocast(precision, CPU):
            logits = forward(IMAGES)
        logits.float().square().sum().backward()
        results.append((logits, {name: w.grad for name, w in weights.named_parameters() if w.grad is not None}))
    (logits, gradients), (eager_logits, eager_gradients) = results
    assert logits.dtype == eager_logits.dtype
    assert list(gradients) == list(eager_gradients)
    assert (logits - eager_logits).abs().max() < tolerance * eager_logits.abs().max()
    for name, gradient in eager_gradients.items():
        assert (gradients[name] - gradient).norm() <= tolerance * gradient.norm() + 1e-6, name

    network.before_step(1.0)  # the whitening bias rests
    assert not compiled.fits(IMAGES)


@pytest.mark.slow
def test_a_compiled_run_takes_the_same_steps_and_goes_on_as_it_began(job: Callable[..., TrainingJob]) -> None:
    changes = {"model.widths": [6], "compile": "on"}
    eager = PyTorchEngine().train(job("eager", {**changes, "compile": "auto"}))
    straight = PyTorchEngine().train(job("straight", changes))
    assert [eager.recipe.compile, straight.recipe.compile] == ["off", "on"]
    assert straight.other_seconds["compilation"] > straight.training_seconds
    assert "compilation" not in eager.other_seconds
    np.testing.assert_allclose(numbers(straight), numbers(eager), rtol=1e-3)

    with pytest.raises(Interrupted):
        PyTorchEngine().train(job("resumed", changes, stop=StopAt(7)))
    resumed = PyTorchEngine().train(job("resumed", resume=True))
    assert numbers(resumed) == numbers(straight)
    assert resumed.recipe == straight.recipe
    assert names(resumed.checkpoint) == names(eager.checkpoint)


def numbers(result: TrainingResult) -> list[list[float | None]]:
    return [[row["loss"], row["accuracy"], row["val_loss"], row["val_accuracy"]] for row in result.history]


def names(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return sorted(file.keys())


def test_what_was_decided_is_not_decided_again(
    job: Callable[..., TrainingJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compiled, "compile", lambda *_: None)
    monkeypatch.setattr(compiling, "choose", lambda *_: True)
    with pytest.raises(Interrupted):
        PyTorchEngine().train(job(stop=StopAt(1)))
    monkeypatch.delattr(compiling, "choose")
    assert PyTorchEngine().train(job(resume=True)).recipe.compile == "on"


@pytest.fixture
def batches(job: Callable[..., TrainingJob]) -> Batches:
    made = job()
    return Batches(Resident.of(made.train, CPU), made.recipe.changed({"input.growth": [[0.8, 10]]}))


@pytest.mark.parametrize(("share", "pays"), [(0.85, True), (0.95, False)])
def test_on_one_gpu_a_race_decides(monkeypatch: pytest.MonkeyPatch, batches: Batches, share: float, pays: bool) -> None:
    raced: list[Any] = []

    def race(runners: Any, device: Any) -> dict[str, float]:
        for run in runners.values():
            run()
        raced.append(list(runners))
        return {"eager": 1.0, "compiled": share}

    monkeypatch.setattr(compiling, "race", race)
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    made = classifier()
    before = copy.deepcopy(made.state_dict())
    assert choose("auto", made, batches, "fp32", World(torch.device("cuda"), "run")) == pays
    assert raced == [["eager", "compiled"]]
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_the_race_is_over_the_size_that_most_steps_have(batches: Batches) -> None:
    assert batches.usual().shape[2:] == (10, 10)


def test_nobody_asks_on_cpus_and_among_several_ranks(monkeypatch: pytest.MonkeyPatch, batches: Batches) -> None:
    monkeypatch.delattr(compiling, "race")
    for world in (World(CPU, "run"), World(torch.device("cuda"), "run", 0, 2)):
        assert not choose("auto", classifier(), batches, "fp32", world)
    assert choose("on", classifier(), batches, "fp32", World(CPU, "run"))


def test_several_workers_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"compile='on' is for one worker, .*; got 2; start one, or use --set comp"):
        caller(classifier().network, True, World(CPU, "run", 0, 2))


def test_without_a_compiler_on_says_so_and_auto_goes_without(
    batches: Batches, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with cxx(tmp_path / "gone"):
        with pytest.raises(MissingDependency, match=r"^torch\.compile needs a C\+\+ compiler .* compile=off$"):
            Compiled(classifier().network).compile(IMAGES, "fp32")
        with caplog.at_level(logging.INFO, "peregrine"):
            assert not choose("auto", classifier(), batches, "fp32", World(torch.device("cuda"), "run"))
    assert "not compiled: torch.compile needs a C++ compiler" in caplog.text


def test_a_compiler_that_fails_is_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "g++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exec g++ --version\nexit 1\n')
    broken.chmod(0o755)
    with cxx(broken), pytest.raises(MachineError, match=r"^torch\.compile failed \(.*\); use --set compile=off$"):
        Compiled(classifier().network).compile(IMAGES, "fp32")
