"""What verbs print on stdout: tables for people, one JSON line for programs."""

import json
import re
from collections.abc import Sequence
from typing import Any

_NUMBER = 32  # letters that a number has at most, with what is said beside it


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print an aligned table; columns whose cells all look like numbers, and not like sentences, are right-aligned."""
    from rich import box
    from rich.table import Table

    grid = Table(
        title=_plain(title) if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title_style="bold",
    )
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(
            (row[index].lstrip("+−< ")[:1].isdigit() and len(row[index]) <= _NUMBER) or row[index] in ("", "–")
            for row in rows
        )
        grid.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*[_plain(cell) for cell in row])
    _console().print(grid)


def line(text: str = "") -> None:
    """Print one line of text, as it is."""
    _console().print(_plain(text), soft_wrap=True)


def as_json(content: Any) -> None:
    """Print one JSON object as the last line; bytes of a file's name that are no UTF-8 are escaped: `\\udce9`."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, default=str)
    print(re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)


def percent(share: float | None) -> str:
    """A share as a percentage with two decimals."""
    return "–" if share is None else f"{100 * share:.2f}%"


def _plain(text: str) -> Any:
    """Text in which brackets are no markup and control characters are shown, not obeyed: names come from files."""
    from rich.text import Text

    return Text("".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text))


def _console() -> Any:
    import shutil
    import sys

    from rich.console import Console

    width = None if sys.stdout.isatty() else max(shutil.get_terminal_size().columns, 120)
    return Console(highlight=False, width=width)
