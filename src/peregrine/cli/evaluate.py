"""`peregrine evaluate`."""

from typing import Annotated, Any

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing
from peregrine.cli.train import parse_share

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine evaluate runs/photos\n\n"
    "peregrine evaluate runs/photos/artifacts/onnx --data more-photos/ --json\n\n"
    "peregrine evaluate runs/photos --tta full --tta-share 25%\n\n"
    "peregrine evaluate runs/photos --target-accuracy 99% --robustness"
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
        str,
        typer.Option(metavar="SHARE", help="Share of the images that --tta looks at, as 25%: the least certain ones."),
    ] = "100%",
    target_accuracy: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Accuracy that the reject threshold should reach on validation, as 99%. Default: half the error.",
        ),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also judge it under 15 corruptions at 5 severities.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Judge a model: accuracy with its interval, per class, confusion matrix, calibration, when to trust it."""
    looked_at = parse_share(tta_share, "--tta-share", "25% or 0.25")
    wanted = parse_share(target_accuracy, "--target-accuracy", "99% or 0.99") if target_accuracy is not None else None
    with showing():
        result = catalog.load("stage", "evaluate")(
            target,
            data=data,
            split=split,
            runtime=runtime,
            tta=tta,
            tta_share=looked_at,
            target_accuracy=wanted,
            robustness=robustness,
        )
    print_evaluation(result)
    rows = [
        [name, output.percent(row["precision"]), output.percent(row["recall"]), output.percent(row["f1"]),
         f"{row['images']:,}"]
        for name, row in result["per_class"].items()
    ]  # fmt: skip
    macro = [output.percent(result[f"macro_{kind}"]) for kind in ("precision", "recall", "f1")]
    output.table(["class", "precision", "recall", "F1", "images"], [*rows, ["(mean)", *macro, f"{result['images']:,}"]])
    if robustness:
        _print_robustness(result["robustness"])
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
    if result["reject"]:
        output.line(_rejecting(result["reject"]))
    if "robustness" in result:
        found = result["robustness"]
        output.line(
            f"Mean corruption error {output.percent(found['mean_corruption_error'])} on {found['images']:,} images; "
            f"without corruption {output.percent(found['clean_error'])}."
        )


def _rejecting(reject: dict[str, Any]) -> str:
    threshold, target = reject["threshold"], output.percent(reject["target_accuracy"])
    if threshold == 0:
        return f"All answers together reach {target} on validation: none is rejected."
    kept, right = output.percent(reject["coverage"]), output.percent(reject["accuracy"])
    return (
        f"Answers of {output.percent(threshold)} confidence or more: {kept} of the images, {right} of them right; "
        f"the threshold was chosen on validation, for {target}."
    )


def _print_robustness(found: dict[str, Any]) -> None:
    rows = [
        [name, *(output.percent(error) for error in errors), output.percent(sum(errors) / len(errors))]
        for name, errors in found["corruptions"].items()
    ]
    columns = ["corruption", *(f"severity {number}" for number in (1, 2, 3, 4, 5)), "mean"]
    output.table(columns, rows, title=f"Error under corruptions, as strong as in {found['settings']}")


def _part(share: float) -> str:
    return "all images" if share == 1 else f"the least certain {output.percent(share)} of the images"
