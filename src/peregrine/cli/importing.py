"""`peregrine import`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing
from peregrine.cli.evaluate import print_evaluation

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine import model.onnx --classes cat,dog,falcon --scale 1/255 --data photos/\n\n"
    "peregrine import resnet.onnx --classes names.txt --scale 1/255 --mean 0.485,0.456,0.406 "
    "--std 0.229,0.224,0.225 --data photos/\n\n"
    "peregrine import model.keras --data cifar10 --run runs/mine\n\n"
    "peregrine import saved_model/ --classes cat,dog --scale 1/127.5 --mean 1 --size 224"
)
MOST_CLASS_BYTES = 10**7


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".onnx, .keras or .h5; or the folder of a SavedModel.")],
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME…|FILE",
            help="Classes in the order of the model's outputs, or a file with one on each line. Default: the data's.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SRC", help="Judge it on this data: cifar10, cifar100, digits, or a folder."),
    ] = None,
    scale: Annotated[
        str, typer.Option(metavar="X", help="What pixels 0 to 255 are multiplied with, such as 1/255.")
    ] = "1",
    mean: Annotated[
        str, typer.Option(metavar="X[,X,X]", help="Subtracted from scaled pixels, one number or one per channel.")
    ] = "0",
    std: Annotated[
        str, typer.Option(metavar="X[,X,X]", help="What the difference is divided by, one number or one per channel.")
    ] = "1",
    channels: Annotated[
        str, typer.Option(metavar="rgb|bgr", help="Order of the channels, also in --mean, --std.")
    ] = "rgb",
    layout: Annotated[
        str | None, typer.Option(metavar="NCHW|NHWC", help="Channels first or last. Default: as the file's shapes say.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Side of the images, for a model that takes any size.")
    ] = None,
    resize: Annotated[str, typer.Option(metavar="crop|pad", help="How images of other shapes become square.")] = "crop",
    outputs: Annotated[
        str | None,
        typer.Option(metavar="logits|probabilities", help="What the model gives. Default: as its answers look."),
    ] = None,
    run: options.Run = None,
    json: options.Json = False,
) -> None:
    """Import somebody's model into a run, with its preprocessing inside, so that every verb can take it.

    With --data it is asked about a few hundred validation images, also with other scales, orders of channels and of
    classes; what would fit much better is told. Then the test split is judged.
    """
    from peregrine.foreign.pixels import parse_number, parse_numbers

    with showing():
        artifact = catalog.load("stage", "import")(
            file,
            read_classes(classes) if classes else None,
            data=data,
            scale=parse_number(scale, "--scale"),
            mean=parse_numbers(mean, "--mean"),
            std=parse_numbers(std, "--std"),
            channels=channels.lower(),
            layout=layout.upper() if layout else None,
            size=size,
            resize=resize,
            outputs=outputs,
            run=run,
        )
    folder = artifact.path.parent.parent
    found, evaluation = _results(folder)
    _print(found, evaluation, artifact)
    if json:
        output.as_json({"run": folder, "artifact": artifact.path, **found, "evaluation": evaluation})


def read_classes(text: str) -> list[str]:
    """Names with commas between them, or the lines of a file.

    Raises:
        UsageError: a file that is no list of names.
    """
    from peregrine.errors import UsageError

    path = Path(text)
    if "," in text or not path.is_file():
        return [name.strip() for name in text.split(",")]
    if path.stat().st_size > MOST_CLASS_BYTES:
        raise UsageError(f"--classes names a file with one class on each line; {path} is too large for one")
    try:
        lines = path.read_text("utf-8-sig").splitlines()  # what Notepad saves may begin with a byte order mark
    except UnicodeDecodeError:
        raise UsageError(f"--classes names a text file with one class on each line; {path} is none in UTF-8") from None
    return [line.strip() for line in lines if line.strip()]


def _results(run: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    from peregrine.files import read_json
    from peregrine.rundir import RunDirectory

    results = RunDirectory(run).results
    judged = results / "inference_results.json"
    return read_json(results / "import.json"), read_json(judged) if judged.is_file() else None


def _print(found: dict[str, Any], evaluation: dict[str, Any] | None, artifact: Any) -> None:
    upgraded = found["notes"].get("upgraded_from_opset")
    how = f"opset {upgraded} upgraded to {found['notes']['opset']}, " if upgraded else ""
    seen = "gives" if found["found_out"] else "is said to give"
    output.line(
        f"Imported {found['file']} to {artifact.path}: {how}{found['layout']}, {found['size']}×{found['size']} pixels, "
        f"{found['options']}; it {seen} {found['outputs']}. The artifact answers as the file does with its "
        f"preprocessing by hand: largest |Δp| {found['largest_difference']:.1g}."
    )
    judged = found["validation"]
    if judged:
        low, high = judged["accuracy_interval"]
        output.line(
            f"Right on {output.percent(judged['accuracy'])} of {judged['images']:,} validation images (95% interval "
            f"{output.percent(low)} to {output.percent(high)}); whether it was trained on them is not known."
        )
    if evaluation:
        print_evaluation(evaluation)
