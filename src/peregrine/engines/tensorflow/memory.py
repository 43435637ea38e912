"""What TensorFlow says when memory runs out, in our words."""

import contextlib
from collections.abc import Iterator

from peregrine.engines.tensorflow.library import tf
from peregrine.errors import MachineError


@contextlib.contextmanager
def memory_explained(explanation: MachineError) -> Iterator[None]:
    """Turn TensorFlow's ways of saying that memory ran out into one line.

    Raises:
        MachineError: `explanation`, if memory ran out inside the block.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise explanation from error
