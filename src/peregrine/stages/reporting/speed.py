"""The benchmark as the page shows it: a row per Candidate with all that is known of it, and charts to choose by."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peregrine.formats import find_format
from peregrine.stages import wording
from peregrine.stages.reporting.charts import (
    Axis,
    Chart,
    Point,
    Series,
    line_through,
    padded,
    padded_in_ratios,
    place,
)

TRAINED = "trained"  # the verdict of the ancestor itself, which needs no proof
SWEPT = 6  # Candidates in the chart of the sweep

Row = Mapping[str, Any]

# key of the row: what it is called, what it means, whether less is better
AXES = {
    "latency_ms_p50": ("latency", "Latency of one image, ms", True),
    "throughput_per_s": ("throughput", "Images per second", False),
    "size_bytes": ("size", "Size of the model, MB", True),
}


def verdicts_of(trained: str, parity: Row | None, benchmark: Row | None) -> dict[str, str]:
    """Every Candidate's verdict, by its key.

    Args:
        trained: the format of the trained model, which needs no proof as it is usually run; in other ways, as those of
            an imported ONNX file, it does.
    """
    verdicts = {row["candidate"]: "unproved" for row in (benchmark or {"rows": []})["rows"]}
    for candidate in verdicts:
        if trained and candidate == f"{trained}@{find_format(trained).runtimes[0]}":
            verdicts[candidate] = TRAINED
    return verdicts | {row["candidate"]: row["verdict"] for row in (parity or {"rows": []})["rows"]}


def outdated(told: Row, ids: Mapping[str, str]) -> bool:
    """Whether what was measured, or chosen, is no more: its folder has something else in it, or is gone.

    Args:
        ids: of what is in each folder of Artifacts now, by the folder's name.
    """
    return "artifact_id" in told and told["artifact_id"] != ids.get(Path(told["artifact"]).name)


def fastest(rows: Sequence[Row], verdicts: Mapping[str, str]) -> Row | None:
    """The benchmark row with the highest throughput among the Candidates whose verdict is worth most."""
    worth = {"passed": 2, TRAINED: 2, "inconclusive": 1, "unproved": 0}
    sound = [row for row in rows if verdicts[row["candidate"]] in worth]
    return max(sound, key=lambda row: (worth[verdicts[row["candidate"]]], row["throughput_per_s"]), default=None)


def measured(
    benchmark: Row,
    verdicts: Mapping[str, str],
    evaluation: Row | None,
    parity: Row | None,
    ids: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The rows of the benchmark, the highest throughput first, numbered.

    Each has besides its own keys: `number`, `verdict`, `accuracy` (on test, None where it is not known), `against`,
    its comparison of throughput with the baseline, or None, and whether it is `outdated`.
    """
    accuracy = {row["candidate"]: row["accuracy"] for row in (parity or {"rows": []})["rows"]}
    if evaluation and evaluation["split"] == "test" and evaluation["tta"] == "none":
        accuracy.setdefault(evaluation["candidate"], evaluation["accuracy"])
    against: dict[str, Row] = {}
    for one in benchmark.get("comparisons", []):
        if one["metric"] == "throughput_per_s":
            against[one["candidate"]] = one
    rows = sorted(benchmark["rows"], key=lambda row: -row["throughput_per_s"])
    return [
        {
            **row,
            "number": number,
            "verdict": verdicts[row["candidate"]],
            "accuracy": row.get("accuracy") if row.get("accuracy") is not None else accuracy.get(row["candidate"]),
            "against": against.get(row["candidate"]),
            "outdated": outdated(row, ids),
        }
        for number, row in enumerate(rows, 1)
    ]


def front(rows: Sequence[Row], key: str) -> list[str]:
    """The Candidates that no other beats in both accuracy and `key`."""
    sign = -1 if AXES[key][2] else 1

    def beats(one: Row, other: Row) -> bool:
        mine, theirs = ((row["accuracy"], sign * row[key]) for row in (one, other))
        return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))

    return [row["candidate"] for row in rows if not any(beats(other, row) for other in rows)]


def pareto(rows: Sequence[Row], fronts: Mapping[str, Sequence[str]], chosen: str | None) -> list[Chart]:
    """Accuracy against latency, throughput and size: a chart each.

    Args:
        rows: from `measured`; those without an accuracy are left out.
        fronts: the front of each key of `AXES`, as the benchmark found them; those it lacks are worked out.
        chosen: the Candidate in `best.json`.
    """
    known = [row for row in rows if row["accuracy"] is not None and row["verdict"] != "failed"]
    return [_front_chart(known, key, fronts.get(key), chosen) for key in AXES] if known else []


def _front_chart(rows: Sequence[Row], key: str, found: Sequence[str] | None, chosen: str | None) -> Chart:
    name, label, less = AXES[key]
    best = set(front(rows, key) if found is None else found)
    low, high = padded([row["accuracy"] for row in rows], 0.15, 0.004)
    up = Axis("Accuracy", low, min(high, 1.0), _percent)
    left, right = padded_in_ratios([row[key] for row in rows], 0.1)
    scale = 1e-6 if key == "size_bytes" else 1.0
    across = Axis(label, scale * left, scale * right, _tick, log=True)
    points = []
    for row in sorted(rows, key=lambda row: (row["candidate"] in best, row["candidate"] == chosen)):
        kinds = ("front",) if row["candidate"] in best else ()
        tip = f"{row['candidate']}, {row['precision']}: {_percent(row['accuracy'])}, {_told(key, row[key])}"
        points.append(
            Point(
                *place(across, up, scale * row[key], row["accuracy"]),
                tip + (", chosen" if row["candidate"] == chosen else ""),
                target=f"row-{row['number']}",
                mark=str(row["number"]),
                kinds=(*kinds, "chosen") if row["candidate"] == chosen else kinds,
                about={"precision": row["precision"], "runtime": row["runtime"]},
            )
        )
    line = sorted((point for point in points if "front" in point.kinds), key=lambda point: point.x)
    names = [row["candidate"] for row in sorted(rows, key=lambda row: row[key], reverse=not less)]
    ahead = [name for name in names if name in best]
    side = "left" if less else "right"
    shown = ", ".join(ahead[:4]) + (f" and {len(ahead) - 4} more" if len(ahead) > 4 else "")
    return Chart(
        f"pareto-{name}",
        f"Accuracy against {name}: {wording.count(len(ahead), 'candidate')} that no other beats in both",
        f"The best are in the upper {side} corner; {label[:1].lower()}{label[1:]}, on a logarithmic axis. Filled"
        f"{', and joined by the line' if len(ahead) > 1 else ''}: {shown}. The numbers are those of the table below.",
        across,
        up,
        (Series("", "main", tuple(points)), Series("", "front", (), line_through(line))),
        near="xy",
    )


def _told(key: str, value: float) -> str:
    if key == "size_bytes":
        return wording.size(int(value))
    return f"{wording.number(value)} ms" if key == "latency_ms_p50" else f"{wording.number(value)} images/s"


def sweep(rows: Sequence[Row]) -> Chart | None:
    """Throughput over the batch size, of the fastest that were swept, with the threads that suit each best."""
    tops: dict[tuple[str, int], float] = {}
    for row in rows:
        key = row["candidate"], row["threads"]
        tops[key] = max(tops.get(key, 0.0), row["throughput_per_s"])
    best_threads: dict[str, int] = {}
    for candidate, threads in sorted(tops, key=lambda key: -tops[key]):
        best_threads.setdefault(candidate, threads)
    chosen = list(best_threads)[:SWEPT]
    fewer = f", the {SWEPT} fastest of these" if len(best_threads) > SWEPT else ""
    shown = [row for row in rows if row["candidate"] in chosen and row["threads"] == best_threads[row["candidate"]]]
    if not shown:
        return None
    sizes = sorted({row["batch_size"] for row in shown})
    low, high = padded_in_ratios(sizes, 0.04)
    every = -(-len(sizes) // 9)  # more numbers would touch each other on a phone
    across = Axis("Batch size", low, high, lambda value: f"{value:g}", log=True, at=tuple(sizes[::every]))
    up = Axis("Images per second", 0.0, 1.08 * max(row["throughput_per_s"] for row in shown), _thousands)
    series = []
    for number, candidate in enumerate(chosen):
        mine = sorted((row for row in shown if row["candidate"] == candidate), key=lambda row: row["batch_size"])
        points = tuple(
            Point(
                *place(across, up, row["batch_size"], row["throughput_per_s"]),
                f"{candidate}, batch {row['batch_size']}: {wording.number(row['throughput_per_s'])} images/s",
            )
            for row in mine
        )
        name = f"{candidate}, {wording.count(best_threads[candidate], 'thread')}"
        series.append(Series(name, f"series-{number}", points, line_through(points)))
    return Chart(
        "sweep",
        "Throughput by batch size",
        f"Images per second of candidates that no other beats in accuracy and a figure, and of the baseline{fewer}, "
        "each with the number of threads that suits it best; logarithmic batch size.",
        across,
        up,
        tuple(series),
        columns=("Candidate", "Threads", "Batch", "Images/s", "p50, ms"),
        rows=tuple(
            (
                row["candidate"],
                str(row["threads"]),
                str(row["batch_size"]),
                wording.number(row["throughput_per_s"]),
                wording.number(row["latency_ms_p50"]),
            )
            for row in sorted(rows, key=lambda row: -row["throughput_per_s"])
        ),
    )


def timed_answers(rows: Sequence[Row]) -> dict[str, Any] | None:
    """The timed answers that were kept: of how many `candidates`, how many `answers`, and the share that is `same`.

    That is, the share that are those that were scored. None where none were kept.
    """
    modes = [row["accuracy_mode"] for row in rows if (row.get("accuracy_mode") or {}).get("timed_answers")]
    if not modes:
        return None
    answers = sum(mode["timed_answers"] for mode in modes)
    same = sum(mode["timed_answers"] * mode["timed_agreement"] for mode in modes)
    return {"candidates": len(modes), "answers": answers, "same": same / answers}


def refused(benchmark: Row | None) -> list[Row]:
    """Candidates that failed a check while they were measured, such as one that answered something else."""
    entries = (benchmark or {}).get("skipped", [])
    return [entry for entry in entries if entry.get("error", "") not in ("", "MissingDependency", "MissingDevice")]


def _thousands(value: float) -> str:
    return f"{value:,.0f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%" if share < 1 else "100%"


def _tick(value: float) -> str:
    return f"{value:,.6g}"
