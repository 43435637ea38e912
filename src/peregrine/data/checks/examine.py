"""`data check`: everything that can be said about a data set before anything is trained on it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from peregrine import catalog, host
from peregrine.data import sources
from peregrine.data.base import Listing, Loaded, Options
from peregrine.data.checks import balance, colour, copies, near, readable
from peregrine.data.checks.base import RULES, Case, Finding, Member, finding
from peregrine.data.checks.pool import Pool
from peregrine.dataset import Splits
from peregrine.errors import DataError, MissingDependency, UsageError, suggestion

FILES = ("unreadable", "empty-file", "truncated", "wrong-suffix", "odd-size", "untrainable")
_ALL = Options(max_bad=1.0)


@dataclass(frozen=True)
class Report:
    """What was looked for in a data set, and what was found.

    Attributes:
        source: what the user named.
        findings: errors first, each in the order of `RULES`.
        looked_for: ids of the rules that were checked.
        left_out: ids of the rules that were not, and why.
        splits: the data; None where they cannot be loaded.
    """

    source: str
    findings: tuple[Finding, ...]
    looked_for: tuple[str, ...]
    left_out: dict[str, str]
    splits: Splits | None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON, apart from pixels."""
        parts = Pool(self.splits).parts if self.splits else []
        return {
            "schema": 1,
            "source": self.source,
            "images": {name: len(part) for name, part in parts},
            "checks": list(self.looked_for),
            "left_out": self.left_out,
            "findings": [_finding_to_dict(found) for found in self.findings],
        }


def check(source: str | Path, options: Options = _ALL, only: Sequence[str] = ()) -> Report:
    """Examine the data that `source` names.

    Args:
        options: as for loading; by default every unreadable image becomes part of a finding, however many there are.
        only: ids of the rules to look for; empty means all.

    Raises:
        UsageError: the source or one of the ids is unknown.
        DataError, DamagedFile, MachineError: the data cannot be loaded at all; see `load_dataset`.
        CheckFailed: more images than `options.max_bad` are unreadable.
        MissingDependency: `only` names a rule that needs a library which is not installed.
    """
    wanted = _wanted(only)
    listing = sources.listing(source, options.seed) if wanted & set(FILES) else None
    loaded, findings = _load(source, options, listing)
    left_out: dict[str, str] = {}
    bad = loaded.left_out if loaded else readable.undecodable(listing) if listing else ()
    findings += readable.unread(bad, listing)
    side = loaded.splits.train.image_size[0] if loaded else options.size
    if listing and wanted & {"wrong-suffix", "odd-size"}:
        findings += readable.misnamed_and_odd(listing, bad, side, options.resize)
    if loaded:
        with threadpool_limits(host.threads()):  # NumPy's BLAS would take as many as the host has
            more, left_out = _look(Pool(loaded.splits), wanted, named=bool(only))
        findings += more
    else:
        left_out = dict.fromkeys(wanted - set(FILES), "the data cannot be loaded")
    order = list(RULES)
    kept = sorted((found for found in findings if found.rule.id in wanted), key=lambda one: order.index(one.rule.id))
    return Report(
        str(source),
        tuple(kept),
        tuple(rule for rule in order if rule in wanted and rule not in left_out),
        {rule: left_out[rule] for rule in order if rule in left_out},
        loaded.splits if loaded else None,
    )


def _wanted(only: Sequence[str]) -> set[str]:
    for name in only:
        if name not in RULES:
            raise UsageError(f"unknown check {name!r}{suggestion(name, RULES)}; known: {', '.join(RULES)}")
    return set(only or RULES)


def _load(source: str | Path, options: Options, listing: Listing | None) -> tuple[Loaded | None, list[Finding]]:
    """The data; where its files are there but make no data set, a finding in its place."""
    try:
        return sources.load(source, options), []
    except DataError as error:
        if listing is None:
            raise
        case = Case((Member("", "", ""),), str(error))
        return None, finding("untrainable", "what can be read makes no data set; the rest was not checked", [case])


def _look(pool: Pool, wanted: Collection[str], named: bool) -> tuple[list[Finding], dict[str, str]]:
    """All that pixels and labels tell, and which of the wanted rules could not be looked for, with the reason.

    Args:
        named: whether the user asked for these rules by name, so that a missing library is an error.
    """
    wanted = set(wanted)
    findings = balance.find(pool)
    left_out: dict[str, str] = {}
    if min(pool.image_size) < near.SMALLEST_SIDE:
        reason = f"the images are smaller than {near.SMALLEST_SIDE} pixels, and different ones look alike"
        left_out |= dict.fromkeys(wanted & set(copies.NEAR), reason)
    if wanted & {*copies.EXACT, *copies.NEAR}:
        findings += copies.find(pool, wanted - left_out.keys())
    if wanted & {"blank", "grey"}:
        findings += colour.find(pool)
    if "label-error" in wanted:
        try:
            labels = catalog.load("check", "label-error")
        except MissingDependency as missing:
            if named:
                raise
            left_out["label-error"] = str(missing)
        else:
            if labels.enough(pool):
                findings += labels.find(pool)
            else:
                left_out["label-error"] = "there are too few images to learn from"
    return findings, left_out


def _finding_to_dict(found: Finding) -> dict[str, Any]:
    return {
        "id": found.rule.id,
        "level": found.rule.level,
        "message": found.message,
        "cases": [
            {
                "images": [
                    {"id": member.id, "split": member.split, "class": member.class_name} for member in case.members
                ],
                "detail": case.detail,
                "score": case.score,
                **({"suggestion": case.suggestion} if case.suggestion else {}),
            }
            for case in found.cases
        ],
    }
