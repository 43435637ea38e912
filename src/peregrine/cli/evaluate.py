"""`peregrine evaluate`."""

from typing import Annotated, Any

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine evaluate runs/photos\n\n"
    "peregrine evaluate runs/photos/artifacts/onnx --data more-photos/ --json\n\n"
    "peregrine evaluate runs/photos --tta full --tta-share 0.25"
)


def command(
    target: options.Target,
    data: options.OwnData = None,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    runtime: options.Runtime = None,
    tta: Annotated[
        str,
        typer.Option(
            metavar="none|flip|full",
            help="Test-time augmentation: also look at the mirror image (flip), and at both shifted by a pixel (full).",
        ),
    ] = "none",
    tta_share: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the images that --tta looks at: the least certain ones.")
    ] = 1.0,
    json: options.Json = False,
) -> None:
    """Judge a model: accuracy with its interval, per class, confusion matrix, calibration."""
    with showing():
        result = catalog.load("stage", "evaluate")(
            target, data=data, split=split, runtime=runtime, tta=tta, tta_share=tta_share
        )
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
    if result["tta"] != "none":
        output.line(
            f"With test-time augmentation {result['tta']} of {_part(result['tta_share'])}; without it "
            f"{output.percent(result['without_tta']['accuracy'])}."
        )


def _part(share: float) -> str:
    return "all images" if share == 1 else f"the least certain {output.percent(share)} of the images"
