"""Templates of the page and the model card: strict, and with the words that both write."""

import functools
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from peregrine.stages import wording

ENGINES = {"tensorflow": "TensorFlow", "pytorch": "PyTorch"}
_WORDS = {
    "are": wording.are,
    "count": wording.count,
    "duration": wording.duration,
    "exact": wording.exact_percent,
    "number": wording.number,
    "percent": wording.percent,
    "points": wording.points,
    "power": wording.power,
    "ratio": wording.ratio,
    "sentence": wording.sentence,
    "size": wording.size,
    "when": wording.when,
}


@functools.cache
def template(name: str) -> str:
    """The text of a file in `templates`."""
    return (resources.files("peregrine.stages") / "templates" / name).read_text("utf-8")


def environment(**settings: Any) -> Environment:
    """Where templates are found and filled; a name that is missing in one is an error, not a gap.

    Args:
        settings: more of Jinja's own, such as `autoescape`.
    """
    made = Environment(
        loader=FunctionLoader(template),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **settings,
    )
    made.filters.update(_WORDS)
    made.globals.update(engines=ENGINES)
    return made
