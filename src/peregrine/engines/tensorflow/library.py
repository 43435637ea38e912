"""TensorFlow and Keras, imported quietly and set up before their first operation.

Everything of ours takes them from here: `from peregrine.engines.tensorflow.library import keras, tf`.
"""

import contextlib
import logging
import os
import sys

from peregrine import chatter, host
from peregrine.errors import UsageError

logger = logging.getLogger("peregrine")

# What TensorFlow 2.21 writes to file descriptor 2 while it is imported, whatever TF_CPP_MIN_LOG_LEVEL says: its
# logging is not set up before that. Anything else that appears meanwhile is passed on.
_CHATTER = (b"absl::InitializeLog", b"oneDNN custom operations are on")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "tensorflow"

with chatter.without(*_CHATTER):
    import keras
    import tensorflow as tf

if keras.config.backend() != "tensorflow":
    raise UsageError(
        f"Peregrine runs Keras on TensorFlow; this process imported it on {keras.config.backend()} before; "
        "set KERAS_BACKEND=tensorflow"
    )


def use_threads(count: int) -> None:
    """Set the size of TensorFlow's thread pools; they cannot change any more after the process's first operation."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(count)
    except RuntimeError:
        if tf.config.threading.get_intra_op_parallelism_threads() != count:
            logger.warning("TensorFlow is running already and keeps its number of threads; %d were asked for", count)


# Each model of ours is traced once on purpose; TensorFlow counts by line of code and warns from the fifth model on.
logging.getLogger("tensorflow").addFilter(lambda record: "triggered tf.function retracing" not in record.getMessage())

use_threads(host.threads())
for _gpu in tf.config.list_physical_devices("GPU"):
    with contextlib.suppress(RuntimeError):  # somebody used TensorFlow before us and decided
        tf.config.experimental.set_memory_growth(_gpu, True)
tf.config.experimental.enable_tensor_float_32_execution(False)  # fp32 means fp32; who wants speed takes bf16

__all__ = ["keras", "tf", "use_threads"]
