"""A run that is stopped and resumed ends exactly like one that was not."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
from peregrine import host
from peregrine.engines import resume
from peregrine.engines.base import TrainingJob, TrainingResult
from peregrine.engines.pytorch import train
from peregrine.engines.pytorch.engine import PyTorchEngine
from peregrine.errors import DamagedFile, Interrupted
from peregrine.signals import StopRequest

pytestmark = pytest.mark.torch
MakeJob = Callable[..., TrainingJob]


class StopAt(StopRequest):
    """Asks to stop when it is looked at for the n-th time, counted from 0: before that step."""

    def __init__(self, look: int) -> None:
        super().__init__()
        self.looks_left = look

    def __bool__(self) -> bool:
        self.looks_left -= 1
        if self.looks_left < 0:
            self.signum = signal.SIGTERM
        return self.signum is not None


def numbers(result: TrainingResult) -> list[dict[str, Any]]:
    """The history without what a clock says."""
    return [{key: row[key] for key in row if key not in ("seconds", "images_per_s")} for row in result.history]


def run_with_stops(job: MakeJob, name: str, looks: list[int], changes: dict[str, Any]) -> TrainingResult:
    """Train, stopping and resuming once for each of `looks`."""
    for number, look in enumerate(looks):
        with pytest.raises(
            Interrupted, match=r"stopped by SIGTERM: saved after step \d+ of \d+; go on with: peregrine"
        ):
            PyTorchEngine().train(job(name, changes, resume=number > 0, stop=StopAt(look)))
    return PyTorchEngine().train(job(name, changes, resume=bool(looks)))


# 4 steps an epoch, with a look before each and one after the epoch: 5 looks an epoch.
@pytest.mark.parametrize(
    ("looks", "changes"),
    [
        ([0], {}),  # before the first step
        ([2, 0, 3], {}),  # within an epoch, again at once, and across the end of an epoch
        ([4], {}),  # after an epoch
        ([14], {}),  # after the last step
        ([1, 1, 1, 1, 1], {"optimizer": {"name": "adam"}, "augmentation.flip": "random", "class_weights": "balanced"}),
        ([7], {"precision": "bf16", "model.activation": "silu"}),
    ],
)
def test_stopping_changes_no_bit(job: MakeJob, looks: list[int], changes: dict[str, Any]) -> None:
    if changes.get("precision") == "bf16" and not host.has_bf16():
        pytest.skip("this CPU has no bf16")
    straight = run_with_stops(job, "straight", [], changes)
    resumed = run_with_stops(job, "resumed", looks, changes)
    assert numbers(resumed) == numbers(straight)
    assert resumed.best_epoch == straight.best_epoch
    for name in ("best_model.safetensors", "latest_model.safetensors"):
        folders = [result.checkpoint.parent for result in (straight, resumed)]
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert len(list((resumed.checkpoint.parent.parent / "logs").glob("*.csv"))) == 1


def test_training_twice_gives_the_same_bits_and_another_seed_others(job: MakeJob) -> None:
    first, again = PyTorchEngine().train(job("first")), PyTorchEngine().train(job("again"))
    other = PyTorchEngine().train(job("other", {"seed": 1}))
    assert first.checkpoint.read_bytes() == again.checkpoint.read_bytes()
    assert first.checkpoint.read_bytes() != other.checkpoint.read_bytes()


def test_a_state_is_saved_within_an_epoch(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(train, "save_state", lambda state, folder, steps: saved.append(steps))
    monkeypatch.setattr(train, "SAVE_EVERY_S", 0.0)
    PyTorchEngine().train(job())
    assert saved == list(range(13))  # one before the first step, one after each, none twice


def test_an_epoch_whose_validation_was_stopped_is_saved_after_it(job: MakeJob) -> None:
    """Though no step was taken since the state before."""
    folder = run_with_stops(job, "run", [4], {"epochs": 1}).checkpoint.parent / "resume"
    saved = resume.newest(folder)
    assert saved is not None
    assert (saved.folder.name, saved.content["epoch"], saved.content["step"]) == ("000000004", 1, 0)


def test_a_damaged_state_is_passed_over(job: MakeJob, caplog: pytest.LogCaptureFixture) -> None:
    straight = run_with_stops(job, "straight", [], {})
    with pytest.raises(Interrupted):
        PyTorchEngine().train(job("damaged", stop=StopAt(8)))
    states = sorted((job("damaged", resume=True).run.checkpoints / "resume").iterdir())
    tensors = states[-1] / "training.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    resumed = PyTorchEngine().train(job("damaged", resume=True))
    assert "falling back" in caplog.text
    assert resumed.checkpoint.read_bytes() == straight.checkpoint.read_bytes()


def test_a_state_of_another_network_is_refused(job: MakeJob) -> None:
    with pytest.raises(Interrupted):
        PyTorchEngine().train(job("small", stop=StopAt(3)))
    other = job("large", {"model.widths": [6, 14]})
    (job("small", resume=True).run.checkpoints / "resume").rename(other.run.checkpoints / "resume")
    with pytest.raises(DamagedFile, match="does not hold this model's weights"):
        PyTorchEngine().train(job("large", resume=True))


def test_what_a_probe_decided_is_not_decided_again(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "choose", lambda wanted, classifier, images, world: "bf16")
    with pytest.raises(Interrupted):
        PyTorchEngine().train(job("run", {"precision": "auto"}, stop=StopAt(2)))
    monkeypatch.delattr(train, "choose")
    result = PyTorchEngine().train(job("run", resume=True))
    assert result.recipe.precision == "bf16"


def test_resuming_a_finished_run_trains_nothing(job: MakeJob) -> None:
    straight = PyTorchEngine().train(job())
    content = straight.checkpoint.read_bytes()
    again = PyTorchEngine().train(job(resume=True))
    assert again.history == straight.history
    assert again.images == straight.images
    assert again.training_seconds == straight.training_seconds
    assert again.checkpoint.read_bytes() == content


def test_a_run_killed_before_its_first_state_begins_again(job: MakeJob) -> None:
    straight = PyTorchEngine().train(job("straight"))
    fresh = job("fresh")
    assert resume.newest(fresh.run.checkpoints / "resume") is None
    assert PyTorchEngine().train(job("fresh", resume=True)).checkpoint.read_bytes() == straight.checkpoint.read_bytes()
