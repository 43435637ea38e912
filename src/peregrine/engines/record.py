"""What a checkpoint tells about itself, so that a moved file is still known as ours; each engine keeps it in its way.

schema, written_by      1, and Peregrine's version
recipe, class_names     what the network was trained by and on
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peregrine import __version__
from peregrine.errors import DamagedFile
from peregrine.recipe import Recipe

Record = dict[str, Any]


def describe(recipe: Recipe, class_names: Sequence[str]) -> Record:
    """The record of a network that is trained by `recipe`, resolved, for these classes."""
    return {
        "schema": 1,
        "written_by": f"peregrine {__version__}",
        "recipe": recipe.to_dict(),
        "class_names": list(class_names),
    }


def parse(text: str | bytes, path: Path) -> Record:
    """The record that was found in a file.

    Raises:
        DamagedFile: it is not of schema 1.
    """
    try:
        record: Record = json.loads(text)
        sound = record["schema"] == 1 and {"recipe", "class_names"} <= record.keys()
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise DamagedFile(f"the record in {path} is not of schema 1; open it with the version that wrote it")
    return record
