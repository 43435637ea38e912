"""The benchmark of arrays and tables: without a GPU it measures the CPU, and says so."""

import json
from pathlib import Path

import pytest

from benchmarks import rapids
from peregrine import device, host


def test_every_task_of_the_table_is_measured() -> None:
    assert set(rapids.TASKS) == set(device.PAYS_FROM)


@pytest.mark.parametrize(
    ("cpu_s", "cuda_s", "expected"),
    [(10.0, 2.0, 250_000), (10.0, 9.0, 2_000_000), (10.0, 10.0, rapids.NEVER), (1.0, 2.0, rapids.NEVER)],
)
def test_the_gpu_pays_from_where_it_saves_its_start(cpu_s: float, cuda_s: float, expected: int) -> None:
    row = {"amount": 1_000_000, "cpu_s": cpu_s, "cuda_s": cuda_s}
    assert rapids.pays_from([{"amount": 1, "cpu_s": 0.0, "cuda_s": 1.0}, row], start=2.0) == expected


def test_digits_are_rounded_up() -> None:
    assert rapids.pays_from([{"amount": 1_000, "cpu_s": 3.0, "cuda_s": 0.0}], start=1.0) == 340


def test_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(host, "find_gpu", lambda: None)
    monkeypatch.setenv(device.VARIABLE, "auto")  # what the benchmark sets is taken back
    monkeypatch.setattr(rapids, "SMALLEST", 1 << 11)
    monkeypatch.setattr(
        "sys.argv", ["rapids.py", "--seconds", "0", "--rounds", "1", "--json", str(tmp_path / "r.json")]
    )
    device._find.cache_clear()
    rapids.main()
    device._find.cache_clear()
    said = capsys.readouterr().out
    assert "no GPU" in said
    assert "arrays: the CPU alone, PEREGRINE_DEVICE=cuda needs an NVIDIA GPU and its driver; found none" in said
    assert "PAYS_FROM" not in said
    written = json.loads((tmp_path / "r.json").read_text())
    assert {name: len(rows) for name, rows in written["tasks"].items()} == dict.fromkeys(rapids.TASKS, 1)
    assert all(row["cpu_s"] > 0 and "cuda_s" not in row for rows in written["tasks"].values() for row in rows)
