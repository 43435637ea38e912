"""`peregrine data fetch|check|prepare|stats|export`."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing
from peregrine.cli.train import parse_share
from peregrine.errors import CheckFailed, UsageError

SHOWN = 3  # cases of each finding, and images of each case, on the terminal

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


@app.command(
    epilog="[bold]Examples[/bold]\n\nperegrine data check photos/ --html check.html --csv findings.csv\n\n"
    "peregrine data check photos/ --strict --only unreadable,leakage"
)
def check(
    source: Source,
    only: Annotated[
        str | None,
        typer.Option(metavar="ID,ID", help="Look for these alone; ids as in the table of docs/data-check.md."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with pictures of what was found.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all cases; `data prepare --exclude` takes this file.")
    ] = None,
    max_bad: options.MaxBad = "100%",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when there is an error.")] = False,
    json: options.Json = False,
) -> None:
    """Look for what spoils training: bad files, copies across splits, wrong labels, missing classes."""
    from peregrine.data.base import Options

    names = [name.strip() for name in (only or "").split(",") if name.strip()]
    if only is not None and not names:
        raise UsageError(f"--only takes ids of checks, as in leakage,conflict; got {only!r}")
    with showing():
        report = catalog.load("stage", "check")(source, Options(max_bad=parse_share(max_bad)), names)
        if csv:
            catalog.load("stage", "check-table")(report.findings, csv)
        if html:
            catalog.load("stage", "check-page")(report, html)
    _print_findings(report)
    for kind, file in (("Table", csv), ("Page", html)):
        if file:
            output.line(f"{kind}: {file}")
    if json:
        output.as_json(report.to_dict() | {"csv": csv, "html": html})
    errors = [found for found in report.findings if found.rule.level == "error"]
    if strict and errors:
        more = f"; and {len(errors) - 1} more errors" if len(errors) > 1 else ""
        raise CheckFailed(f"{source} is not sound: {errors[0].rule.id}: {errors[0].message}{more}")


def _print_findings(report: Any) -> None:
    """A table of findings, then the first cases of each."""
    if report.findings:
        rows = [[found.rule.id, found.rule.level, f"{len(found.cases):,}", found.message] for found in report.findings]
        output.table(["check", "level", "cases", "finding"], rows)
    else:
        output.line(f"{report.source}: nothing found")
    for found in report.findings:
        output.line(f"{found.rule.title}:")
        for case in found.cases[:SHOWN]:
            output.line(f"  {_case(case, ' ≈ ' if found.rule.id.startswith('near') else ' = ')}")
        if len(found.cases) > SHOWN:
            output.line(f"  and {len(found.cases) - SHOWN:,} more; --csv FILE lists all, --html FILE shows pictures")
    for rule, reason in report.left_out.items():
        output.line(f"{rule} was left out: {reason}")


def _case(case: Any, between: str) -> str:
    images = [
        f"{member.id} ({member.class_name})" if member.id and member.class_name else member.id or member.class_name
        for member in case.members[:SHOWN]
    ]
    if len(case.members) > SHOWN:
        images.append(f"{len(case.members) - SHOWN:,} more")
    return ": ".join(part for part in (between.join(images), case.detail) if part)


@app.command(
    epilog="[bold]Examples[/bold]\n\nperegrine data prepare photos/ --size 64\n\n"
    "peregrine data prepare photos/ --exclude findings.csv"
)
def prepare(
    source: Source,
    size: Size = None,
    resize: Resize = "crop",
    max_bad: options.MaxBad = "1%",
    exclude: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|none",
            help="Leave out what a file of `data check --csv` marks, now and in all later use; none takes it back.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Decode and resize the images once, into the cache, so that training starts at once."""
    if exclude is not None:
        with showing():
            catalog.load("stage", "exclude")(source, exclude)
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
