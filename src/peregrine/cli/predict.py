"""`peregrine predict`."""

import csv
import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from peregrine import catalog
from peregrine.cli import options, output
from peregrine.cli.display import showing
from peregrine.errors import CheckFailed, UsageError

EXAMPLES = (
    "[bold]Examples[/bold]\n\n"
    "peregrine predict runs/photos cat.jpg holiday/\n\n"
    "peregrine predict runs/photos holiday/ --csv > holiday.csv\n\n"
    "peregrine predict runs/photos --sample 9"
)


def command(
    target: options.Target,
    images: Annotated[list[Path] | None, typer.Argument(metavar="[IMAGE|FOLDER]…", help="Images to classify.")] = None,
    top: Annotated[int, typer.Option(help="Classes to tell per image.")] = 3,
    sample: Annotated[
        int | None, typer.Option(metavar="N", help="Classify N random test images instead, as a picture.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which random test images.")] = 0,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Where --sample draws.")] = None,
    data: options.OwnData = None,
    runtime: options.Runtime = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: file, class, probability, error, uncertain.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Classify images: class, probability and the runners-up."""
    if (sample is None) == (not images):
        raise UsageError("predict takes images or --sample N, one of them; see `peregrine predict --help`")
    if images and (data or picture or seed):
        raise UsageError("--data, --picture and --seed are of --sample N; leave them out, or the images")
    with showing():
        if sample is not None:
            rows, drawn = catalog.load("stage", "sample")(
                target, sample, top=top, data=data, seed=seed, picture=picture, runtime=runtime
            )
        else:
            rows, drawn = catalog.load("stage", "predict")(target, images, top=top, runtime=runtime), None
    if as_csv:
        _print_csv(rows)
    elif not json:
        _print_table(rows)
    if json:
        output.as_json({"predictions": rows, **({"picture": drawn} if drawn else {})})
    elif drawn and not as_csv:
        output.line(f"Picture: {drawn}")
    bad = [row["file"] for row in rows if "error" in row]
    if bad:
        raise CheckFailed(f"{len(bad)} of {len(rows)} files have no answer, the first is {bad[0]}")


def _print_table(rows: list[dict[str, Any]]) -> None:
    truth = "true" in rows[0]
    output.table(
        ["file", *(["true"] if truth else []), "class", "probability", "runners-up"],
        [
            [row["file"], *(["–"] if truth else []), "no answer", "–", row["error"]] if "error" in row else
            [
                row["file"],
                *([row["true"]] if truth else []),
                row["class"],
                output.percent(row["probability"]) + (" uncertain" if row["uncertain"] else ""),
                ", ".join(f"{name} {output.percent(share)}" for name, share in row["top"][1:]),
            ]
            for row in rows
        ],
    )  # fmt: skip


def _print_csv(rows: list[dict[str, Any]]) -> None:
    columns = ["file", *(["true"] if rows and "true" in rows[0] else []), "class", "probability", "error", "uncertain"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file's name, byte by byte, may be no UTF-8
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
