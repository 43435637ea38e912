"""How the work is spread over devices: one device, a mirrored replica on each of several, or several machines.

Under every strategy a step sees the same global batch, in the same order with the same noise, and each replica takes a
part of it. Losses are summed and divided by the images of the whole batch, gradients are summed by the optimiser, and
batch norms take their statistics over all replicas: so batch size and learning rate mean the same everywhere.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from peregrine import host, recipe
from peregrine.engines.tensorflow.library import tf
from peregrine.errors import MissingDevice, UsageError

_KINDS = {"cpu": "CPU", "gpu": "GPU"}


def choose(settings: recipe.Strategy) -> Any:
    """The strategy that a recipe asks for, on this machine.

    Raises:
        UsageError: logical devices are asked for after TensorFlow has started, TF_CONFIG is missing, or the devices are
            not for this strategy to choose.
        MissingDevice: there are fewer devices.
    """
    workers = _workers()  # first, because MultiWorkerMirroredStrategy has to start TensorFlow itself
    if settings.name == "multiworker" and not workers:
        raise UsageError("strategy multiworker takes the machines from TF_CONFIG, which is not set; set it on each")
    if settings.name == "multiworker" or (settings.name == "auto" and workers > 1):
        if settings.devices != "auto":
            raise UsageError(
                f"strategy multiworker takes the devices of each machine; got strategy.devices={settings.devices}; "
                "leave it out, and choose GPUs by CUDA_VISIBLE_DEVICES on each"
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if settings.name == "none" and settings.devices not in ("auto", "cpu:1", "gpu:1"):
        raise UsageError(
            f"strategy none trains on one device; got strategy.devices={settings.devices}; use mirrored or auto"
        )
    devices = _devices(settings.devices)
    if settings.devices == "cpu:1" and tf.config.list_logical_devices("GPU"):  # which takes what nobody places
        raise UsageError(
            "strategy.devices=cpu:1 is for machines without a GPU; TensorFlow finds one; hide it from this command by "
            "CUDA_VISIBLE_DEVICES=-1"
        )
    if settings.name == "mirrored" or (settings.name == "auto" and len(devices) > 1):
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.get_strategy()


def on_gpus(chosen: Any) -> bool:
    """Whether the replicas that a strategy has in this process are on GPUs; a single one is where TensorFlow likes."""
    if chosen.num_replicas_in_sync == 1:
        return bool(tf.config.list_logical_devices("GPU"))
    return any("GPU" in device for device in chosen.extended.worker_devices)


def on_replicas(chosen: Any, make: Callable[[], Any]) -> tuple[Any, ...]:
    """A tensor on the device of each replica that a strategy has in this process; see `mine`."""
    if chosen.num_replicas_in_sync == 1:
        return (make(),)
    found = []
    for device in chosen.extended.worker_devices:
        with tf.device(device):
            found.append(make())
    return tuple(found)


def mine(values: tuple[Any, ...]) -> Any:
    """This replica's of what `on_replicas` made."""
    context = tf.distribute.get_replica_context()
    number = tf.get_static_value(context.replica_id_in_sync_group) if context else 0
    return values[int(number or 0) % len(values)]


def mean(chosen: Any, value: float) -> float:
    """Of a number that every worker measured, so that all of them decide the same by it."""

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def over_replicas(mine: Any) -> Any:
        def reduced() -> Any:  # of a copy on each replica's device; what comes from outside has none
            return tf.distribute.get_replica_context().all_reduce("MEAN", tf.identity(mine))

        return chosen.run(reduced)

    return float(chosen.experimental_local_results(over_replicas(tf.constant(value)))[0])


def part(count: Any) -> tuple[Any, Any]:
    """Which images of a global batch are this replica's: from the first, up to before the second.

    The parts are of equal size where they can be, and begin at an even place, for `mixing` pairs neighbours.

    Args:
        count: images in the batch, int32.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:  # outside of a step, the batch is not split
        return 0, count
    replicas = context.num_replicas_in_sync
    number = tf.cast(context.replica_id_in_sync_group, tf.int32)
    start, stop = number * count // replicas // 2 * 2, (number + 1) * count // replicas // 2 * 2
    return start, tf.where(number == replicas - 1, count, stop)


def _devices(wanted: str) -> list[str]:
    """The names of the devices to use, all of them of one kind."""
    if wanted == "auto":
        gpus = tf.config.list_logical_devices("GPU")
        return [f"GPU:{number}" for number in range(len(gpus))] or ["CPU:0"]
    kind, _, count = wanted.partition(":")
    names = [f"{_KINDS[kind]}:{number}" for number in range(int(count))]
    if kind == "cpu" and len(names) > 1:
        _split_cpu(len(names))
    found = len(tf.config.list_logical_devices(_KINDS[kind]))
    if found < len(names):
        raise MissingDevice(
            f"strategy.devices={wanted} needs {count} {kind.upper()} devices; TensorFlow finds {found}; to try it "
            f"without them, use --devices cpu:{count}"
        )
    return names


def _split_cpu(count: int) -> None:
    """Make logical devices out of the CPU; they share its cores."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    with contextlib.suppress(RuntimeError):  # TensorFlow runs already; fine if it has the devices
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    if len(tf.config.list_logical_devices("CPU")) < count:
        raise UsageError(f"the CPU can be split into {count} devices only before TensorFlow starts; use a new process")


def _workers() -> int:
    """How many machines TF_CONFIG names; 0 without it."""
    host.rank()  # explains a TF_CONFIG that cannot be read
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec().as_dict()
    return sum(len(cluster.get(kind, ())) for kind in ("chief", "worker"))
