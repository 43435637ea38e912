"""All that the page and the model card show, as plain values, from the run's result files alone."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from peregrine import __version__, files, metrics
from peregrine.rundir import RunDirectory, now
from peregrine.stages import wording
from peregrine.stages.reporting import curves, pictures, speed
from peregrine.stages.reporting.charts import Chart

COUNTED_CLASSES = 20  # up to so many the confusion matrix is a table, for more a picture
TRAINED_FORMATS = {"tensorflow": "keras", "pytorch": "torch"}  # by engine
SHADES = 9  # steps of colour in a table

Row = Mapping[str, Any]


def gather(run: RunDirectory) -> dict[str, Any]:
    """What the templates show; None where a result is missing.

    Raises:
        DamagedFile: a result file is not JSON; the message names it.
    """
    about = run.read() if (run.path / "run.json").is_file() else {}
    training = _read(run, "training_summary")
    evaluation = _read(run, "inference_results")
    parity = _read(run, "parity")
    benchmark = _read(run, "benchmark")
    ids = {path.parent.name: path.read_text("utf-8").strip() for path in run.artifacts_folder.glob("*/manifest.sha256")}
    best = _chosen(run)
    outdated = best is not None and speed.outdated(best, ids)  # `predict` does not follow it either
    best = None if outdated else best
    live = None if training else _read(run, "live")
    imported = _read(run, "import")
    trained = TRAINED_FORMATS[training["engine"]] if training else (imported or {}).get("format", "")
    verdicts = speed.verdicts_of(trained, parity, benchmark)
    rows = speed.measured(benchmark, verdicts, evaluation, parity, ids) if benchmark else []
    chosen = best["candidate"] if best else None
    skipped = about.get("skipped", [])
    return {
        "name": about.get("name", run.path.name),
        "about": about,
        "skipped": skipped,
        "splits": _splits(about.get("data", {})),
        "written": now(),
        "version": __version__,
        "training": training,
        "live": live,
        "killed": live is not None and live["status"] == "training" and run.overview()["status"].endswith(": killed"),
        "curves": _curves(run, training, live),
        "imported": imported,
        "trained_format": trained,
        "evaluation": evaluation,
        **_evaluated(evaluation),
        "augmented": _augmented(run, about),
        "parity": parity,
        "benchmark": benchmark,
        "rows": rows,
        "choices": _choices(rows),
        "timed": speed.timed_answers(rows),
        "refused": speed.refused(benchmark),
        "verdicts": verdicts,
        "fastest": speed.fastest([row for row in rows if not row["outdated"]], verdicts),
        "best": best,
        "outdated": outdated,
        "limits": _limits(best) if best else [],
        "best_row": next((row for row in rows if row["candidate"] == chosen), None),
        "fronts": speed.pareto(rows, (benchmark or {}).get("pareto", {}), chosen),
        "sweep": speed.sweep((benchmark or {}).get("sweep", [])),
        "pictures": pictures.find(run.results),
        "recipe": run.recipe_path.read_text("utf-8") if run.recipe_path.is_file() else None,
        "commands": _commands(about.get("verbs", [])),
        "repeat": _repeat(run, about),
        "todo": _todo(run),
    }


def _read(run: RunDirectory, name: str) -> Any:
    path = run.results / f"{name}.json"
    return files.read_json(path) if path.is_file() else None


def _chosen(run: RunDirectory) -> Any:
    """The content of best.json, unless it says that nothing was within the limits."""
    best = _read(run, "best")
    return best if best and best["candidate"] else None


def _splits(data: Row) -> dict[str, int]:
    """The images of each split. The test split is no validation split, where the recipe watches the training on it."""
    images, prints = dict(data.get("images", {})), data.get("fingerprints", {})
    if "validation" in prints and prints["validation"] == prints.get("test"):
        images.pop("validation", None)
    return images


def _todo(run: RunDirectory) -> dict[str, str]:
    """The command that makes each part."""
    path = shlex.quote(str(run.path))
    return {
        "train": f"peregrine train --resume --run {path}",
        "evaluate": f"peregrine evaluate {path}",
        "robustness": f"peregrine evaluate {path} --robustness",
        "augmented": f"peregrine evaluate {path} --tta full",
        "export": f"peregrine export {path} --to all",
        "benchmark": f"peregrine benchmark {path}",
        "best": f"peregrine best {path}",
    }


# ---- training ------------------------------------------------------------------------------------------------------


def _curves(run: RunDirectory, training: Row | None, live: Row | None) -> list[Chart]:
    """The charts of a training, also of one that goes on."""
    rows = live["history"] if live else _read(run, "training_history") if training else None
    told = live or training
    if not rows or told is None:
        return []
    validation = told.get("validation")
    judged = rows[-1].get("val_accuracy") is not None
    judged_on = ("test" if validation == "test" else "validation") if judged else ""
    return curves.training(rows, told.get("best_epoch"), judged_on, goes_on=live is not None)


# ---- evaluation ----------------------------------------------------------------------------------------------------


def _evaluated(evaluation: Row | None) -> dict[str, Any]:
    """What follows from the evaluation; None of each where there is none."""
    makers = {
        "confusion": _confusion,
        "classes": _classes,
        "mistakes": _frequent_mistakes,
        "calibration": _calibration,
        "coverage": _coverage,
        "reject": _reject,
        "corruptions": _corruptions,
    }
    return {name: make(evaluation) if evaluation else None for name, make in makers.items()}


def _confusion(evaluation: Row) -> list[dict[str, Any]] | None:
    """The confusion matrix with the shade of each cell; None for more classes than a table can show.

    Mistakes have shades of their own: on those of the right answers they would all look white.
    """
    matrix, names = evaluation["confusion_matrix"], list(evaluation["per_class"])
    if len(names) > COUNTED_CLASSES:
        return None
    shares = [[count / max(sum(counts), 1) for count in counts] for counts in matrix]
    off = [share for row, line in enumerate(shares) for column, share in enumerate(line) if row != column]
    most = max(off, default=0.0) or 1.0

    def shade(row: int, column: int) -> str:
        share = shares[row][column]
        step = _shade(share if row == column else share / most)
        return "" if not share else f"{'good' if row == column else 'bad'}-{step}"

    return [
        {
            "name": name,
            "cells": [
                {"images": count, "share": shares[row][column], "shade": shade(row, column), "right": row == column}
                for column, count in enumerate(matrix[row])
            ],
        }
        for row, name in enumerate(names)
    ]


def _shade(share: float) -> int:
    """1 to `SHADES`."""
    return min(SHADES, 1 + int(share * SHADES))


def _classes(evaluation: Row) -> list[dict[str, Any]]:
    """Each class's figures with the 95% interval of its recall, the weakest first; those without images last."""
    rows = []
    for name, figures in evaluation["per_class"].items():
        images = figures["images"]
        interval = metrics.wilson_interval(round(figures["recall"] * images), images) if images else None
        rows.append({"name": name, **figures, "interval": interval})
    return sorted(rows, key=lambda row: (not row["images"], row["recall"]))


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


def _calibration(evaluation: Row) -> list[Chart]:
    bins = evaluation["reliability"]
    return [curves.reliability(bins, evaluation["ece"]), curves.confidence(bins)]


def _coverage(evaluation: Row) -> Chart | None:
    rows = evaluation.get("coverage") or []
    known = any(row.get("accuracy") is not None for row in rows)
    return curves.coverage(rows, _reject(evaluation)) if known else None


def _reject(evaluation: Row) -> Row | None:
    """The reject threshold; None where none could be chosen, or where it leaves no answer."""
    reject: Row | None = evaluation.get("reject")
    return reject if reject and reject["threshold"] is not None and reject["accuracy"] is not None else None


def _corruptions(evaluation: Row) -> list[dict[str, Any]]:
    """Each corruption's errors with their shades, the worst first."""
    robustness = evaluation.get("robustness")
    if not robustness:
        return []
    rows = [
        {
            "name": name.replace("_", " "),
            "mean": sum(errors) / len(errors),
            "errors": [{"error": error, "shade": f"bad-{_shade(error)}"} for error in errors],
        }
        for name, errors in robustness["corruptions"].items()
    ]
    return sorted(rows, key=lambda row: -row["mean"])


def _augmented(run: RunDirectory, about: Row) -> list[dict[str, Any]]:
    """What the evidence tells of test-time augmentation, each beside the same split without it; on the run's images."""
    fingerprints = about.get("data", {}).get("fingerprints", {})
    own = {f"evaluation:{split}:{fingerprint[:12]}" for split, fingerprint in fingerprints.items()}
    found = []
    for path in sorted(run.artifacts_folder.glob("*/evidence.json")):
        learned = files.read_json(path).get("learned", {})
        for topic, content in learned.items():
            usual, marked, how = topic.partition(":tta-")
            if marked and usual in own and usual in learned:
                name, _, share = how.rpartition("-")
                figures = {"split": topic.split(":")[1], "tta": name, "share": float(share), "without": learned[usual]}
                found.append({**content, **figures})
    return found


# ---- choice --------------------------------------------------------------------------------------------------------


def _limits(best: Row) -> list[str]:
    """The limits that were asked for, in words: `accuracy at least 90.0%`."""
    words = []
    for key, value in best.get("limits", {}).items():
        if value is None:
            continue
        side, _, what = key.partition("_")
        name, _, unit = what.rpartition("_") if what.endswith(("_ms", "_mb", "_points")) else (what, "", "")
        bound = {"min": "at least", "max": "at most"}.get(side, side)
        shown = wording.percent(value) if name == "accuracy" else f"{value:g} {unit.replace('mb', 'MB')}".rstrip()
        words.append(f"{name.replace('_', ' ')} {bound} {shown}")
    return words


# ---- benchmark -----------------------------------------------------------------------------------------------------


def _choices(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What the rows can be filtered by: each property that differs, with its values."""
    values = {key: sorted({row[key] for row in rows}) for key in ("precision", "runtime")}
    return {key: found for key, found in values.items() if len(found) > 1}


# ---- provenance ----------------------------------------------------------------------------------------------------


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
