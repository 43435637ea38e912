"""How repeats of a benchmark are compared."""

from typing import Any

import pytest

from benchmarks import agreement


def once(low: float, high: float, verdict: str = "faster") -> agreement.Ratios:
    entry: dict[str, Any] = {"interval": [low, high], "ratio": (low + high) / 2, "verdict": verdict}
    return {("onnx-int8@onnxruntime", "throughput_per_s"): entry}


def test_nine_of_ten_repeats_are_enough() -> None:
    alike, apart = once(2.0, 2.2), once(2.5, 2.6)
    found = agreement.agreements([apart, *[alike] * 10])
    assert found == {("onnx-int8@onnxruntime", "throughput_per_s"): {"repeats": 10, "overlap": 9, "contradict": 0}}
    assert agreement.agree(found)
    assert not agreement.agree(agreement.agreements([apart, alike, apart, *[alike] * 8]))
    assert not agreement.agree({})


def test_contradictions_are_counted_however_close() -> None:
    found = agreement.agreements([once(0.9, 0.999, "slower"), once(0.999, 1.1, "faster")])
    assert next(iter(found.values())) == {"repeats": 1, "overlap": 1, "contradict": 1}
    assert not agreement.agree(found)


@pytest.mark.parametrize(("one", "other", "expected"), [((1, 2), (2, 3), True), ((1, 2), (2.1, 3), False)])
def test_touching_is_overlapping(one: tuple[float, float], other: tuple[float, float], expected: bool) -> None:
    assert agreement.overlap(one, other) is agreement.overlap(other, one) is expected
