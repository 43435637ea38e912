"""Findings as CSV: a row for each image of each case, and whether to leave the image out."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from peregrine import files
from peregrine.data import exclusions
from peregrine.data.checks.base import Case, Finding, Member
from peregrine.errors import machine_error

_COLUMNS = ("check", "level", "case", "exclude", "split", "id", "label", "suggestion", "score", "detail")
_UNUSABLE = ("unreadable", "empty-file", "truncated", "conflict")  # every image of them
_COPIES = ("leakage", "near-leakage", "duplicate", "near-duplicate")  # all but one of those that are alike
_KEPT_FIRST = ("test", "validation", "train", "")  # the verdict of earlier work stays comparable if test stays as it is


def write(findings: Iterable[Finding], path: Path) -> None:
    """Write all cases as CSV; what `data prepare --exclude` reads after a person has looked through it.

    Raises:
        MachineError: the file cannot be written.
    """
    findings = list(findings)
    out = excluded(findings)
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for found in findings:
        for number, case in enumerate(found.cases, 1):
            writer.writerows(_row(found, number, case, member, member.id in out) for member in case.members)
    try:
        files.write_text(path, text.getvalue())
    except OSError as error:
        raise machine_error(error, path) from error


def excluded(findings: Iterable[Finding]) -> set[str]:
    """Ids of the images that data are better without.

    Files that cannot be read; copies with different labels, since nobody knows which is right; and of copies all but
    one: an image goes if it is a copy of one that stays, and those of the test split stay first. What is only likely
    or odd stays, for a person to decide.
    """
    findings = list(findings)
    out = {
        member.id for found in findings if found.rule.id in _UNUSABLE for case in found.cases for member in case.members
    }
    alike: dict[str, set[str]] = {}
    members: dict[str, Member] = {}
    for case in (case for found in findings if found.rule.id in _COPIES for case in found.cases):
        members |= {member.id: member for member in case.members}
        for member in case.members:
            alike.setdefault(member.id, set()).update(other.id for other in case.members)
    kept: set[str] = set()
    for member in sorted(members.values(), key=lambda one: (_KEPT_FIRST.index(one.split), one.index or 0)):
        if member.id not in out:
            (out if alike[member.id] & kept else kept).add(member.id)
    return out


def _row(found: Finding, number: int, case: Case, member: Member, out: bool) -> dict[str, str | int]:
    return {
        "check": found.rule.id,
        "level": found.rule.level,
        "case": number,
        "exclude": ("yes" if out else "no") if member.id else "",
        "split": member.split,
        "id": exclusions.quoted(member.id),
        "label": exclusions.quoted(member.class_name),
        "suggestion": exclusions.quoted(case.suggestion),
        "score": "" if case.score is None else f"{case.score:.4f}",
        "detail": exclusions.quoted(case.detail),
    }
