"""What `peregrine benchmark` and `peregrine run` print of a result."""

from typing import Any

import pytest

from peregrine.cli.benchmark import print_benchmark

CANDIDATES = ("onnx@onnxruntime", "onnx-int8@onnxruntime", "torch@torch")


def row(candidate: str, per_s: float) -> dict[str, Any]:
    return {
        "candidate": candidate, "precision": "fp32", "threads": 2, "driver": "loadgen", "latency_ms_p50": 1e3 / per_s,
        "latency_ms_p99": 2e3 / per_s, "throughput_per_s": per_s, "throughput_spread": 0.042, "test_split_seconds": 1.5,
        "size_bytes": 8_000_000, "batch_size": 250, "accuracy": 0.9123,
        "accuracy_mode": {"images": 10_000, "agreement": 0.9987},
        "cold_start_seconds": 0.81, "load_seconds": 0.25, "peak_memory_bytes": 123_000_000,
        "images_per_s_from_bytes": 777.0, "server": {"target_qps": 350.0, "latency_ms_p99": 21.5, "valid": False},
    }  # fmt: skip


def ratio(candidate: str, verdict: str) -> dict[str, Any]:
    return {
        "candidate": candidate, "baseline": CANDIDATES[0], "metric": "throughput_per_s", "ratio": 3.25,
        "interval": [3.1, 3.4], "verdict": verdict,
    }  # fmt: skip


def result(**changes: Any) -> dict[str, Any]:
    return {
        "mode": "full",
        "baseline": CANDIDATES[0],
        "rows": [row(name, 1_000.0 + number) for number, name in enumerate(CANDIDATES)],
        "comparisons": [ratio(CANDIDATES[1], "faster"), ratio(CANDIDATES[2], "no difference measured")],
        "pareto": {"latency_ms_p50": [CANDIDATES[1]], "throughput_per_s": [CANDIDATES[1]], "size_bytes": []},
        "sweep": [{"candidate": CANDIDATES[1], "threads": 1, "batch_size": 8, "throughput_per_s": 654.0}],
        "noise": {"messages": ["other programs kept 1.2 of 2 cores busy"]},
        "skipped": [{"candidate": "keras@keras", "reason": "no Keras"}],
        **changes,
    }


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_everything_of_a_full_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    print_benchmark(result())
    told = lines(capsys)
    assert "onnx-int8@onnxruntime fp32 2 1.00 2.00 1,001 ±2% 3.25 (3.10–3.40) 1.50 8.0" in told
    assert "torch@torch fp32 2 1.00 2.00 1,002 ±2% no difference 1.50 8.0" in told
    assert "onnx@onnxruntime fp32 2 1.00 2.00 1,000 ±2% 1 1.50 8.0" in told
    assert "torch@torch 91.23% 99.87% 0.81 0.25 123 777 21.50 too slow" in told
    assert "onnx-int8@onnxruntime 91.23% yes yes" in told
    assert "onnx-int8@onnxruntime 1 654" in told
    assert "The machine was not quiet: other programs kept 1.2 of 2 cores busy." in told
    assert "keras@keras skipped: no Keras" in told


def test_a_quick_one_is_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_benchmark(result(mode="quick", sweep=[]))
    told = "\n".join(lines(capsys))
    assert "Benchmark by loadgen: latency at batch 1, throughput at batch 250; times onnx@onnxruntime" in told
    assert "Pareto" not in told


def test_one_scenario_leaves_places_empty(capsys: pytest.CaptureFixture[str]) -> None:
    alone = row(CANDIDATES[0], 1_000.0)
    for key in ("latency_ms_p50", "latency_ms_p99"):
        del alone[key]
    print_benchmark(result(mode="quick", rows=[alone], comparisons=[], baseline=None))
    assert "onnx@onnxruntime fp32 2 – – 1,000 ±2% – 1.50 8.0" in lines(capsys)


def test_nothing_to_tell_but_why(capsys: pytest.CaptureFixture[str]) -> None:
    print_benchmark(result(rows=[]))
    assert lines(capsys) == [
        "The machine was not quiet: other programs kept 1.2 of 2 cores busy.", "keras@keras skipped: no Keras",
    ]  # fmt: skip
