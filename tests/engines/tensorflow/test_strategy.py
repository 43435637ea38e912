"""Aggregation proved: two replicas, and two workers, do to the weights what one does with the whole batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import replicas
from peregrine.engines.tensorflow import strategy
from peregrine.engines.tensorflow.library import tf
from peregrine.errors import MissingDevice, UsageError
from peregrine.recipe import Strategy

pytestmark = pytest.mark.tensorflow
# Float32 sums in another order. The largest difference seen was 3e-7 for cnn, and 3e-6 for sprint, whose weights and
# states are up to 2: Muon makes a step of full length out of every gradient.
TOLERANCE = {"cnn": 2e-6, "sprint": 2e-5}


def start(out: Path, devices: str, **environment: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, replicas.__file__, str(out), devices]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE)


def result(process: "subprocess.Popen[bytes]", out: Path) -> dict[str, Any]:
    try:
        _, errors = process.communicate(timeout=250)
    finally:
        process.kill()
    assert process.returncode == 0, errors.decode()[-3000:]
    with np.load(out) as found:
        return dict(found)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        limit = TOLERANCE[name.partition("/")[0]]
        np.testing.assert_allclose(found[name], value, atol=limit, rtol=limit, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One replica with the whole batch."""
    out = tmp_path_factory.mktemp("alone") / "out.npz"
    found = result(start(out, "auto"), out)
    for model in replicas.RECIPES:
        assert [len(found[f"{model}/losses {last}"]) for last in (1, 6)] == [1, 5]
        before, after = (found[f"{model}/state {last}, 0"] for last in (1, 6))
        assert model == "sprint" or np.abs(after - before).max() > 1e-3
    return found


@pytest.mark.parametrize("devices", ["cpu:2", "cpu:3"])
def test_replicas_are_one(alone: dict[str, Any], tmp_path: Path, devices: str) -> None:
    """Three have unequal parts of 16 images: 4, 6 and 6. The gradients are compared too, as the first momenta."""
    out = tmp_path / "out.npz"
    assert_same(result(start(out, devices), out), alone)


def test_two_workers_are_one(alone: dict[str, Any], tmp_path: Path) -> None:
    """Two processes that find each other by TF_CONFIG; both end with the same weights."""
    cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in range(2)]}
    tasks = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}) for index in range(2)]
    outs = [tmp_path / f"worker{index}.npz" for index in range(2)]
    processes = [start(out, "workers", TF_CONFIG=task) for out, task in zip(outs, tasks, strict=True)]
    try:
        for process, out in zip(processes, outs, strict=True):
            assert_same(result(process, out), alone)
    finally:
        for process in processes:
            process.kill()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


# ---- choosing -------------------------------------------------------------------------------------------------------


def test_alone_where_there_is_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name in ("auto", "none"):
        assert strategy.choose(Strategy(name=name)).num_replicas_in_sync == 1


def test_more_gpus_than_there_are() -> None:
    with pytest.raises(MissingDevice, match=r"strategy\.devices=gpu:9 needs 9 GPU devices; TensorFlow finds \d; to"):
        strategy.choose(Strategy(devices="gpu:9"))


def test_the_cpu_cannot_be_split_any_more() -> None:
    tf.constant(0)
    with pytest.raises(UsageError, match="the CPU can be split into 7 devices only before TensorFlow starts"):
        strategy.choose(Strategy(devices="cpu:7"))


def test_one_replica_on_several_devices() -> None:
    with pytest.raises(
        UsageError, match=r"none trains on one device; got strategy\.devices=cpu:2; use mirrored or auto"
    ):
        strategy.choose(Strategy(name="none", devices="cpu:2"))


def test_the_cpu_alone_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    with pytest.raises(UsageError, match=r"^strategy\.devices=cpu:1 is for machines without a GPU; .*=-1$"):
        strategy.choose(Strategy(devices="cpu:1"))


def test_workers_take_the_devices_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}}))
    for name in ("auto", "multiworker"):
        with pytest.raises(UsageError, match=r"takes the devices of each machine; got strategy\.devices=gpu:1; leave"):
            strategy.choose(Strategy(name=name, devices="gpu:1"))


def test_workers_without_tf_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UsageError, match="strategy multiworker takes the machines from TF_CONFIG, which is not set"):
        strategy.choose(Strategy(name="multiworker"))


def test_parts_begin_at_even_places_and_cover_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    for replicas_in_sync in (1, 2, 3, 5):
        for count in (10, 16, 31):
            bounds = []
            for number in range(replicas_in_sync):

                class Context:
                    num_replicas_in_sync = replicas_in_sync
                    replica_id_in_sync_group = number

                monkeypatch.setattr(tf.distribute, "get_replica_context", Context)
                first, last = strategy.part(tf.constant(count))
                bounds.append((int(first), int(last)))
            assert bounds[0][0] == 0
            assert bounds[-1][1] == count
            assert [last for _, last in bounds[:-1]] == [first for first, _ in bounds[1:]]
            assert all(first % 2 == 0 for first, _ in bounds)
