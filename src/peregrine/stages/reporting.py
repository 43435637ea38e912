"""The report of a run: one HTML file that opens offline, made from the run's result files alone.

Every name on the page (of files, classes, machines) may be hostile: the template escapes all of them, and the page's
content security policy lets nothing run and nothing be loaded, apart from its own style and pictures.
"""

import base64
import functools
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from peregrine import __version__, files
from peregrine.rundir import RunDirectory, now
from peregrine.stages import wording

ENGINES = {"tensorflow": "TensorFlow", "pytorch": "PyTorch"}
TRAINED = "trained"  # the verdict of the ancestor itself, which needs no proof
VERDICTS = {  # by how much they are worth: symbol, word
    "passed": ("✓", "passed"),
    TRAINED: ("✓", "trained model"),
    "inconclusive": ("?", "inconclusive"),
    "unproved": ("–", "not proved"),
    "failed": ("✗", "failed"),
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Picture:
    """A PNG of the run, inside the page; its title and description are what the plot wrote into the file."""

    uri: str
    width: int
    height: int
    title: str
    description: str


def report(run: RunDirectory | str | Path) -> Path:
    """Write the run's `report.html` and return its path.

    What has not been done yet is named, with the command that does it.

    Raises:
        UsageError: there is no run.
        DamagedFile: a result file is not JSON; the message names it.
    """
    directory = run if isinstance(run, RunDirectory) else RunDirectory.open(run)
    page = _environment().get_template("report.html.j2").render(_content(directory))
    files.write_text(directory.report_path, page)
    return directory.report_path


def _content(run: RunDirectory) -> dict[str, Any]:
    """All that the template shows, as plain values; None where a result is missing."""
    about = run.read() if (run.path / "run.json").is_file() else {}
    training = _read(run.results / "training_summary.json")
    evaluation = _read(run.results / "inference_results.json")
    parity = _read(run.results / "parity.json")
    benchmark = _read(run.results / "benchmark.json")
    verdicts = _verdicts(evaluation, parity, benchmark)
    path = shlex.quote(str(run.path))
    return {
        "name": about.get("name", run.path.name),
        "about": about,
        "skipped": about.get("skipped", []),
        "written": now(),
        "version": __version__,
        "training": training,
        "imported": _read(run.results / "import.json"),
        "history": _read(run.results / "training_history.json"),
        "evaluation": evaluation,
        "mistakes": _frequent_mistakes(evaluation) if evaluation else [],
        "parity": parity,
        "benchmark": benchmark,
        "verdicts": verdicts,
        "fastest": _fastest(benchmark["rows"] if benchmark else [], verdicts),
        "pictures": {file.stem: _picture(file) for file in run.results.glob("*.png")},
        "recipe": run.recipe_path.read_text("utf-8") if run.recipe_path.is_file() else None,
        "commands": _commands(about.get("verbs", [])),
        "repeat": _repeat(run, about),
        "todo": {
            "train": f"peregrine train --resume --run {path}",
            "evaluate": f"peregrine evaluate {path}",
            "export": f"peregrine export {path} --to all",
            "benchmark": f"peregrine benchmark {path}",
        },
    }


def _read(path: Path) -> Any:
    return files.read_json(path) if path.is_file() else None


def _picture(path: Path) -> Picture | None:
    """A picture with its words; None for a file that is no PNG, which the page then calls missing."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            words = {key: str(image.info.get(key, "")) for key in ("Title", "Description")}
            width, height = image.size
    except (OSError, ValueError, SyntaxError):
        return None
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    return Picture(uri, width, height, words["Title"] or path.stem.replace("_", " "), words["Description"])


def _verdicts(evaluation: Row | None, parity: Row | None, benchmark: Row | None) -> dict[str, str]:
    """Every Candidate's verdict, by its key."""
    verdicts = {row["candidate"]: "unproved" for row in (benchmark or {"rows": []})["rows"]}
    if evaluation and evaluation["candidate"] in verdicts:
        # A run's evaluation judges its trained model; other ways to run that need a proof, as of an imported ONNX file.
        verdicts[evaluation["candidate"]] = TRAINED
    return verdicts | {row["candidate"]: row["verdict"] for row in (parity or {"rows": []})["rows"]}


def _fastest(rows: Sequence[Row], verdicts: Mapping[str, str]) -> Row | None:
    """The benchmark row with the highest throughput among the Candidates whose verdict is worth most."""
    worth = {"passed": 2, TRAINED: 2, "inconclusive": 1, "unproved": 0}
    sound = [row for row in rows if verdicts[row["candidate"]] in worth]
    return max(sound, key=lambda row: (worth[verdicts[row["candidate"]]], row["throughput_per_s"]), default=None)


def _frequent_mistakes(evaluation: Row) -> list[dict[str, Any]]:
    """The ten largest cells of the confusion matrix beside its diagonal."""
    names = list(evaluation["per_class"])
    cells = [
        {"true": names[row], "predicted": names[column], "images": images, "share": images / sum(counts)}
        for row, counts in enumerate(evaluation["confusion_matrix"])
        for column, images in enumerate(counts)
        if images and row != column
    ]
    return sorted(cells, key=lambda cell: (-cell["images"], -cell["share"]))[:10]


def _commands(verbs: Sequence[Row]) -> list[dict[str, Any]]:
    """The verbs of the run, those of one command together."""
    commands: list[dict[str, Any]] = []
    for verb in verbs:
        if not commands or commands[-1]["command"] != verb["command"]:
            commands.append({"command": verb["command"], "started": verb["started"], "verbs": []})
        commands[-1]["verbs"].append(verb)
    return commands


def _repeat(run: RunDirectory, about: Row) -> str | None:
    """The command that trains and measures the same again, where the data has a name."""
    source = about.get("data", {}).get("source", "memory")
    if source == "memory" or about.get("imported"):
        return None
    return shlex.join(["peregrine", "run", "--data", source, "--recipe", str(run.recipe_path)])


@functools.cache
def _environment() -> Environment:
    """Templates beside this file; a name that is missing in a template is an error, not a gap on the page."""
    style = _template("report.css")
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        percent=wording.percent,
        number=wording.number,
        duration=wording.duration,
        size=wording.size,
        count=wording.count,
        are=wording.are,
        power=_power,
        points=_points,
        when=_when,
    )
    environment.globals.update(
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        engines=ENGINES,
        verdict_words=VERDICTS,
    )
    return environment


def _template(name: str) -> str:
    return (resources.files("peregrine.stages") / "templates" / name).read_text("utf-8")


def _power(value: float) -> str:
    """A difference of probabilities: `0.0123`, `2.4 × 10⁻⁷`."""
    if value == 0 or value >= 0.001:
        return f"{value:.4f}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def _points(value: float) -> str:
    """A change in percentage points with its sign: `+0.07`, `−0.12`, `0.00`."""
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")


def _when(timestamp: str) -> str:
    """`2026-11-21 10:15 UTC` of `2026-11-21T10:15:00Z`."""
    return f"{timestamp[:10]} {timestamp[11:16]} UTC"
