"""`peregrine data fetch|check|prepare|stats|export`."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing
from peregrine.cli.train import parse_share
from peregrine.errors import CheckFailed

app = typer.Typer(
    no_args_is_help=True,
    help="Get, examine, prepare and convert data.",
    epilog="SRC is cifar10, cifar100 or digits; hf://owner/name on the Hugging Face hub; a .csv file of paths and "
    "labels; .parquet files or WebDataset's .tar files: one, a folder of them, or a pattern in quotes; or a folder "
    "with CIFAR batches (binary or Python), with train/ and test/ of a folder per class, or with a folder per class. "
    "PEREGRINE_DATA names a folder in which cifar10 and cifar100 are looked for before they are downloaded.",
)

Source = Annotated[
    str, typer.Argument(metavar="SRC", help="A name, hf://owner/name, a folder or a file; see peregrine data --help.")
]
Size = Annotated[int | None, typer.Option(help="Side of the square images in pixels. Default: the data's own.")]
Resize = Annotated[str, typer.Option(help="How other shapes become square: crop or pad.")]


@app.command(epilog="[bold]Example[/bold]\n\nperegrine data fetch cifar10")
def fetch(source: Source, json: options.Json = False) -> None:
    """Make sure that the data is on this machine, whole; download it where it is not."""
    with showing():
        folder = catalog.load("stage", "fetch")(source)
    output.line(str(folder) if folder else f"{source} comes with a library; nothing to fetch")
    if json:
        output.as_json({"source": source, "folder": folder})


@app.command(epilog="[bold]Example[/bold]\n\nperegrine data check photos/ --strict")
def check(
    source: Source,
    max_bad: options.MaxBad = "100%",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when there is an error.")] = False,
    json: options.Json = False,
) -> None:
    """Look for what spoils training: unreadable files, copies across splits, conflicting labels, missing classes."""
    from peregrine.data.base import Options

    with showing():
        findings = catalog.load("stage", "check")(source, Options(max_bad=parse_share(max_bad)))
    if findings:
        output.table(["rule", "level", "finding"], [[found.rule, found.level, found.message] for found in findings])
    else:
        output.line(f"{source}: nothing found")
    if json:
        output.as_json({"source": source, "findings": [vars(found) for found in findings]})
    errors = [found for found in findings if found.level == "error"]
    if strict and errors:
        raise CheckFailed(f"{source} has {len(errors)} errors, the first: {errors[0].message}")


@app.command(epilog="[bold]Example[/bold]\n\nperegrine data prepare photos/ --size 64")
def prepare(
    source: Source,
    size: Size = None,
    resize: Resize = "crop",
    max_bad: options.MaxBad = "1%",
    json: options.Json = False,
) -> None:
    """Decode and resize the images once, into the cache, so that training starts at once."""
    result = _statistics(source, size, resize, max_bad)
    counts = ", ".join(f"{part['images']:,} {name}" for name, part in result["splits"].items())
    output.line(f"{source} is ready: {counts} images of {result['width']}×{result['height']} pixels")
    for note in result["notes"]:
        output.line(note)
    if json:
        output.as_json(result)


@app.command(epilog="[bold]Example[/bold]\n\nperegrine data stats cifar10 --json")
def stats(
    source: Source,
    size: Size = None,
    resize: Resize = "crop",
    max_bad: options.MaxBad = "1%",
    json: options.Json = False,
) -> None:
    """Tell sizes, classes, colours and the fingerprint."""
    result = _statistics(source, size, resize, max_bad)
    parts = result["splits"]
    rows = [[name, *(f"{part['per_class'][name]:,}" for part in parts.values())] for name in result["classes"]]
    rows.append(["all", *(f"{part['images']:,}" for part in parts.values())])
    output.table(["class", *parts], rows, title=f"{source}: {result['width']}×{result['height']} pixels")
    if original := result.get("original"):
        low, middle, high = (
            f"{original['width'][name]:g}×{original['height'][name]:g}" for name in ("smallest", "median", "largest")
        )
        output.line(f"sizes of the files: {low} to {high} pixels, median {middle}, {original['different']:,} different")
    balance = ", ".join(f"{part['balance']:.2f} in {name}" for name, part in parts.items())
    output.line(f"balance, the smallest class over the largest: {balance}")
    for name in ("mean", "std"):
        output.line(f"{name} of red, green, blue (0 to 1): {', '.join(f'{value:.4f}' for value in result[name])}")
    for name, part in parts.items():
        output.line(f"fingerprint of {name}: {part['fingerprint']}")
    for note in result["notes"]:
        output.line(note)
    if json:
        output.as_json(result)


@app.command(epilog="[bold]Example[/bold]\n\nperegrine data export photos/ --to parquet photos-parquet/")
def export(
    source: Source,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A new folder.")],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="parquet, folder or webdataset.")],
    size: Annotated[
        int | None, typer.Option(help="Side of the square images in pixels. Default: the files as they are.")
    ] = None,
    resize: Resize = "crop",
    max_bad: options.MaxBad = "1%",
    json: options.Json = False,
) -> None:
    """Write data in another format, with the same images: for the Hugging Face hub, or for other tools."""
    with showing():
        asked = _options(size, resize, max_bad)
        result: dict[str, Any] = catalog.load("stage", "export-data")(source, to, destination, asked)
    counts = ", ".join(f"{count:,} {name}" for name, count in result["images"].items())
    output.line(f"{result['folder']} holds {counts} images of {len(result['classes'])} classes as {to}")
    for note in result["notes"]:
        output.line(note)
    if json:
        output.as_json(result)


def _statistics(source: str, size: int | None, resize: str, max_bad: str) -> dict[str, Any]:
    with showing():
        statistics: dict[str, Any] = catalog.load("stage", "statistics")(source, _options(size, resize, max_bad))
    return statistics


def _options(size: int | None, resize: str, max_bad: str) -> Any:
    from peregrine.data.base import Options, Resize

    return Options(size, cast(Resize, resize), parse_share(max_bad))
