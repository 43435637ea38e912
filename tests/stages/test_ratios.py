"""Intervals cover what they say, noise is no difference, and a front is what nothing beats."""

import numpy as np
import pytest

from peregrine.stages import ratios


def noisy(random: np.random.Generator, rounds: int, middle: float = 100.0, noise: float = 0.05) -> list[float]:
    return list(middle * np.exp(random.normal(0, noise, rounds)))


@pytest.mark.parametrize("rounds", [2, 3, 4, 5, 7, 9, 12])
def test_an_interval_covers_the_median_as_often_as_it_says(rounds: int) -> None:
    random = np.random.default_rng(rounds)
    trials = 200
    covered = sum(low <= 100 <= high for low, high in (ratios.interval(noisy(random, rounds)) for _ in range(trials)))
    assert covered / trials >= 0.91  # 95% less what 200 trials may miss


def test_an_interval_holds_its_median_and_shrinks_with_the_noise() -> None:
    random = np.random.default_rng(1)
    widths = []
    for noise in (0.1, 0.01):
        values = noisy(random, 7, noise=noise)
        low, high = ratios.interval(values)
        assert low <= np.median(values) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
    assert ratios.interval([3.0]) == (3.0, 3.0)
    assert ratios.interval([2.0] * 5) == pytest.approx((2.0, 2.0))


@pytest.mark.parametrize(("more_is_better", "verdict"), [(True, "faster"), (False, "slower")])
def test_a_difference_beyond_the_noise(more_is_better: bool, verdict: str) -> None:
    random = np.random.default_rng(2)
    found = ratios.compare(noisy(random, 7, 150), noisy(random, 7), more_is_better)
    assert found["verdict"] == verdict
    assert found["ratio"] == pytest.approx(1.5 if more_is_better else 1 / 1.5, rel=0.1)
    assert found["interval"][0] < found["ratio"] < found["interval"][1]


@pytest.mark.parametrize("rounds", [2, 3, 4, 5, 7])
def test_noise_is_no_difference(rounds: int) -> None:
    random = np.random.default_rng(3)
    trials = 200
    told = [ratios.compare(noisy(random, rounds), noisy(random, rounds), True)["verdict"] for _ in range(trials)]
    assert told.count("no difference measured") / trials >= 0.91


def test_what_slows_a_whole_round_cancels() -> None:
    drift = np.array([1, 0.7, 1.3, 0.5, 1, 2, 0.9])
    found = ratios.compare(list(105 * drift), list(100 * drift), True)
    assert found["verdict"] == "faster"
    assert found["interval"] == pytest.approx([1.05, 1.05])


def test_one_round_tells_nothing() -> None:
    assert ratios.compare([900.0], [1.0], True)["verdict"] == "no difference measured"


def test_two_measurements_of_the_same_agree_in_nine_of_ten() -> None:
    """With what processes differ by, 1%, beside the noise of the rounds, 5%."""
    random = np.random.default_rng(4)

    def measured() -> tuple[float, float]:
        process = np.exp(random.normal(0, 0.01))
        low, high = ratios.compare(noisy(random, 7, 130 * process), noisy(random, 7), True)["interval"]
        return low, high

    pairs = [(measured(), measured()) for _ in range(200)]
    overlapping = sum(max(one[0], other[0]) <= min(one[1], other[1]) for one, other in pairs)
    assert overlapping / len(pairs) > 0.95


def row(name: str, accuracy: float | None, latency: float, per_s: float = 1.0, size: int = 1) -> dict[str, object]:
    figures = {"latency_ms_p50": latency, "throughput_per_s": per_s, "size_bytes": size}
    return {"candidate": name, "accuracy": accuracy, **figures}


def test_the_front_is_what_nothing_beats() -> None:
    rows = [
        row("exact", 0.95, 4.0, 100, 8),
        row("quick", 0.94, 1.0, 900, 2),
        row("beaten", 0.94, 2.0, 800, 2),  # of the same size
        row("poor", 0.5, 1.5, 950, 9),
        row("unknown", None, 0.1, 9_999, 1),
    ]
    assert ratios.pareto(rows) == {
        "latency_ms_p50": ["exact", "quick"],
        "throughput_per_s": ["exact", "quick", "poor"],
        "size_bytes": ["exact", "quick"],
    }
    assert ratios.pareto([]) == {"latency_ms_p50": [], "throughput_per_s": [], "size_bytes": []}


def test_rows_are_compared_by_what_both_have() -> None:
    rows = [
        {"candidate": "a", "throughput_per_s_rounds": [1.0, 1.1, 1.0], "latency_ms_p50_rounds": [2.0, 2.0, 2.1]},
        {"candidate": "b", "throughput_per_s_rounds": [2.0, 2.1, 2.0]},
    ]
    (found,) = ratios.compare_rows(rows, "a")
    assert (found["candidate"], found["baseline"], found["metric"]) == ("b", "a", "throughput_per_s")
    assert found["ratio"] == pytest.approx(2)
    assert ratios.compare_rows(rows, "c") == []
    assert ratios.spread([1.0, 2.0, 4.0]) == pytest.approx(1.5)
