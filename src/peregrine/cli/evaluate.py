"""`peregrine evaluate`."""

from typing import Annotated, Any

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine evaluate runs/photos\n\n"
    "peregrine evaluate runs/photos/artifacts/onnx --data more-photos/ --json"
)


def command(
    target: options.Target,
    data: options.OwnData = None,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    runtime: options.Runtime = None,
    json: options.Json = False,
) -> None:
    """Judge a model: accuracy with its interval, per class, confusion matrix, calibration."""
    with showing():
        result = catalog.load("stage", "evaluate")(target, data=data, split=split, runtime=runtime)
    print_evaluation(result)
    rows = [
        [name, output.percent(row["precision"]), output.percent(row["recall"]), output.percent(row["f1"]),
         f"{row['images']:,}"]
        for name, row in result["per_class"].items()
    ]  # fmt: skip
    output.table(["class", "precision", "recall", "F1", "images"], rows)
    if json:
        output.as_json(result)


def print_evaluation(result: dict[str, Any]) -> None:
    """The figures in one line."""
    low, high = result["accuracy_interval"]
    output.line(
        f"Accuracy on {result['images']:,} {result['split']} images: {output.percent(result['accuracy'])} "
        f"(95% interval {output.percent(low)} to {output.percent(high)}), top-3 "
        f"{output.percent(result['top3_accuracy'])}, macro F1 {output.percent(result['macro_f1'])}, "
        f"calibration error {output.percent(result['ece'])}."
    )
