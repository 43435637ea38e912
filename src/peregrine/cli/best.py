"""`peregrine best`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing
from peregrine.cli.train import parse_share

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine best runs/photos\n\n"
    "peregrine best runs/photos --max-accuracy-drop 0.5\n\n"
    "peregrine best runs/photos --objective latency --min-accuracy 90% --max-size-mb 10\n\n"
    "peregrine best runs/photos --objective size --max-latency-ms 2 --json"
)


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run that was exported and benchmarked.")],
    objective: Annotated[
        str, typer.Option(metavar="NAME", help="throughput (highest), latency (lowest) or size (smallest).")
    ] = "throughput",
    max_latency_ms: Annotated[
        float | None, typer.Option(metavar="X", help="Median latency of one image, in milliseconds, at most.")
    ] = None,
    min_accuracy: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Validation accuracy, as 90% or 0.9, at least.")
    ] = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="Points of validation accuracy below the trained model, at most."),
    ] = None,
    max_size_mb: Annotated[
        float | None, typer.Option(metavar="Z", help="Megabytes of the model's files, at most.")
    ] = None,
    data: options.MovedData = None,
    json: options.Json = False,
) -> None:
    """Choose the candidate that wins within the limits, of those that were measured and passed parity.

    The choice is made on validation accuracy and reported with test accuracy; `predict` then uses it.
    """
    least = parse_share(min_accuracy, "--min-accuracy", "90% or 0.9") if min_accuracy is not None else None
    with showing():
        result = catalog.load("stage", "best")(
            run,
            objective=objective,
            max_latency_ms=max_latency_ms,
            min_accuracy=least,
            max_accuracy_drop=max_accuracy_drop,
            max_size_mb=max_size_mb,
            data=data,
        )
    from peregrine.stages.choosing import refuse

    print_candidates(result)
    print_best(result)
    if json:
        output.as_json(result)
    refuse(result)  # after what each of them misses


def print_candidates(result: dict[str, Any]) -> None:
    """The winner and all others that were measured, each with what it misses; then the rest, by what they lack."""
    winner = [{**result, "misses": "best"}] if result["candidate"] else []
    measured = [row for row in [*winner, *result["runners_up"]] if row["throughput_per_s"] is not None]
    output.table(
        ["candidate", "images/s", "latency p50 ms", "MB", result["judged_on"], "what it misses"],
        [
            [
                row["candidate"],
                f"{row['throughput_per_s']:,.0f}",
                f"{row['latency_ms_p50']:.2f}",
                f"{row['size_bytes'] / 1e6:.1f}",
                output.percent(row[f"{result['judged_on']}_accuracy"]),
                row["misses"],
            ]
            for row in measured
        ],
    )
    others: dict[str, list[str]] = {}
    for row in result["runners_up"]:
        if row["throughput_per_s"] is None:
            others.setdefault(row["misses"], []).append(row["candidate"])
    for misses, candidates in others.items():
        output.line(f"Left out, {misses}: {', '.join(candidates)}")


def print_best(result: dict[str, Any]) -> None:
    """The winner in a sentence or two, and what makes the choice less sure than it looks."""
    if result["candidate"]:
        output.line(f"Best: {result['candidate']}, {result['why']}.")
        if result["test_accuracy"] is not None:
            low, high = result["test_accuracy_interval"]
            chosen_on = result["validation_accuracy"]
            before = "Test" if chosen_on is None else f"Validation accuracy {output.percent(chosen_on)}, test"
            output.line(
                f"{before} accuracy {output.percent(result['test_accuracy'])} "
                f"(95% interval {output.percent(low)} to {output.percent(high)})."
            )
    else:
        output.line(f"Best: none; {result['why']}.")
    for warning in result["warnings"]:
        output.line(f"Note: {warning}.")
