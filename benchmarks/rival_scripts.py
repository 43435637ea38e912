"""Run somebody's training script and read off what it reached; none of it enters this repository.

The script is run as `python SCRIPT`, in its own folder, with what is installed here. It tells its result in one of two
ways on stdout:

- its last line is JSON, `{"accuracy": 0.94, "seconds": 2.6}`; `accuracy_tta` (with test-time augmentation) and `curve`,
  pairs of seconds and accuracy, may stand beside them, and `seconds` may be missing;
- or it prints a table as airbench does, `| epoch | val_acc | tta_val_acc | time_seconds |` and more columns. Of several
  runs in one table the last counts.

A script's `seconds` are what the script counts; without them they are its wall time, with imports and data.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def run_script(script: Path) -> Row:
    """Run it to its end: `training_seconds`, `accuracy`, `accuracy_tta`, `curve` and `wall_seconds`.

    Raises:
        SystemExit: it failed, or told no result.
    """
    started = time.perf_counter()
    ended = subprocess.run([sys.executable, script.name], cwd=script.parent, stdout=subprocess.PIPE, text=True)
    wall = time.perf_counter() - started
    if ended.returncode:
        sys.exit(f"{script} ended with status {ended.returncode}")
    found = read_result(ended.stdout)
    if found is None:
        sys.exit(f"{script} printed neither a last line of JSON with an accuracy nor a table with val_acc")
    seconds = found["training_seconds"] if found["training_seconds"] is not None else wall
    return {**found, "training_seconds": seconds, "wall_seconds": wall}


def read_result(stdout: str) -> Row | None:
    """What a script printed of its result, or None."""
    lines = [line.strip() for line in stdout.splitlines() if line.strip()]
    return (_json_result(lines[-1]) if lines else None) or _table_result(lines)


def _json_result(line: str) -> Row | None:
    try:
        told = json.loads(line)
    except ValueError:
        return None
    if not isinstance(told, dict) or "accuracy" not in told:
        return None
    return {
        "training_seconds": told.get("seconds"),
        "accuracy": told["accuracy"],
        "accuracy_tta": told.get("accuracy_tta"),
        "curve": told.get("curve", []),
    }


def _table_result(lines: list[str]) -> Row | None:
    header: list[str] = []
    curve: list[tuple[float, float]] = []
    result = None
    for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")):
        if "val_acc" in cells:
            header = cells
            continue
        row = dict(zip(header, cells, strict=False))
        if not re.fullmatch(r"[\d.]+", row.get("val_acc", "")):
            continue
        seconds = float(row["time_seconds"]) if row.get("time_seconds") else None
        accuracy = float(row["val_acc"])
        if row.get("epoch", "").isdigit():
            if int(row["epoch"]) == 0:
                curve = []  # a new run
            if seconds is not None:
                curve.append((seconds, accuracy))
        with_tta = float(row["tta_val_acc"]) if row.get("tta_val_acc") else None
        result = {"training_seconds": seconds, "accuracy": accuracy, "accuracy_tta": with_tta, "curve": curve}
    return result
