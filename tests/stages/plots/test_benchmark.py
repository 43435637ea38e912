"""The pictures of a benchmark name the winners, with any number of Candidates."""

from pathlib import Path
from typing import Any

import pytest

from peregrine.stages import plots
from pictures import title


def measured(candidate: str, latency_ms: float, per_s: float) -> dict[str, Any]:
    return {
        "candidate": candidate,
        "precision": "fp32",
        "provider": "cpu",
        "threads": 2,
        "batch_size": 250,
        "latency_ms_p50": latency_ms,
        "latency_ms_p90": latency_ms * 1.2,
        "latency_ms_p95": latency_ms * 1.3,
        "latency_ms_p99": latency_ms * 1.8,
        "throughput_per_s": per_s,
    }


def test_benchmark_names_the_fastest(tmp_path: Path) -> None:
    plots.benchmark([measured("keras@keras", 30, 700), measured("onnx@onnxruntime", 0.5, 3_280)], tmp_path / "a.png")
    assert title(tmp_path / "a.png") == "onnx@onnxruntime is the fastest: 3,280 images/s, 0.500 ms for one image"


def test_benchmark_with_a_winner_for_each_purpose(tmp_path: Path) -> None:
    plots.benchmark([measured("a@x", 2, 9_000), measured("b@x", 1, 8_000)], tmp_path / "a.png")
    assert title(tmp_path / "a.png") == (
        "Highest throughput: a@x, 9,000 images/s; lowest latency: b@x, 1.00 ms for one image"
    )


@pytest.mark.parametrize("count", [1, 30])
def test_benchmark_of_few_and_many_candidates(tmp_path: Path, count: int) -> None:
    plots.benchmark([measured(f"format-{n}@runtime", 1 + n, 1_000 - n) for n in range(count)], tmp_path / "a.png")
    assert title(tmp_path / "a.png").startswith("format-0@runtime is the fastest")


def test_benchmark_with_intervals(tmp_path: Path) -> None:
    rows = [
        {**measured("a@x", 2, 9_000), "latency_ms_p50_interval": [1.9, 2.2], "throughput_per_s_interval": [8e3, 1e4]},
        measured("older@x", 1, 8_000),
    ]
    plots.benchmark(rows, tmp_path / "a.png")
    assert title(tmp_path / "a.png")


@pytest.mark.parametrize("count", [1, 12])
def test_pareto_front(tmp_path: Path, count: int) -> None:
    rows = [
        {**measured(f"format-{n}@runtime", 1 + n, 1_000 - n), "accuracy": 0.9 + 0.001 * n, "size_bytes": 10**6}
        for n in range(count)
    ]
    rows.append({**measured("unknown@runtime", 1, 1_000), "accuracy": None, "size_bytes": 10})
    front = [row["candidate"] for row in rows[:-1]]
    plots.pareto(
        rows, {"latency_ms_p50": front, "throughput_per_s": front, "size_bytes": front[-1:]}, tmp_path / "a.png"
    )
    assert title(tmp_path / "a.png").startswith(f"{count} of {count} candidate")


def test_without_any_accuracy_there_is_no_front(tmp_path: Path) -> None:
    plots.pareto([], {"latency_ms_p50": [], "throughput_per_s": [], "size_bytes": []}, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
