"""What the machine has, read from files that a test can write."""

import ctypes
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy
import pytest

from peregrine import host
from peregrine.errors import UsageError


def test_threads_are_what_this_process_may_use() -> None:
    assert 1 <= host.threads() <= len(os.sched_getaffinity(0))


def test_memory_is_that_of_a_machine() -> None:
    assert 2**28 < host.memory_bytes() < 2**50


@pytest.mark.parametrize(
    ("membership", "folders"),
    [
        ("0::/\n", ["."]),
        ("12:cpu:/old\n0::/user.slice/job.scope\n", ["user.slice/job.scope", "user.slice", "."]),
        ("4:memory:/only/version/one\n", ["."]),
        ("", ["."]),
    ],
)
def test_the_cgroups_from_the_own_one_up(tmp_path: Path, membership: str, folders: list[str]) -> None:
    file = tmp_path / "cgroup"
    file.write_text(membership)
    assert host.cgroups(tmp_path, file) == [tmp_path / folder for folder in folders]
    assert host.cgroups(tmp_path, tmp_path / "absent") == [tmp_path]


@pytest.mark.parametrize(
    ("content", "quota"), [("max 100000\n", math.inf), ("150000 100000\n", 1.5), ("50000 100000", 0.5), ("", math.inf)]
)
def test_cpu_quota(tmp_path: Path, content: str, quota: float) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert host._cpu_quota(tmp_path) == quota
    assert host._cpu_quota(tmp_path / "absent") == math.inf


def test_memory_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1073741824\n")
    assert host._memory_limit(tmp_path) == 2**30
    (tmp_path / "memory.max").write_text("max\n")
    assert host._memory_limit(tmp_path) == math.inf


def test_the_description_fits_into_json() -> None:
    found = json.loads(json.dumps(host.describe()))
    assert set(found) == {"processor", "threads", "memory_gib", "bf16", "system", "python"}
    assert found["processor"]
    assert found["bf16"] == host.has_bf16()


def test_versions_of_what_is_installed() -> None:
    found = host.versions()
    assert found["numpy"] == numpy.__version__
    assert set(found) <= set(host.LIBRARIES)


@pytest.mark.parametrize(
    ("config", "rank"),
    [
        ("", 0),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}', 0),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}', 1),
        ('{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "chief", "index": 0}}', 0),
        ('{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}', 1),
    ],
)
def test_the_first_worker_has_rank_0(monkeypatch: pytest.MonkeyPatch, config: str, rank: int) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    assert host.rank() == rank


@pytest.mark.parametrize("config", ["{", "[]", '{"cluster": {}}', '{"task": {"type": "worker"}}'])
def test_a_tf_config_that_nobody_can_read(monkeypatch: pytest.MonkeyPatch, config: str) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UsageError, match=r'TF_CONFIG is JSON such as \{"cluster": .*; got'):
        host.rank()


def test_a_quarter_of_the_memory_is_for_data_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEREGRINE_RESIDENT_GIB", raising=False)
    assert host.resident_bytes() == host.memory_bytes() // 4
    monkeypatch.setenv("PEREGRINE_RESIDENT_GIB", "0.5")
    assert host.resident_bytes() == 2**29
    monkeypatch.setenv("PEREGRINE_RESIDENT_GIB", "inf")
    with pytest.raises(UsageError, match="PEREGRINE_RESIDENT_GIB is a number of GiB"):
        host.resident_bytes()
    monkeypatch.setenv("PEREGRINE_RESIDENT_GIB", "some")
    with pytest.raises(UsageError, match=r"PEREGRINE_RESIDENT_GIB is a number of GiB, such as 4 or 0\.5; got 'some'"):
        host.resident_bytes()


class Driver:
    """What NVIDIA's driver says, without one: an H100."""

    left = 0  # what cuInit gives

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's names
        return self.left

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = b"NVIDIA H100"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:  # noqa: N802
        size._obj.value = 80 * 2**30
        return 0


def test_the_driver_is_asked_about_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: {"libcuda.so.1": Driver()}[name])
    assert host.find_gpu() == host.Gpu("NVIDIA H100", "9.0")
    assert host.gpu_memory_bytes() == 80 * 2**30
    monkeypatch.setattr(Driver, "left", 100)  # CUDA_ERROR_NO_DEVICE
    assert host.find_gpu() is None
    assert host.gpu_memory_bytes() is None


TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "TORCHELASTIC_RESTART_COUNT": "5",
}


def test_what_torchrun_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert host.torchrun() is None
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert host.torchrun() == host.Torchrun(3, 4, 1, 2, restarts=5, max_restarts=0)
    assert host.rank() == 3


def test_processes_of_a_machine_share_the_memory_for_data(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PEREGRINE_RESIDENT_GIB", "3")
    assert host.resident_bytes() == 3 * 2**29
    monkeypatch.delenv("PEREGRINE_RESIDENT_GIB")
    assert host.resident_bytes() == host.memory_bytes() // 8


@pytest.mark.parametrize(("name", "value"), [("RANK", ""), ("RANK", "4"), ("WORLD_SIZE", "two"), ("LOCAL_RANK", "-1")])
def test_what_torchrun_would_not_tell(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    for key, text in {**TORCHRUN, name: value}.items():
        monkeypatch.setenv(key, text)
    with pytest.raises(UsageError, match=f"torchrun tells each process its number, .*; got .*{name}={value}"):
        host.torchrun()
