"""`peregrine benchmark`, and how its result is printed, also by `peregrine run`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine benchmark runs/photos\n\n"
    "peregrine benchmark runs/photos --quick --json\n\n"
    "peregrine benchmark runs/photos --scenario server --baseline openvino@openvino\n\n"
    "peregrine benchmark runs/a/artifacts/onnx runs/b/artifacts/onnx-int8 --out compared"
)
FIGURES = {"latency_ms_p50": "latency", "throughput_per_s": "throughput", "size_bytes": "size"}


def command(
    targets: Annotated[
        list[str], typer.Argument(metavar="RUN|ARTIFACT…", help="A run, or artifacts of one or of several runs.")
    ],
    data: options.OwnData = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            "--scenario",
            metavar="single-stream|offline|server",
            help="Measure this alone, by MLCommons LoadGen. Repeat. Default: all, and batch sizes × threads.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="CANDIDATE", help="Compare with this one. Default: onnx@onnxruntime, in fp32."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=1000, metavar="N", help="Default: 7, with --quick 5.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few seconds per candidate: single-stream and offline, no sweep.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write figures, pictures and samples here, instead of the run's results."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Measure latency, throughput, start and memory side by side, and say which differences are real.

    Every candidate has a process of its own; rounds are interleaved in random order.
    """
    with showing():
        result = catalog.load("stage", "benchmark")(
            targets, data=data, scenarios=scenario, baseline=baseline, rounds=rounds, quick=quick, out=out
        )
    print_benchmark(result)
    if json:
        output.as_json(result)
    from peregrine.stages.benchmarking import refuse

    refuse(result)  # after what did succeed


def print_benchmark(result: dict[str, Any]) -> None:
    """The benchmark as tables, the fastest throughput first."""
    rows = sorted(result["rows"], key=lambda row: -row.get("throughput_per_s", 0.0))
    if rows:
        _print_speed(rows, result)
        if result["mode"] == "full":
            _print_more(rows)
            _print_front(rows, result["pareto"])
            _print_sweep(result["sweep"])
    for message in result["noise"]["messages"]:
        output.line(f"The machine was not quiet: {message}.")
    for entry in result["skipped"]:
        output.line(f"{entry['candidate']} skipped: {entry['reason']}")


def _print_speed(rows: list[dict[str, Any]], result: dict[str, Any]) -> None:
    ratios = {entry["candidate"]: entry for entry in result["comparisons"] if entry["metric"] == "throughput_per_s"}
    against = f"; times {result['baseline']}" if ratios else ""
    batches = " or ".join(str(size) for size in sorted({row["batch_size"] for row in rows}))
    output.table(
        ["candidate", "precision", "threads", "p50 ms", "p99 ms", "images/s", "times", "test s", "MB"],
        [
            [
                row["candidate"],
                row["precision"],
                str(row["threads"]),
                _figure(row, "latency_ms_p50", "{:.2f}"),
                _figure(row, "latency_ms_p99", "{:.2f}"),
                _throughput(row),
                _times(row["candidate"], ratios.get(row["candidate"]), result["baseline"]),
                f"{row['test_split_seconds']:.2f}",
                f"{row['size_bytes'] / 1e6:.1f}",
            ]
            for row in rows
        ],
        title=f"Benchmark by {rows[0]['driver']}: latency at batch 1, throughput at batch {batches}{against}",
    )


def _throughput(row: dict[str, Any]) -> str:
    """With half of what lies between its slowest and its fastest round."""
    return f"{row['throughput_per_s']:,.0f} ±{row['throughput_spread'] / 2:.0%}" if "throughput_per_s" in row else "–"


def _times(candidate: str, ratio: dict[str, Any] | None, baseline: str | None) -> str:
    if ratio is None:
        return "1" if candidate == baseline else "–"
    if ratio["verdict"] == "no difference measured":
        return "no difference"
    low, high = ratio["interval"]
    return f"{ratio['ratio']:.2f} ({low:.2f}–{high:.2f})"


def _print_more(rows: list[dict[str, Any]]) -> None:
    servers = [row["server"] for row in rows if row["server"]]
    asked = f"p99 ms at {servers[0]['target_qps']:,.0f}/s" if servers else "server"
    output.table(
        ["candidate", "accuracy", "as proved", "first answer s", "load s", "memory MB", "from bytes/s", asked],
        [
            [
                row["candidate"],
                output.percent(row["accuracy"]),
                output.percent((row["accuracy_mode"] or {}).get("agreement")),
                f"{row['cold_start_seconds']:.2f}",
                f"{row['load_seconds']:.2f}",
                f"{row['peak_memory_bytes'] / 1e6:,.0f}",
                f"{row['images_per_s_from_bytes']:,.0f}",
                _served(row["server"]),
            ]
            for row in rows
        ],
        title="What else it takes",
    )  # fmt: skip


def _served(server: dict[str, Any] | None) -> str:
    if server is None:
        return "–"
    return f"{server['latency_ms_p99']:.2f}" + ("" if server["valid"] else " too slow")


def _print_front(rows: list[dict[str, Any]], fronts: dict[str, list[str]]) -> None:
    members = [row for row in rows if any(row["candidate"] in front for front in fronts.values())]
    if not members:
        return
    members.sort(key=lambda row: (-row["accuracy"], row["candidate"]))
    output.table(
        ["candidate", "accuracy", *(f"not beaten in {name}" for name in FIGURES.values())],
        [
            [
                row["candidate"],
                output.percent(row["accuracy"]),
                *("yes" if row["candidate"] in fronts[key] else "" for key in FIGURES),
            ]
            for row in members
        ],
        title="Pareto front: no other is as accurate and better in that figure",
    )


def _print_sweep(sweep: list[dict[str, Any]]) -> None:
    if not sweep:
        return
    sizes = sorted({cell["batch_size"] for cell in sweep})
    lines: dict[tuple[str, int], dict[int, float]] = {}
    for cell in sweep:
        lines.setdefault((cell["candidate"], cell["threads"]), {})[cell["batch_size"]] = cell["throughput_per_s"]
    output.table(
        ["candidate", "threads", *(f"batch {size}" for size in sizes)],
        [
            [candidate, str(threads), *(f"{speeds[size]:,.0f}" if size in speeds else "–" for size in sizes)]
            for (candidate, threads), speeds in lines.items()
        ],
        title="Images per second by batch size and threads",
    )


def _figure(row: dict[str, Any], key: str, form: str) -> str:
    return form.format(row[key]) if key in row else "–"
