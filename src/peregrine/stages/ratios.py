"""What rounds of a benchmark tell: intervals, ratios with a verdict, and which Candidates nothing else beats.

Pure arithmetic on rows and on the figures of each round. Rounds are resampled, not single calls: calls of one round
share the state of the machine, so that thousands of them say less than they seem to.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

RESAMPLES = 4_000
CONFIDENCE = 0.95
# Of so few rounds even the lowest and the highest hold too little between them; stretched so far from their median,
# they hold the true one in 95% of 20,000 simulated trials with normal noise.
FEW_ROUNDS = {2: 13.0, 3: 5.0, 4: 2.0}

Floats = npt.NDArray[np.float64]
Verdict = Literal["faster", "slower", "no difference measured"]
METRICS = {"throughput_per_s": True, "latency_ms_p50": False}  # whether more is better
FRONTS = {"latency_ms_p50": False, "throughput_per_s": True, "size_bytes": False}


def interval(rounds: Sequence[float]) -> tuple[float, float]:
    """A 95% interval of the median of all rounds that might have been, bootstrapped over those that were.

    The percentiles are moved outward as far as Student's t is wider than the normal distribution, because few rounds
    resampled vary less than few rounds do. With fewer than five rounds that is not enough, and the interval is
    stretched; of a single round the two ends are equal and say nothing.

    Args:
        rounds: positive figures, one per round.

    Source: Hesterberg, What Teachers Should Know About the Bootstrap (2015), the expanded percentile interval.
    """
    logs = np.log(np.asarray(rounds, np.float64))
    count = len(logs)
    if count == 1:
        return float(rounds[0]), float(rounds[0])
    student = stdtrit(count - 1, (1 - CONFIDENCE) / 2) * np.sqrt(count / (count - 1))
    drawn = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    outer = float(ndtr(student))
    low, high = np.quantile(np.median(logs[drawn], axis=1), [outer, 1 - outer])
    middle, stretch = np.median(logs), FEW_ROUNDS.get(count, 1.0)
    low, high = middle - stretch * (middle - low), middle + stretch * (high - middle)
    return float(np.exp(low)), float(np.exp(high))


def spread(rounds: Sequence[float]) -> float:
    """Between the lowest and the highest round, as a share of the median."""
    return float((max(rounds) - min(rounds)) / np.median(rounds))


def compare(rounds: Sequence[float], baseline: Sequence[float], more_is_better: bool) -> dict[str, Any]:
    """How many times better than the baseline, above 1 where it is better, from rounds that ran side by side.

    Each round gives one ratio, so that what slowed a whole round cancels.

    Returns:
        `ratio` (the median), `interval` (95%), and `verdict`: where the spread of the rounds covers the difference, and
        where there is one round alone, that is `no difference measured`.
    """
    mine, its = np.asarray(rounds, np.float64), np.asarray(baseline, np.float64)
    ratios = mine / its if more_is_better else its / mine
    low, high = interval(list(ratios))
    verdict: Verdict = "no difference measured"
    if low > 1 and len(ratios) > 1:
        verdict = "faster"
    elif high < 1 and len(ratios) > 1:
        verdict = "slower"
    return {"ratio": float(np.median(ratios)), "interval": [low, high], "verdict": verdict}


def compare_rows(rows: Sequence[dict[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """Every row against the baseline's, by what both of them have: `comparisons` of benchmark.json."""
    against = next((row for row in rows if row["candidate"] == baseline), None)
    if against is None:
        return []
    return [
        {
            "candidate": row["candidate"],
            "baseline": baseline,
            "metric": metric,
            **compare(row[f"{metric}_rounds"], against[f"{metric}_rounds"], more_is_better),
        }
        for metric, more_is_better in METRICS.items()
        for row in rows
        if row is not against and f"{metric}_rounds" in row and f"{metric}_rounds" in against
    ]


def pareto(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Per figure, the Candidates that no other beats in it without losing accuracy, the most accurate first.

    Of several that are equal in both, as runtimes of one file are in size, the first is named.
    """
    fronts = {}
    for key, more_is_better in FRONTS.items():
        sign = 1 if more_is_better else -1
        known = [row for row in rows if row.get("accuracy") is not None and key in row]
        points = {row["candidate"]: (row["accuracy"], sign * row[key]) for row in known}
        first = {point: name for name, point in reversed(points.items())}
        best = [point for point in first if not any(_beats(other, point) for other in first)]
        fronts[key] = [first[point] for point in sorted(best, reverse=True)]
    return fronts


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]
