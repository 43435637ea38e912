"""Keep what libraries write to the terminal, past Python, from the user; what is news is passed on."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def without(*known: bytes) -> Iterator[None]:
    """Drop the lines that contain one of `known` from what is written to file descriptor 2 inside the block.

    The others appear at its end.
    """
    sys.stderr.flush()
    try:
        before = os.dup(2)
    except OSError:  # no stderr: nobody to spare
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            caught.seek(0)
            for line in caught:
                if not any(chatter in line for chatter in known):
                    os.write(2, line)
