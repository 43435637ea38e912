"""A busy machine is noticed, from files as the kernel writes them."""

import os
from pathlib import Path

import pytest

from peregrine import host
from peregrine.stages import noise
from peregrine.stages.noise import Watch


def kernel(folder: Path, user: int = 0, idle: int = 0, stolen: int = 0, mhz: float | None = None) -> None:
    """Ticks are hundredths of a second."""
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text(f"cpu  {1000 + user} 5 100 {5000 + idle} 10 0 3 {stolen} 0 0\ncpu0 1 2 3\n")
    if mhz is not None:
        (folder / "cpuinfo").write_text(f"processor\t: 0\ncpu MHz\t\t: {mhz}\nprocessor\t: 1\ncpu MHz\t\t: 800.0\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cores, both ours."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(host, "threads", lambda: 2)
    kernel(tmp_path / "proc", mhz=3000.0)
    return tmp_path / "proc"


def watch(machine: Path) -> Watch:
    return Watch(machine, machine / "no-cpus")


def look(seen: Watch, machine: Path, monkeypatch: pytest.MonkeyPatch, **later: int) -> None:
    monkeypatch.setattr(noise.time, "sleep", lambda _: kernel(machine, **later))
    seen.look()


def test_a_quiet_machine(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch(machine)
    look(seen, machine, monkeypatch, user=1, idle=49)
    seen.clock()
    look(seen, machine, monkeypatch, user=2, idle=98)
    assert seen.report() == {
        "busy": False,
        "messages": [],
        "load_before": pytest.approx(0.04),
        "load_after": pytest.approx(0.04),
        "steal_share": 0.0,
        "frequency_mhz": [3000.0, 3000.0],
    }


def test_other_programs(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch(machine)
    look(seen, machine, monkeypatch, idle=50)
    look(seen, machine, monkeypatch, user=30, idle=70)
    report = seen.report()
    assert (report["busy"], report["load_before"], report["load_after"]) == (True, 0.0, pytest.approx(1.2))
    assert report["messages"] == [
        "other programs kept 1.2 of 2 cores busy in 1 of 2 looks between the measurements; end them and measure again"
    ]


def test_cores_that_we_leave_are_nobodys_business(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "threads", lambda: 1)
    seen = watch(machine)
    look(seen, machine, monkeypatch, user=25, idle=25)
    assert not seen.report()["busy"]


def test_a_hypervisor_and_a_clock(machine: Path) -> None:
    seen = watch(machine)
    seen.clock()
    kernel(machine, user=90, stolen=10, mhz=2400.0)
    seen.clock()
    assert seen.report()["messages"] == [
        "the hypervisor took 10.0% of the processor time away for other machines",
        "the processor's clock changed between 2,400 and 3,000 MHz",
    ]


def test_the_clock_by_the_drivers_file(machine: Path, tmp_path: Path) -> None:
    for number, khz in enumerate((2_000_000, 3_500_000)):
        folder = tmp_path / "cpus" / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{khz}\n")
    seen = Watch(machine, tmp_path / "cpus")
    seen.clock()
    assert seen.report()["frequency_mhz"] == [3500.0, 3500.0]


def test_where_the_kernel_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.2, 0.3))
    seen = Watch(tmp_path / "nothing", tmp_path / "nothing")
    seen.look()
    seen.clock()
    report = seen.report()
    assert (report["load_before"], report["steal_share"], report["frequency_mhz"]) == (0.1, None, None)


def test_the_real_machine() -> None:
    seen = Watch()
    seen.look(0.05)
    seen.clock()
    assert seen.report()["load_before"] >= 0
