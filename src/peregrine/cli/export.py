"""`peregrine export`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine export runs/photos --to onnx\n\n"
    "peregrine export runs/photos --to onnx-int8,openvino-int8\n\n"
    "peregrine export runs/photos --to all\n\n"
    "peregrine export runs/photos --to onnx,tensorrt --batch 8\n\n"
    "peregrine export runs/photos --to onnx --triton models"
)  # fmt: skip


def command(
    target: options.Target,
    to: Annotated[str, typer.Option(metavar="FORMAT[,FORMAT…]|all", help="Formats of `peregrine formats`.")] = "all",
    data: options.MovedData = None,
    triton: Annotated[
        Path | None,
        typer.Option(
            "--triton",
            metavar="DIR",
            help="Also write what was proved into a Triton model repository: ONNX, OpenVINO, TensorRT.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Name the first layer of an ONNX or Keras file that diverges, where a proof fails."
        ),
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            min=1,
            metavar="N",
            help="Models that take exactly N images at once, beside those that take any: ONNX, OpenVINO, TensorRT.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Convert a trained model, prove on the whole test split that it still predicts the same, write the artifact.

    INT8 is calibrated with training images, and its settings are chosen on the validation split.
    """
    formats = "all" if to == "all" else [name.strip() for name in to.split(",") if name.strip()]
    with showing():
        outcomes = catalog.load("stage", "export")(
            target, formats, data=data, triton=triton, explain=explain, batch=batch
        )
    from peregrine.stages.outcomes import refuse, to_dict

    print_exports(outcomes)
    if json:
        output.as_json({"exports": [to_dict(outcome) for outcome in outcomes]})
    refuse(outcomes, everything=formats == "all")  # after what did succeed


def print_exports(outcomes: Sequence[Any]) -> None:
    """One row per Candidate, and a line for each format that was left out."""
    rows = [
        [
            row["candidate"],
            row["verdict"],
            output.percent(row["agreement"]),
            f"{row['max_difference']:.2g}",
            output.percent(row["accuracy"]),
            f"{row['images']:,}",
        ]
        for outcome in outcomes
        for row in outcome.parity
    ]
    if rows:
        columns = ["candidate", "parity", "agreement", "largest |Δp|", "accuracy", "images"]
        output.table(columns, rows, title="Exports, compared with the trained model")
    for outcome in outcomes:
        if outcome.status != "proved":
            output.line(f"{outcome.name} {outcome.status}: {outcome.reason}")
        if outcome.triton:
            output.line(f"Triton serves {outcome.name} from {outcome.triton}")
