"""Who wins within the limits, and what each of the others misses: arithmetic on what was measured.

What ran where, and who predicted what, is not known here; `choosing` asks, and this answers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from peregrine.errors import UsageError, suggestion
from peregrine.stages import ratios
from peregrine.stages.wording import number, size

Row = Mapping[str, Any]
PRECISIONS = ("fp32", "fp16", "bf16", "int8")  # the most precise first


@dataclass(frozen=True)
class Objective:
    """What is made as good as possible.

    Attributes:
        metric: a key of benchmark rows.
        noun: what it is called.
        best: what the best is called.
        worse: what more of it, or less, is called of one that lost.
        highest: whether more is better.
        tell: a value of it with its unit.
    """

    metric: str
    noun: str
    best: str
    worse: str
    highest: bool
    tell: Callable[[Any], str]


OBJECTIVES = {
    "throughput": Objective(
        "throughput_per_s",
        "throughput",
        "the highest throughput",
        "lower",
        True,
        lambda value: f"{number(value)} images/s",
    ),
    "latency": Objective(
        "latency_ms_p50", "latency", "the lowest latency", "longer", False, lambda value: f"{number(value)} ms"
    ),
    "size": Objective("size_bytes", "size", "the smallest size", "larger", False, size),
}


def find_objective(name: str) -> Objective:
    """Look an objective up; an unknown one is a `UsageError` with a suggestion."""
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    raise UsageError(f"an objective is one of {', '.join(OBJECTIVES)}; got {name!r}{suggestion(name, OBJECTIVES)}")


@dataclass(frozen=True)
class Limits:
    """What a Candidate has to keep to; None is no limit.

    Attributes:
        max_latency_ms: median latency of one image.
        min_accuracy: share of the images, 0 to 1.
        max_accuracy_drop_points: percentage points that it may lose against the trained model.
        max_size_mb: of the model's files, in 10⁶ bytes.

    Raises:
        UsageError: a limit that nothing, or everything, keeps to.
    """

    max_latency_ms: float | None = None
    min_accuracy: float | None = None
    max_accuracy_drop_points: float | None = None
    max_size_mb: float | None = None

    def __post_init__(self) -> None:
        for name, least, most, rule in (
            ("max_latency_ms", 0.0, math.inf, "more than 0 milliseconds"),
            ("min_accuracy", 0.0, 1.0, "a share above 0 and up to 1, such as 0.9 or 90%"),
            ("max_accuracy_drop_points", -1e-9, 100.0, "0 to 100 percentage points"),
            ("max_size_mb", 0.0, math.inf, "more than 0 megabytes"),
        ):
            value = getattr(self, name)
            if value is not None and not (least < value <= most and math.isfinite(value)):
                flag = name.removesuffix("_points").replace("_", "-")
                raise UsageError(f"--{flag} is {rule}; got {value:g}")

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    @property
    def on_accuracy(self) -> bool:
        """Whether a Candidate's accuracy matters."""
        return self.min_accuracy is not None or self.max_accuracy_drop_points is not None


@dataclass(frozen=True)
class Miss:
    """A limit that was not kept.

    Attributes:
        words: which, and by how much.
        excess: how far beyond the limit, as a share of it.
    """

    words: str
    excess: float


def measured_misses(limits: Limits, row: Row) -> list[Miss]:
    """The limits on latency and size that a benchmark row does not keep."""
    misses = []
    latency, megabytes = row["latency_ms_p50"], row["size_bytes"] / 1e6
    if limits.max_latency_ms is not None and latency > limits.max_latency_ms:
        beyond = latency - limits.max_latency_ms
        words = f"latency {number(latency)} ms is {number(beyond)} ms above the limit of {limits.max_latency_ms:g} ms"
        misses.append(Miss(words, beyond / limits.max_latency_ms))
    if limits.max_size_mb is not None and megabytes > limits.max_size_mb:
        beyond = megabytes - limits.max_size_mb
        words = f"size {number(megabytes)} MB is {number(beyond)} MB above the limit of {limits.max_size_mb:g} MB"
        misses.append(Miss(words, beyond / limits.max_size_mb))
    return misses


def accuracy_misses(limits: Limits, split: str, accuracy: float | None, trained: float | None) -> list[Miss]:
    """The limits on accuracy that are not kept.

    Args:
        split: on which the accuracy was taken.
        accuracy: of the Candidate, or None where it could not be had.
        trained: of the trained model; needed where the drop is limited.
    """
    if accuracy is None:
        return [Miss(f"its {split} accuracy could not be found out", math.inf)]
    misses = []
    least, most = limits.min_accuracy, limits.max_accuracy_drop_points
    # Accuracies are quotients: 702 / 1000 is a little less than 70.2%, 89.8% less 89.3% a little more than 0.5 points.
    if least is not None and accuracy < least - 1e-9:
        beyond = 100 * (least - accuracy)
        words = f"{split} accuracy {accuracy:.2%} is {_points(beyond)} points below the limit of {least:.2%}"
        misses.append(Miss(words, (least - accuracy) / least))
    if most is not None:
        if trained is None:
            return [*misses, Miss(f"the trained model's {split} accuracy could not be found out", math.inf)]
        drop = 100 * (trained - accuracy)
        if drop > most + 1e-9:
            words = f"{split} accuracy drops by {_points(drop)} points, the limit is {most:g}"
            misses.append(Miss(words, (drop - most) / (most or 1)))
    return misses


@dataclass(frozen=True)
class Entry:
    """A Candidate as the choice sees it.

    Attributes:
        key: the Candidate's.
        precision: that runs.
        libraries: what has to be installed beside Peregrine: 0 nothing, 1 an inference library, 2 a training library.
        row: what was measured, or None.
        refused: why it may not win, whatever the limits; empty where it may.
    """

    key: str
    precision: str
    libraries: int
    row: Row | None
    refused: str = ""


@dataclass(frozen=True)
class Choice:
    """The outcome.

    Attributes:
        winner: None where nothing is within the limits.
        why: why it won; or what is nearest to the limits, and by how much it misses them.
        nearest: where nobody won, the one that misses least, if any could be measured and proved.
        others: all but the winner, the best first, each with what it misses.
    """

    winner: Entry | None
    why: str
    nearest: Entry | None
    others: list[tuple[Entry, str]]


def choose(
    entries: Sequence[Entry],
    objective: Objective,
    limits: Limits,
    judge: Callable[[Entry], list[Miss]],
    benchmark: Row,
) -> Choice:
    """The best by the objective within the limits; where no difference was measured, the more precise or simpler one.

    Args:
        judge: the limits on accuracy that an entry misses. It may take long, so it is asked only where it decides.
        benchmark: content of `benchmark.json`, for its comparisons.
    """
    sound = sorted((entry for entry in entries if not entry.refused), key=lambda entry: _order(entry, objective))
    misses = {entry.key: measured_misses(limits, _row(entry)) for entry in sound}
    equals: list[Entry] = []  # within the limits, and not measurably worse than the first of them
    for entry in sound:
        if misses[entry.key] or (equals and differ(equals[0], entry, objective, benchmark)):
            continue
        misses[entry.key] += judge(entry)
        if not misses[entry.key]:
            equals.append(entry)
    refused = [(entry, entry.refused) for entry in entries if entry.refused]
    if not equals:
        return _nobody(sound, limits, judge, refused)
    winner = min(equals, key=lambda entry: (PRECISIONS.index(entry.precision), entry.libraries))
    others = [
        (entry, _told(misses[entry.key]) or _behind(entry, winner, entry in equals, objective))
        for entry in sound
        if entry != winner
    ]
    return Choice(winner, _why(winner, equals[0], entries, objective, limits, benchmark), None, [*others, *refused])


def _nobody(
    sound: Sequence[Entry],
    limits: Limits,
    judge: Callable[[Entry], list[Miss]],
    refused: list[tuple[Entry, str]],
) -> Choice:
    """Nothing is within the limits: all that each one misses, and which misses least."""
    if not sound:
        return Choice(None, "no candidate is both measured and proved", None, refused)
    misses = {entry.key: [*measured_misses(limits, _row(entry)), *judge(entry)] for entry in sound}
    nearest = min(sound, key=lambda entry: (len(misses[entry.key]), max(miss.excess for miss in misses[entry.key])))
    why = f"the nearest is {nearest.key}: {_told(misses[nearest.key])}"
    return Choice(None, why, nearest, [*((entry, _told(misses[entry.key])) for entry in sound), *refused])


def differ(one: Entry, other: Entry, objective: Objective, benchmark: Row) -> bool:
    """Whether a difference was measured: by the benchmark's own verdict where it compares the two, else by the rounds.

    Rounds are interleaved, so each round of the one is paired with the same of the other. Sizes are exact.
    """
    metric = objective.metric
    mine, others = _row(one), _row(other)
    if metric == "size_bytes":
        return bool(mine[metric] != others[metric])
    for verdict in benchmark.get("comparisons", ()):
        if {verdict["candidate"], verdict["baseline"]} == {one.key, other.key} and verdict["metric"] == metric:
            return bool(verdict["verdict"] != "no difference measured")
    rounds = [row.get(f"{metric}_rounds", ()) for row in (mine, others)]
    if len(rounds[0]) != len(rounds[1]) or len(rounds[0]) < 2:
        return bool(mine[metric] != others[metric])
    found = ratios.compare(rounds[0], rounds[1], objective.highest)
    return bool(found["verdict"] != "no difference measured")


def _order(entry: Entry, objective: Objective) -> tuple[float, float]:
    """Sorts the best first; of equally small files the faster."""
    value, row = float(_row(entry)[objective.metric]), _row(entry)
    return (-value if objective.highest else value), -float(row["throughput_per_s"])


def _row(entry: Entry) -> Row:
    assert entry.row is not None, "what was not measured is refused"
    return entry.row


def _told(misses: Sequence[Miss]) -> str:
    return "; ".join(miss.words for miss in misses)


def _behind(entry: Entry, winner: Entry, equal: bool, objective: Objective) -> str:
    """What one within all limits lacks."""
    mine, best = _row(entry)[objective.metric], _row(winner)[objective.metric]
    if not equal:
        share = 1 - mine / best if objective.highest else mine / best - 1
        if share <= 0:  # better than the winner, which cannot be told from the best; this one can
            return f"its {objective.noun} is measurably {objective.worse} than {objective.best}"
        return f"its {objective.noun} is {_share(share)} {objective.worse}"
    less = f"no difference in {objective.noun} was measured"
    if entry.precision != winner.precision:
        return f"{less}, and {entry.precision} is less precise than {winner.precision}"
    return f"{less}, and it needs {_needs(entry)}" if entry.libraries > winner.libraries else less


def _why(
    winner: Entry, first: Entry, entries: Sequence[Entry], objective: Objective, limits: Limits, benchmark: Row
) -> str:
    within = " within the limits" if limits.any else ""
    if any(_is_ahead(entry, winner, objective) for entry in entries if entry.refused):
        within = f" of what can be relied on{within}"
    value = objective.tell(_row(winner)[objective.metric])
    why = f"{objective.best}{within}: {value}"
    if winner != first:
        better = f"more precise ({winner.precision}, not {first.precision})"
        if winner.precision == first.precision:
            better = f"simpler (it needs {_needs(winner)}, not {_needs(first)})"
        why = (
            f"{value}, no measured difference to {objective.best}{within} ({first.key}, "
            f"{objective.tell(_row(first)[objective.metric])}), and {better}"
        )
    return why + _against_baseline(winner, entries, objective, benchmark)


def _is_ahead(entry: Entry, winner: Entry, objective: Objective) -> bool:
    """Whether a refused one, which may not have been measured, would have been better than the winner."""
    found, best = (entry.row or {}).get(objective.metric), _row(winner)[objective.metric]
    return found is not None and (found > best if objective.highest else found < best)


def _against_baseline(winner: Entry, entries: Sequence[Entry], objective: Objective, benchmark: Row) -> str:
    """`; 4.12 times that of onnx@onnxruntime (4.05 to 4.20, int8 against fp32)`; nothing where there is no baseline.

    As the benchmark has it, by its rounds and with their 95% interval; figures without rounds, as sizes, have none.
    """
    key = benchmark.get("baseline", "onnx@onnxruntime")
    baseline = next((entry for entry in entries if entry.key == key and entry.row), None)
    if baseline is None or baseline == winner:
        return ""
    told = [f"{winner.precision} against {baseline.precision}"] if winner.precision != baseline.precision else []
    ratio = _row(winner)[objective.metric] / _row(baseline)[objective.metric]
    pair = winner.key, key, objective.metric
    for found in benchmark.get("comparisons", []):
        if (found["candidate"], found["baseline"], found["metric"]) == pair:
            if found["verdict"] == "no difference measured":
                return f"; no measured difference to {key}"
            ratio, (low, high) = found["ratio"], found["interval"]  # above 1 is better
            if not objective.highest:
                ratio, low, high = 1 / ratio, 1 / high, 1 / low
            told.insert(0, f"{low:.2f} to {high:.2f}")
    return f"; {ratio:.2f} times that of {key}" + (f" ({', '.join(told)})" if told else "")


def _needs(entry: Entry) -> str:
    return ("no library beyond Peregrine's own", "an inference library", "a training library")[entry.libraries]


def _points(points: float) -> str:
    """`10.00`, `0.02`, `0.004`: of many images, accuracies differ by little."""
    return f"{points:.2f}" if points >= 0.005 else f"{points:.1g}"


def _share(share: float) -> str:
    return "less than 1%" if share < 0.01 else f"{100 * share:.0f}%"
