"""What a `.safetensors` checkpoint tells about itself: the record of `engines/record.py`, in the file's metadata."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from peregrine.engines.record import Record, parse
from peregrine.errors import DamagedFile

_KEY = "peregrine"


def to_metadata(record: Record) -> dict[str, str]:
    """A record as safetensors keeps it."""
    return {_KEY: json.dumps(record, ensure_ascii=False)}


def read_record(path: Path) -> Record | None:
    """The record of a checkpoint; None where it has none, because somebody else wrote it.

    Raises:
        DamagedFile: the file is not a whole one, or its record is not of schema 1.
    """
    try:
        with safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
    except (SafetensorError, OSError) as error:
        raise DamagedFile(f"{path} is not a whole .safetensors file ({error}); restore it") from None
    return None if text is None else parse(text, path)
