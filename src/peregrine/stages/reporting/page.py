"""The page itself.

Every name on it (of files, classes, machines) may be hostile: the templates escape all of them, and the page's content
security policy lets nothing be loaded, and nothing run but its own style and script, by their hashes.
"""

import base64
import functools
import hashlib
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from peregrine.stages.reporting.speed import TRAINED
from peregrine.stages.reporting.templating import environment, template

VERDICTS = {  # by how much they are worth: symbol, word
    "passed": ("✓", "passed"),
    TRAINED: ("✓", "trained model"),
    "inconclusive": ("?", "inconclusive"),
    "unproved": ("–", "not proved"),
    "failed": ("✗", "failed"),
}


def render(content: Mapping[str, Any], watched: bool = False) -> str:
    """The page as HTML.

    Args:
        content: from `content.gather`.
        watched: it is served, and asks the server now and then whether something changed.
    """
    style, script = _style(), _script(watched)
    return _environment().get_template("report.html.j2").render(
        content, watched=watched, style=Markup(style), script=Markup(script), policy=policy_of(watched)
    )  # fmt: skip


def policy_of(watched: bool) -> str:
    """The page's content security policy."""
    allowed = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _hash(_style()),
        "script-src": _hash(_script(watched)),
        **({"connect-src": "'self'"} if watched else {}),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{what} {where}" for what, where in allowed.items())


def _style() -> str:
    return template("report.css")


def _script(watched: bool) -> str:
    return template("report.js") + (template("watch.js") if watched else "")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@functools.cache
def _environment() -> Environment:
    made = environment(autoescape=True)
    made.filters.update(breakable=_breakable)
    made.globals.update(verdict_words=VERDICTS)
    return made


def _breakable(key: str) -> Markup:
    """A Candidate's key, which may go on in the next line after its `@`."""
    return Markup("@<wbr>").join(key.split("@"))
