"""Who wins, on numbers that are given."""

import math
from typing import Any

import pytest

from peregrine.errors import UsageError
from peregrine.stages.ranking import (
    OBJECTIVES,
    Choice,
    Entry,
    Limits,
    Miss,
    accuracy_misses,
    choose,
    differ,
    find_objective,
)

THROUGHPUT, LATENCY, SIZE = (OBJECTIVES[name] for name in ("throughput", "latency", "size"))


def entry(key: str, per_s: float = 1000.0, **changes: Any) -> Entry:
    """A measured Candidate; its precision is told by its key."""
    row = {
        "throughput_per_s": per_s,
        "latency_ms_p50": changes.pop("latency", 1000 / per_s),
        "size_bytes": changes.pop("size", 4_000_000),
        **changes.pop("row", {}),
    }
    precision = "int8" if "int8" in key else "bf16" if "bf16" in key else "fp32"
    libraries = 0 if "onnxruntime" in key else 2 if "torch" in key else 1
    return Entry(key, precision, libraries, row, **changes)


def accurate(_entry: Entry) -> list[Miss]:
    return []


def pick(entries: list[Entry], limits: Limits | None = None, judge: Any = accurate, **how: Any) -> Choice:
    return choose(
        entries, how.get("objective", THROUGHPUT), limits or Limits(), judge, how.get("benchmark", {"rows": []})
    )


ORT = entry("onnx@onnxruntime", 1000)
INT8 = entry("onnx-int8@openvino", 4120, size=1_000_000)
TORCH = entry("torch@torch", 600)


@pytest.mark.parametrize(
    ("objective", "winner", "why"),
    [
        (
            THROUGHPUT,
            INT8,
            "the highest throughput: 4,120 images/s; 4.12 times that of onnx@onnxruntime (int8 against ",
        ),
        (LATENCY, INT8, "the lowest latency: 0.243 ms; 0.24 times that of onnx@onnxruntime (int8 against fp32)"),
        (SIZE, INT8, "the smallest size: 1.0 MB; 0.25 times that of onnx@onnxruntime (int8 against fp32)"),
    ],
)
def test_the_best_by_each_objective(objective: Any, winner: Entry, why: str) -> None:
    choice = pick([TORCH, ORT, INT8], objective=objective)
    assert choice.winner == winner
    assert choice.why.startswith(why)
    assert [other.key for other, _ in choice.others] == ["onnx@onnxruntime", "torch@torch"]


def test_what_the_others_lack() -> None:
    assert [misses for _, misses in pick([TORCH, ORT, INT8]).others] == [
        "its throughput is 76% lower",
        "its throughput is 85% lower",
    ]
    assert pick([TORCH, ORT], objective=LATENCY).others[0][1] == "its latency is 67% longer"
    assert pick([entry("a-int8@x", size=3_999_000), ORT], objective=SIZE).others[0][1] == (
        "its size is less than 1% larger"
    )


def test_the_baseline_is_the_benchmarks() -> None:
    choice = pick([TORCH, ORT, INT8], benchmark={"baseline": "torch@torch"})
    assert choice.why.endswith("; 6.87 times that of torch@torch (int8 against fp32)")
    assert "times" not in pick([TORCH, ORT]).why, "a thing is not compared with itself"


def compared(metric: str, **found: Any) -> dict[str, Any]:
    """A benchmark that has INT8 beside its baseline."""
    pair = {"candidate": INT8.key, "baseline": ORT.key, "metric": metric}
    return {"rows": [], "baseline": ORT.key, "comparisons": [{**pair, "verdict": "faster", **found}]}


def test_how_much_better_is_told_as_the_benchmark_has_it() -> None:
    throughput = compared("throughput_per_s", ratio=4.1, interval=[4.0, 4.25])
    told = "; 4.10 times that of onnx@onnxruntime (4.00 to 4.25, int8 against fp32)"
    assert pick([ORT, INT8], benchmark=throughput).why.endswith(told)
    latency = compared("latency_ms_p50", ratio=4.0, interval=[3.2, 5.0])
    told = "; 0.25 times that of onnx@onnxruntime (0.20 to 0.31, int8 against fp32)"
    assert pick([ORT, INT8], benchmark=latency, objective=LATENCY).why.endswith(told)


def test_no_speed_up_is_told_where_none_was_measured() -> None:
    alike = {"ratio": 1.05, "interval": [0.9, 1.2], "verdict": "no difference measured"}
    fast = entry("torch@torch", 1050)
    pair = {"candidate": fast.key, "baseline": INT8.key, "metric": "throughput_per_s"}
    choice = pick([fast, INT8], benchmark={"baseline": INT8.key, "comparisons": [{**pair, **alike}]})
    assert choice.winner == fast, "the more precise one"
    assert choice.why.endswith("; no measured difference to onnx-int8@openvino")


def test_what_is_not_proved_and_faster_is_not_passed_over_in_silence() -> None:
    unsure = entry("onnx-int8@openvino", 4120, refused="parity is inconclusive")
    assert pick([ORT, unsure]).why == "the highest throughput of what can be relied on: 1,000 images/s"
    limited = pick([ORT, unsure], Limits(max_size_mb=40))
    assert limited.why == "the highest throughput of what can be relied on within the limits: 1,000 images/s"
    slow = entry("onnx-int8@openvino", 800, refused="parity is inconclusive")
    assert pick([ORT, slow]).why == "the highest throughput: 1,000 images/s"


def test_limits_rule_out_and_say_by_how_much() -> None:
    fat = entry("onnx-int8@openvino", 4120, size=44_719_908, latency=0.75)
    choice = pick([ORT, fat, TORCH], Limits(max_latency_ms=0.5, max_size_mb=40))
    assert choice.winner is None
    choice = pick([ORT, fat, TORCH], Limits(max_latency_ms=1.2, max_size_mb=40))
    assert choice.winner == ORT
    assert choice.why == "the highest throughput within the limits: 1,000 images/s"
    assert {other.key: misses for other, misses in choice.others} == {
        "onnx-int8@openvino": "size 44.7 MB is 4.72 MB above the limit of 40 MB",
        "torch@torch": "latency 1.67 ms is 0.467 ms above the limit of 1.2 ms",
    }


def test_accuracy_is_asked_only_where_it_decides() -> None:
    """It costs a process for each."""
    asked: list[str] = []

    def judge(entry: Entry) -> list[Miss]:
        asked.append(entry.key)
        return [Miss("accuracy", 1)] if entry == INT8 else []

    assert pick([TORCH, ORT, INT8], judge=judge).winner == ORT
    assert asked == ["onnx-int8@openvino", "onnx@onnxruntime"]


def test_nobody_and_the_nearest() -> None:
    """The fewest limits missed, then the smallest share beyond one; all are judged, so that nothing is left unsaid."""

    def judge(entry: Entry) -> list[Miss]:
        return accuracy_misses(Limits(min_accuracy=0.9), "validation", 0.8 if entry == INT8 else 0.92, None)

    choice = pick([TORCH, ORT, INT8], Limits(max_latency_ms=0.2, min_accuracy=0.9), judge)
    assert choice.winner is None
    assert choice.nearest == ORT
    assert choice.why == "the nearest is onnx@onnxruntime: latency 1.00 ms is 0.800 ms above the limit of 0.2 ms"
    told = {other.key: misses for other, misses in choice.others}
    assert told["onnx-int8@openvino"] == (
        "latency 0.243 ms is 0.0427 ms above the limit of 0.2 ms; "
        "validation accuracy 80.00% is 10.00 points below the limit of 90.00%"
    )
    refused = entry("onnx@onnxruntime", refused="not measured")
    empty = pick([refused])
    assert (empty.winner, empty.nearest) == (None, None)
    assert empty.why == "no candidate is both measured and proved"
    assert empty.others == [(refused, "not measured")]


def test_what_is_refused_never_wins() -> None:
    fast = entry("onnx-int8@onnxruntime", 9999, refused="parity failed")
    choice = pick([fast, ORT, TORCH])
    assert choice.winner == ORT
    assert choice.others[-1] == (fast, "parity failed")


# ---- accuracy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "accuracy", "words"),
    [
        (Limits(min_accuracy=0.9), 0.9, ""),
        (Limits(min_accuracy=0.9), 0.897, "test accuracy 89.70% is 0.30 points below the limit of 90.00%"),
        (Limits(min_accuracy=70.2 / 100), 702 / 1000, ""),  # in binary a little less
        (Limits(max_accuracy_drop_points=0.5), 0.893, ""),  # in binary a little more than half a point
        (Limits(max_accuracy_drop_points=0.5), 0.8918, "test accuracy drops by 0.62 points, the limit is 0.5"),
        (Limits(max_accuracy_drop_points=0.0), 0.8978, "test accuracy drops by 0.02 points, the limit is 0"),
        (Limits(max_accuracy_drop_points=0.0), 0.89798, "test accuracy drops by 0.002 points, the limit is 0"),
        (Limits(min_accuracy=0.9), None, "its test accuracy could not be found out"),
    ],
)
def test_limits_on_accuracy(limits: Limits, accuracy: float | None, words: str) -> None:
    misses = accuracy_misses(limits, "test", accuracy, trained=0.898)
    assert "; ".join(miss.words for miss in misses) == words


def test_a_drop_against_a_trained_model_that_cannot_be_run() -> None:
    (miss,) = accuracy_misses(Limits(max_accuracy_drop_points=1), "validation", 0.9, trained=None)
    assert miss.words == "the trained model's validation accuracy could not be found out"
    assert miss.excess == math.inf


# ---- no difference measured ------------------------------------------------------------------------------------------


def rounds(*values: float) -> dict[str, Any]:
    return {"throughput_per_s_rounds": list(values)}


NOISY = [
    entry("onnx-int8@openvino", 1100, row=rounds(1400, 900, 1100, 1250, 980)),
    entry("onnx@openvino", 1050, row=rounds(1000, 1200, 1050, 1100, 1010)),
    entry("onnx@onnxruntime", 1000, row=rounds(900, 1200, 1000, 1100, 990)),
    entry("torch@torch", 400, row=rounds(410, 400, 390, 405, 395)),
]


def test_the_more_precise_then_the_simpler_wins() -> None:
    choice = pick(NOISY)
    assert choice.winner == NOISY[2]
    assert choice.why == (
        "1,000 images/s, no measured difference to the highest throughput (onnx-int8@openvino, 1,100 images/s), "
        "and more precise (fp32, not int8)"
    )
    assert [misses for _, misses in choice.others] == [
        "no difference in throughput was measured, and int8 is less precise than fp32",
        "no difference in throughput was measured, and it needs an inference library",
        "its throughput is 60% lower",
    ]


def test_the_simpler_of_two_of_one_precision() -> None:
    choice = pick(NOISY[1:3], Limits(max_latency_ms=5))
    assert choice.winner == NOISY[2]
    assert choice.why.endswith("and simpler (it needs no library beyond Peregrine's own, not an inference library)")


def test_rounds_that_agree_are_a_difference() -> None:
    """Rounds are paired: a drift that hits both alike hides nothing."""
    fast = entry("onnx-int8@openvino", 1050, row=rounds(2100, 1050, 525))
    slow = entry("onnx@onnxruntime", 1000, row=rounds(2000, 1000, 500))
    assert differ(fast, slow, THROUGHPUT, {})
    assert pick([slow, fast]).winner == fast


@pytest.mark.parametrize(
    ("verdict", "expected"), [("faster", True), ("slower", True), ("no difference measured", False)]
)
def test_the_benchmarks_own_verdict_comes_first(verdict: str, expected: bool) -> None:
    fast = entry("onnx-int8@openvino", 2000, row=rounds(2000, 2010, 1990))
    slow = entry("onnx@onnxruntime", 1000, row=rounds(1000, 1010, 990))
    told = {"candidate": fast.key, "baseline": slow.key, "metric": "throughput_per_s", "verdict": verdict}
    assert differ(slow, fast, THROUGHPUT, {"comparisons": [told]}) is expected
    other = {"comparisons": [{**told, "metric": "latency_ms_p50"}]}
    assert differ(slow, fast, THROUGHPUT, other), "that verdict is about latency"


def test_without_rounds_the_numbers_are_taken_as_they_are() -> None:
    """Files of older versions have no rounds of latency, and one round has no spread."""
    assert differ(INT8, ORT, LATENCY, {})
    assert differ(entry("a@x", 11, row=rounds(11)), entry("b@x", 10, row=rounds(10)), THROUGHPUT, {})
    assert not differ(entry("a@x", 10), entry("b@x", 10), THROUGHPUT, {})


def test_equal_sizes_are_equal() -> None:
    """Three ways to run one file: the precise one, and of those the fastest."""
    ways = [entry("onnx@openvino-bf16", 3000), entry("onnx@openvino", 2000), entry("onnx@onnxruntime", 1000)]
    assert pick(ways, objective=SIZE).winner == ways[2]
    assert pick([*ways[:2], entry("openvino@openvino", 1500)], objective=SIZE).winner == ways[1]


def test_one_that_beats_the_winner_and_not_the_best() -> None:
    """What cannot be told from the best wins by its precision; between them is one that can be told."""
    best = entry("onnx-int8@openvino", 1100, row=rounds(1100, 1110, 1090))
    between = entry("onnx-int8@onnxruntime", 1050, row=rounds(1050, 1060, 1040))
    wide = entry("onnx@onnxruntime", 1000, row=rounds(1400, 600, 1000))
    choice = pick([best, between, wide])
    assert choice.winner == wide
    assert choice.others[1][1] == "its throughput is measurably lower than the highest throughput"


# ---- what makes no sense -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_latency_ms": 0.0}, "--max-latency-ms is more than 0 milliseconds; got 0"),
        ({"max_latency_ms": math.nan}, "--max-latency-ms is more than 0 milliseconds; got nan"),
        ({"min_accuracy": 90.0}, "--min-accuracy is a share above 0 and up to 1, such as 0.9 or 90%; got 90"),
        ({"max_accuracy_drop_points": -1.0}, "--max-accuracy-drop is 0 to 100 percentage points; got -1"),
        ({"max_size_mb": math.inf}, "--max-size-mb is more than 0 megabytes; got inf"),
    ],
)
def test_limits_that_nothing_or_everything_keeps_to(limits: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Limits(**limits)
    assert str(caught.value) == words


def test_an_unknown_objective() -> None:
    with pytest.raises(UsageError, match="throughput, latency, size; got 'latnecy'; did you mean 'latency'"):
        find_objective("latnecy")
