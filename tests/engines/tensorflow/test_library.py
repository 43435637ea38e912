"""TensorFlow as a process of its own sees it come in."""

import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import machine

pytestmark = pytest.mark.tensorflow


def test_comes_in_quietly_and_passes_on_what_others_say() -> None:
    script = """
import os
real = os.dup2
def dup2(source, target):  # speak while stderr is caught
    real(source, target)
    os.write(2, b"somebody else\\n")
os.dup2 = dup2
from peregrine.engines.tensorflow.library import tf
print(tf.reduce_sum(tf.ones(3)).numpy())
"""
    ended = machine.python(script)
    assert ended.stdout == "3.0\n"
    assert set(ended.stderr.splitlines()) == {"somebody else"}
    assert len(ended.stderr.splitlines()) == 2


def test_has_the_threads_of_the_host() -> None:
    script = """
from peregrine import host
host.threads = lambda: 3
from peregrine.engines.tensorflow.library import tf
print(tf.config.threading.get_intra_op_parallelism_threads())
"""
    assert machine.python(script).stdout == "3\n"


def test_fp32_means_fp32() -> None:
    """On GPUs, TensorFlow would multiply with 10 bits."""
    script = """
from peregrine.engines.tensorflow.library import tf
print(tf.config.experimental.tensor_float_32_execution_enabled())
"""
    assert machine.python(script).stdout == "False\n"


def test_keras_on_another_backend_is_refused() -> None:
    script = """
import keras
keras.config.backend = lambda: "jax"
import peregrine.engines.tensorflow.library
"""
    ended = machine.python(script)
    last = ended.stderr.splitlines()[-1]
    assert "Peregrine runs Keras on TensorFlow; this process imported it on jax before" in last
