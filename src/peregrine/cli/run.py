"""`peregrine run`: the whole way."""

from typing import Annotated, Any

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing
from peregrine.cli.evaluate import print_evaluation
from peregrine.cli.export import print_exports
from peregrine.cli.train import parse_settings, training_request
from peregrine.errors import UsageError, suggestion

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine run --data digits\n\n"
    "peregrine run --data cifar10 --recipe sprint-quick\n\n"
    "peregrine run --data photos/ --set epochs=20\n\n"
    "peregrine run --data cifar10 --model-type cnn --epochs 5\n\n"
    "peregrine run --resume"
)


def command(
    data: options.Data = None,
    recipe: options.Recipe = None,
    run: options.Run = None,
    settings: options.Set = None,
    resume: options.Resume = False,
    max_bad: options.MaxBad = "1%",
    model_type: Annotated[
        str | None, typer.Option(metavar="NAME", help="Classic flag: a recipe by its model, such as cnn.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Classic flag for --set epochs=…")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Classic flag for --set batch_size=…")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Classic flag for --set optimizer.learning_rate=…")
    ] = None,
    json: options.Json = False,
) -> None:
    """Train, evaluate, export, prove, benchmark and report: one command from labelled images to a classifier."""
    classic = {"epochs": epochs, "batch_size": batch_size, "optimizer.learning_rate": learning_rate}
    changes = {key: value for key, value in classic.items() if value is not None} | parse_settings(settings)
    if model_type:
        if recipe:
            raise UsageError("--model-type chooses a recipe by its model; give it or --recipe, not both")
        recipe = _recipe_of_model(model_type)
    with showing():
        request = training_request(data, recipe, run, changes, resume, max_bad)
        summary = catalog.load("stage", "run")(**request)
    _print(summary)
    if json:
        from peregrine.stages.exporting import to_dict

        output.as_json({
            "run": summary.run,
            "report": summary.report,
            "training": summary.training,
            "evaluation": summary.evaluation,
            "exports": [to_dict(outcome) for outcome in summary.exports],
            "benchmark": summary.benchmark,
        })  # fmt: skip


def _recipe_of_model(model: str) -> str:
    """Classic model types name the recipe of the same name."""
    from peregrine.recipe import recipe_names

    known = [key.partition("/")[2] for key in catalog.CATALOG["model"] if key.startswith("tensorflow/")]
    if model not in known or model not in recipe_names():
        raise UsageError(f"--model-type is one of {', '.join(known)}; got {model!r}{suggestion(model, known)}")
    return model


def _print(summary: Any) -> None:
    training = summary.training
    output.line()
    output.line(
        f"Trained {training['model']} ({training['engine']}, {training['precision']}) for {training['epochs']} epochs "
        f"in {training['training_seconds']:.1f} s, {training['images_per_s']:,.0f} images/s."
    )
    print_evaluation(summary.evaluation)
    print_exports(summary.exports)
    print_benchmark(summary.benchmark)
    output.line(f"Report: {summary.report}")


def print_benchmark(result: dict[str, Any]) -> None:
    """The benchmark as a table, the fastest throughput first."""
    rows = sorted(result["rows"], key=lambda row: -row["throughput_per_s"])
    output.table(
        ["candidate", "precision", "threads", "latency p50 ms", "p99 ms", "images/s", "test split s", "MB"],
        [
            [
                row["candidate"],
                row["precision"],
                str(row["threads"]),
                f"{row['latency_ms_p50']:.2f}",
                f"{row['latency_ms_p99']:.2f}",
                f"{row['throughput_per_s']:,.0f}",
                f"{row['test_split_seconds']:.2f}",
                f"{row['size_bytes'] / 1e6:.1f}",
            ]
            for row in rows
        ],
        title=f"Benchmark: latency at batch 1, throughput at batch {result['throughput_batch']}",
    )
    for entry in result["skipped"]:
        output.line(f"{entry['candidate']} skipped: {entry['reason']}")
