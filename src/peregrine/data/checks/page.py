"""The page of `data check`: one HTML file that opens offline, with thumbnails of what was found.

Every name on it (of files and classes) may be hostile: the template escapes all of them, and the content security
policy lets nothing run and nothing be loaded, apart from the page's own style and pictures.
"""

import base64
import functools
import hashlib
import io
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from peregrine import __version__, files
from peregrine.data.checks.base import RULES, Case, Finding, Member, are, count
from peregrine.data.checks.examine import Report
from peregrine.data.checks.pool import Pool
from peregrine.data.checks.thumbnails import shrunk
from peregrine.dataset import Images
from peregrine.errors import machine_error
from peregrine.rundir import now

_CASES = 24  # of each finding
_MEMBERS = 8  # of each case
_CLASSES = 200
_EXAMPLES = 10  # of each class
_SIDE = 128  # pixels that a thumbnail has at most
_EXACT_SIDE = 64  # up to here as PNG


def write(report: Report, path: Path) -> None:
    """Write the page.

    Raises:
        MachineError: the file cannot be written.
    """
    page = _environment().get_template("check.html.j2").render(_content(report))
    try:
        files.write_text(path, page)
    except OSError as error:
        raise machine_error(error, path) from error


def _content(report: Report) -> dict[str, Any]:
    pool = Pool(report.splits) if report.splits else None
    found = {
        one.rule.id: sum(len(more.cases) for more in report.findings if more.rule is one.rule)
        for one in report.findings
    }
    return {
        "source": report.source,
        "version": __version__,
        "written": now(),
        "splits": {name: len(part) for name, part in pool.parts} if pool else {},
        "side": pool.image_size[0] if pool else None,
        "rules": [
            {"rule": rule, "found": found.get(name, 0), "left_out": report.left_out.get(name)}
            for name, rule in RULES.items()
            if name in report.looked_for or name in report.left_out
        ],
        "levels": {
            level: sum(found[name] for name in found if RULES[name].level == level) for level in ("error", "warning")
        },
        "findings": [_finding(one, pool) for one in report.findings],
        "classes": _classes(pool) if pool else [],
        "classes_left": max(0, len(pool.class_names) - _CLASSES) if pool else 0,
        "notes": report.splits.notes if report.splits else (),
    }


def _finding(found: Finding, pool: Pool | None) -> dict[str, Any]:
    shown = found.cases[:_CASES]
    wanted = {member.id for case in shown for member in case.members[:_MEMBERS] if member.index is None and member.id}
    places = _places(pool, wanted) if pool and wanted else {}
    cases = [_case(case, places) for case in shown]
    indices = sorted({index for case in cases for _, index in case["members"] if index is not None})
    pictures = dict(zip(indices, _pictures(pool, indices), strict=True)) if pool else {}
    for case in cases:
        case["members"] = [(member, pictures.get(index)) for member, index in case["members"]]
    return {
        "rule": found.rule,
        "message": found.message,
        "cases": cases,
        "total": len(found.cases),
        "pictures": bool(pictures),
        "single": all(len(case["members"]) == 1 for case in cases),
    }


def _case(case: Case, places: dict[str, int]) -> dict[str, Any]:
    members = [(member, member.index if member.index is not None else places.get(member.id)) for member in case.members]
    return {"members": members[:_MEMBERS], "more": max(0, len(members) - _MEMBERS), "detail": case.detail}


def _places(pool: Pool, ids: Iterable[str]) -> dict[str, int]:
    """Where images of these ids are, if they could be read."""
    wanted = np.array(sorted(ids))
    whole = np.concatenate([part.ids for _, part in pool.parts])
    return {str(whole[index]): int(index) for index in np.flatnonzero(np.isin(whole, wanted))}


def _classes(pool: Pool) -> list[dict[str, Any]]:
    """Each class with its images per split, and some of them, taken at random."""
    generator = np.random.default_rng(0)
    largest = max(int(part.counts.max()) for _, part in pool.parts)
    rows = []
    for label, name in enumerate(pool.class_names[:_CLASSES]):
        members = np.flatnonzero(pool.labels == label)
        chosen = np.sort(generator.permutation(members)[:_EXAMPLES]).tolist()
        counts = {split: int(part.counts[label]) for split, part in pool.parts}
        rows.append(
            {
                "name": name,
                "counts": counts,
                "share": 100 * counts["train"] / largest,
                "pictures": [
                    (pool.member(index), picture)
                    for index, picture in zip(chosen, _pictures(pool, chosen), strict=True)
                ],
            }
        )
    return rows


def _pictures(pool: Pool, indices: list[int]) -> list[str]:
    return [_uri(image) for image in shrunk(pool.images(indices), _SIDE)] if indices else []


def _uri(image: Images) -> str:
    """A picture as text: small ones exactly, others as JPEG."""
    memory = io.BytesIO()
    kind = "png" if len(image) <= _EXACT_SIDE else "jpeg"
    Image.fromarray(image).save(memory, kind, **({"quality": 85} if kind == "jpeg" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(memory.getvalue()).decode()}"


def _told(member: Member) -> str:
    """An image in words, for those who do not see it."""
    return f"{member.id}, in {member.split}, labelled {member.class_name}"


def _when(timestamp: str) -> str:
    """`2026-11-21 10:15 UTC` of `2026-11-21T10:15:00Z`."""
    return f"{timestamp[:10]} {timestamp[11:16]} UTC"


@functools.cache
def _environment() -> Environment:
    """Templates beside this file; a name that is missing in a template is an error, not a gap on the page."""
    style = _template("check.css")
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=count, are=are, told=_told, when=_when)
    environment.globals.update(
        style=Markup(style), style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    )
    return environment


def _template(name: str) -> str:
    return (resources.files("peregrine.data.checks") / "templates" / name).read_text("utf-8")
