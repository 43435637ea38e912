"""`peregrine compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing
from peregrine.stages.wording import duration, points

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine compare runs/before runs/after\n\n"
    "peregrine compare runs/a runs/b runs/c --split validation\n\n"
    "peregrine compare runs/photos runs/photos/artifacts/onnx-int8 --data new-photos/\n\n"
    "peregrine compare runs/before runs/after --picture changes.png --json"
)
SHOWN_CLASSES = 12  # of more, those that change most


def command(
    targets: Annotated[
        list[str], typer.Argument(metavar="RUN|ARTIFACT", help="Two or more; the others are compared with the first.")
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="SRC", help="Compare on this data instead of the runs' own: its test split, or all of it."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw what changes per class between two models, as PNG.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare models on the same images: accuracy with a paired interval and McNemar's test, classes, images, cost."""
    with showing():
        result = catalog.load("stage", "compare")(targets, data=data, split=split, picture=picture)
    _print_accuracy(result)
    _print_cost(result)
    for comparison in result["comparisons"]:
        _print_comparison(comparison)
    for warning in result["warnings"]:
        output.line(f"Note: {warning}.")
    if picture:
        output.line(f"Picture: {picture}")
    if json:
        output.as_json({**result, **({"picture": picture} if picture else {})})


def _print_accuracy(result: dict[str, Any]) -> None:
    comparisons = [None, *result["comparisons"]]
    output.table(
        ["model", "accuracy", "95% interval", "difference", "95% interval", "McNemar's p", "verdict"],
        [
            [
                model["name"],
                output.percent(model["accuracy"]),
                " to ".join(output.percent(end) for end in model["accuracy_interval"]),
                *(_differences(comparison) if comparison else ["–", "–", "–", "the reference"]),
            ]
            for model, comparison in zip(result["models"], comparisons, strict=True)
        ],
        title=f"Accuracy on the same {result['images']:,} {result['split']} images; differences in points",
    )


def _differences(comparison: dict[str, Any]) -> list[str]:
    p = comparison["mcnemar_p"]
    return [
        points(comparison["difference_points"]),
        " to ".join(map(points, comparison["difference_interval"])),
        "< 0.0001" if p < 0.0001 else f"{p:.4f}",
        comparison["verdict"],
    ]


def _print_cost(result: dict[str, Any]) -> None:
    rows = []
    for model in result["models"]:
        training, fastest = model["training"], model["fastest"]
        rows.append([
            model["name"],
            f"{model['model'] or 'a model'} ({model['engine']})",
            model["recipe"] or "–",
            str(training["epochs"]) if training else "–",
            duration(training["training_seconds"]) if training else "–",
            f"{model['size_bytes'] / 1e6:.1f}",
            f"{fastest['throughput_per_s']:,.0f} ({fastest['candidate']})" if fastest else "–",
        ])  # fmt: skip
    output.table(["model", "network", "recipe", "epochs", "training", "MB", "images/s, at most"], rows)
    machines = {model["training"]["machine"] for model in result["models"] if model["training"]}
    if len(machines) == 1:  # where there are more, a note tells which is whose
        output.line(f"Trained on {machines.pop() or 'an unknown machine'}.")


def _print_comparison(comparison: dict[str, Any]) -> None:
    reference, model = comparison["reference"], comparison["model"]
    changed = [row for row in comparison["per_class"] if row["gained"] or row["lost"]]
    shown = changed[:SHOWN_CLASSES]
    if shown:
        left_out = f", the {len(shown)} largest of {len(changed)}" if len(changed) > len(shown) else ""
        output.table(
            ["class", reference, model, "change", "95% interval", "gained", "lost", "images"],
            [
                [
                    row["class"],
                    output.percent(row["reference_accuracy"]),
                    output.percent(row["accuracy"]),
                    points(row["difference_points"]),
                    " to ".join(map(points, row["difference_interval"])),
                    f"{row['gained']:,}",
                    f"{row['lost']:,}",
                    f"{row['images']:,}",
                ]
                for row in shown
            ],
            title=f"Accuracy per class{left_out}",
        )
    output.line(
        f"{reference} and {model} say the same of {output.percent(comparison['agreement'])} of the images; both are "
        f"right on {comparison['both_right']:,} and wrong on {comparison['both_wrong']:,}."
    )
    for name, only in ((reference, "only_reference_right"), (model, "only_model_right")):
        _print_only(name, comparison[only])


def _print_only(name: str, only: dict[str, Any]) -> None:
    """How many images this model alone gets right, and those where the two differ most."""
    examples = ", ".join(
        f"{row['id']} ({row['true']} {output.percent(row['probability'])}, not {row['other_says'] or 'nothing'} "
        f"{output.percent(row['other_probability'])})"
        for row in only["examples"]
    )
    output.line(f"Only {name} is right: {only['images']:,} images{f', first {examples}' if examples else ''}.")
