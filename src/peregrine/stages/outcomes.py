"""What came of each format that was to be exported: kept in parity.json, told, and refused."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peregrine import files
from peregrine.dataset import Dataset
from peregrine.errors import CheckFailed, MissingDependency, MissingDevice, ParityFailed
from peregrine.export.routes import route
from peregrine.formats import find_format
from peregrine.rundir import RunDirectory

logger = logging.getLogger("peregrine")
SLOWER_S, SLOWER_SHARE = 0.5, 0.1  # what is less is chance: each proof is timed once


@dataclass(frozen=True)
class Export:
    """What became of one wanted format.

    Attributes:
        status: `proved`; `inconclusive`; `failed`, because it could not be built or predicts something else;
            `unproved`, because it was built on a machine that cannot run it, such as a TensorRT engine without a GPU;
            or `skipped`, because this machine lacks what building it needs.
        reason: why, when it is not `proved`.
        parity: one row per Candidate, see `parity.Verdict`.
        triton: its folder in a Triton model repository, if one was asked for and Triton can serve it.
        batch: a static batch size, if one was asked for.
    """

    format: str
    status: str
    reason: str
    artifact: Path | None
    parity: list[dict[str, Any]]
    triton: Path | None = None
    batch: int | None = None

    @property
    def name(self) -> str:
        """What tells it from others of the run: `onnx`, `onnx-batch8`."""
        return f"{self.format}-batch{self.batch}" if self.batch else self.format


def record(run: RunDirectory, test: Dataset, outcomes: list[Export]) -> None:
    """Merge the outcomes into results/parity.json; formats that were not exported now keep their rows."""
    path = run.results / "parity.json"
    before = files.read_json(path) if path.is_file() else {"rows": [], "skipped": []}
    done = {(outcome.format, outcome.batch) for outcome in outcomes}
    rows, skipped = (
        [entry for entry in before[kind] if (entry["format"], entry.get("batch")) not in done]
        for kind in ("rows", "skipped")
    )
    for outcome in outcomes:
        rows += outcome.parity
        if not outcome.parity:
            how = {"status": outcome.status, "reason": outcome.reason, "batch": outcome.batch}
            skipped.append({"format": outcome.format, **how})
    files.write_json(path, {
        "schema": 1,
        "split": "test",
        "images": len(test),
        "fingerprint": test.fingerprint,
        "ancestor": run.ancestor().id,
        "rows": rows,
        "skipped": skipped,
    })  # fmt: skip


def warn_of_slow(run: RunDirectory, outcomes: Sequence[Export]) -> None:
    """Say where lower precision does not pay here, by what the proofs took: a rough measure, for a first look."""
    rows = {
        (row["format"], row["runtime"], row["precision"], row.get("batch")): row
        for row in files.read_json(run.results / "parity.json")["rows"]
        if "predict_seconds" in row
    }
    ancestor = run.ancestor().manifest.format
    for outcome in outcomes:
        way = route(ancestor, outcome.format)
        for row in outcome.parity if way else []:
            parent = way[-1].source
            precision = find_format(parent).precision
            rival = rows.get((parent, row["runtime"], precision, outcome.batch))
            if rival is None or row["precision"] in ("fp32", precision):
                continue
            slower_by = row["predict_seconds"] - rival["predict_seconds"]
            if slower_by > max(SLOWER_S, SLOWER_SHARE * rival["predict_seconds"]):
                logger.warning(
                    "%s is slower here than %s: %.1f s and %.1f s for %s images; see `peregrine benchmark`",
                    row["candidate"], rival["candidate"], row["predict_seconds"], rival["predict_seconds"],
                    f"{row['images']:,}",
                )  # fmt: skip


def refuse(outcomes: Sequence[Export], everything: bool) -> None:
    """Raise for the first format that came to nothing; where everything was asked for, an fp32 one that failed.

    Raises:
        CheckFailed: it could not be built, or nothing could run it.
        ParityFailed: it predicts something else.
        MissingDependency: a library is not installed.
        MissingDevice: it was built, and cannot be proved here.
    """
    _refuse_failed([outcome for outcome in outcomes if not everything or _is_fp32(outcome)])
    if not everything:
        _refuse_skipped(outcomes)


def _refuse_failed(outcomes: Sequence[Export]) -> None:
    for outcome in outcomes:
        if outcome.status == "failed" and not outcome.parity:
            raise CheckFailed(f"{outcome.name} could not be built and run: {outcome.reason}")
        if outcome.status == "failed":
            raise ParityFailed(f"{outcome.name} does not predict what the trained model predicts: {outcome.reason}")


def _is_fp32(outcome: Export) -> bool:
    """Whether a failure of this format is a failure of everything: fp32 has no excuse."""
    return find_format(outcome.format).precision == "fp32"


def _refuse_skipped(outcomes: Sequence[Export]) -> None:
    for outcome in outcomes:
        if outcome.status == "skipped":
            raise MissingDependency(outcome.reason)
        if outcome.status == "unproved":
            raise MissingDevice(f"{outcome.name} was built at {outcome.artifact}, but not proved: {outcome.reason}")


def to_dict(outcome: Export) -> dict[str, Any]:
    """An `Export` as plain values, for `--json`."""
    paths = {
        key: str(path) if path else None for key, path in (("artifact", outcome.artifact), ("triton", outcome.triton))
    }
    return {**asdict(outcome), **paths}
