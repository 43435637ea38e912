import math

import pytest

from peregrine.stages.reporting import curves, speed
from peregrine.stages.reporting.charts import Axis, padded, padded_in_ratios
from report_making import history, newer, row


def text(value: float) -> str:
    return f"{value:g}"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.857, 0.913, ["0.86", "0.88", "0.9"]),
        (0, 1_880, ["0", "500", "1000", "1500"]),
        (-0.3, 0.4, ["-0.2", "0", "0.2", "0.4"]),
        (5, 5, ["5"]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[str]) -> None:
    assert [tick.text for tick in Axis("", low, high, text).ticks()] == ticks


def test_whole_ticks_have_no_halves() -> None:
    assert [tick.text for tick in Axis("", 1, 3, text, whole=True).ticks(6)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.9, 12, ["1", "2", "5", "10"]), (1, 1e6, ["1", "10", "100", "1000", "10000", "100000", "1e+06"])],
)
def test_ticks_of_ratios(low: float, high: float, ticks: list[str]) -> None:
    assert [tick.text for tick in Axis("", low, high, text, log=True).ticks()] == ticks


def test_a_value_has_its_place() -> None:
    axis = Axis("", 1, 100, text, log=True)
    assert axis.share(10) == pytest.approx(0.5)
    assert [tick.at for tick in Axis("", 0, 4, text).ticks(4)] == [0, 25, 50, 75, 100]


def test_margins_are_at_least_so_wide() -> None:
    assert padded([0.5, 0.5], least=0.02) == pytest.approx((0.49, 0.51))
    low, high = padded_in_ratios([7, 7])
    assert high / low == pytest.approx(2)
    assert math.sqrt(low * high) == pytest.approx(7)


def places_are_inside(chart: curves.Chart) -> bool:
    points = [point for series in chart.series for point in series.points]
    bars = [(bar.x, bar.y) for bar in chart.bars] + [(bar.x + bar.width, bar.y + bar.height) for bar in chart.bars]
    places = [(point.x, point.y) for point in points] + bars
    return bool(places) and all(-0.01 <= x <= 100.01 and -0.01 <= y <= 100.01 for x, y in places)


@pytest.mark.parametrize("epochs", [1, 2, 16, 1_000])
@pytest.mark.parametrize("judged", [True, False])
def test_training_curves(epochs: int, judged: bool) -> None:
    charts = curves.training(history(epochs, judged), epochs if judged else None, "validation" if judged else "")
    assert [chart.name for chart in charts] == [
        "curve-accuracy", "curve-loss", "curve-learning_rate", "curve-images_per_s",
    ]  # fmt: skip
    assert all(places_are_inside(chart) for chart in charts)
    assert len(charts[0].rows) <= curves.MOST_POINTS + 2
    assert charts[0].rows[-1][0] == str(epochs)
    assert [series.name for series in charts[0].series] == (["training", "validation"] if judged else [""])
    assert bool(charts[0].rules) == judged
    kept = [point for series in charts[0].series for point in series.points if "kept" in point.kinds]
    assert len(kept) == judged


BINS = [
    {"confidence": 0.31, "accuracy": 0.2, "share": 0.005},
    {"confidence": 0.7, "accuracy": 0.75, "share": 0.195},
    {"confidence": 0.97, "accuracy": 0.96, "share": 0.8},
]


def test_calibration_and_confidence() -> None:
    chart = curves.reliability(BINS, 0.0123)
    assert places_are_inside(chart)
    assert chart.title == "Sure and right differ by 1.2% on average"
    assert ["rare" in point.kinds for point in chart.series[0].points] == [True, False, False]
    spread = curves.confidence(BINS)
    assert places_are_inside(spread)
    assert len(spread.bars) == 6
    wrong = 0.8 * 0.04 / (0.005 * 0.8 + 0.195 * 0.25 + 0.8 * 0.04)
    assert spread.title == f"{100 * wrong:.1f}% of the wrong answers are at least 93% sure"


def test_confidence_where_nothing_is_wrong() -> None:
    chart = curves.confidence([{"confidence": 1.0, "accuracy": 1.0, "share": 1.0}])
    assert chart.title == "No answer is wrong"
    assert places_are_inside(chart)


def test_coverage() -> None:
    rows = [{"threshold": step / 10, "coverage": 1 - step / 10, "accuracy": 0.9 + step / 100} for step in range(10)]
    rows.append({"threshold": 1.0, "coverage": 0.0, "accuracy": None})
    chart = curves.coverage(rows, {"threshold": 0.6, "coverage": 0.4, "accuracy": 0.96})
    assert places_are_inside(chart)
    assert len(chart.rows) == 10
    assert chart.title == "Below 0.60 no answer: 40.0% are answered, 96.0% of these right"
    assert chart.legend == [("main", "accuracy"), ("kept", "reject threshold")]
    assert places_are_inside(curves.coverage([{"threshold": 0.0, "coverage": 1.0, "accuracy": 1.0}], None))


# ---- the benchmark's ----------------------------------------------------------------------------------------------


def rows() -> list[dict[str, object]]:
    made = [
        newer({**row("onnx@onnxruntime", 1_700.0), "latency_ms_p50": 2.0}, 0.902),
        newer({**row("onnx-int8@openvino", 6_000.0, "int8"), "latency_ms_p50": 0.5, "size_bytes": 2_000_000}, 0.901),
        newer({**row("slow@torch", 400.0), "latency_ms_p50": 9.0}, 0.9),
    ]
    return [{**one, "number": number, "verdict": "passed", "against": None} for number, one in enumerate(made, 1)]


def test_the_front_is_what_nothing_else_beats() -> None:
    assert speed.front(rows(), "latency_ms_p50") == ["onnx@onnxruntime", "onnx-int8@openvino"]
    assert speed.front(rows(), "throughput_per_s") == ["onnx@onnxruntime", "onnx-int8@openvino"]
    same = [{**rows()[0], "candidate": name} for name in ("one", "other")]
    assert speed.front(same, "size_bytes") == ["one", "other"]  # neither is better


def test_the_charts_of_the_choice() -> None:
    charts = speed.pareto(rows(), {"size_bytes": ["onnx-int8@openvino"]}, "onnx-int8@openvino")
    assert [chart.name for chart in charts] == ["pareto-latency", "pareto-throughput", "pareto-size"]
    for chart in charts:
        points = chart.series[0].points
        assert places_are_inside(chart)
        assert {point.mark for point in points} == {"1", "2", "3"}
        assert [point.target for point in points if "chosen" in point.kinds] == ["row-2"]
    front = [point.target for point in charts[2].series[0].points if "front" in point.kinds]
    assert front == ["row-2"]  # as the benchmark said, not as is worked out here
    assert charts[0].series[1].line.count(",") == 2


def test_candidates_without_an_accuracy_are_left_out_of_the_charts() -> None:
    made = rows()
    made[2]["accuracy"] = None
    assert len(speed.pareto(made, {}, None)[0].series[0].points) == 2
    assert speed.pareto([made[2]], {}, None) == []


def test_the_sweep_takes_the_best_threads_of_the_fastest() -> None:
    swept = [
        {"candidate": f"c{number}", "threads": threads, "batch_size": batch, "latency_ms_p50": 1.0,
         "throughput_per_s": 100.0 * number * threads * batch}
        for number in range(1, 9) for threads in (1, 2) for batch in (1, 8)
    ]  # fmt: skip
    chart = speed.sweep(swept)
    assert chart is not None
    assert places_are_inside(chart)
    assert [series.name for series in chart.series] == [f"c{number}, 2 threads" for number in (8, 7, 6, 5, 4, 3)]
    assert len(chart.rows) == len(swept)
    assert speed.sweep([]) is None
