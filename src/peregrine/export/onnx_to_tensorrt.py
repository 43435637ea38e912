"""ONNX to a TensorRT plan, of the precision that the ONNX file has: TensorRT 11 takes it from the graph's types.

A float32 file becomes `tensorrt`, one in half precision `tensorrt-fp16`, one with symmetric QDQ nodes `tensorrt-int8`.
The packages `tensorrt` and `tensorrt_rtx` share this path. The first builds on the GPU that the plan will run on and
keeps what it timed for the next build. The second needs no GPU: its plan holds kernels for several generations, which
the driver finishes where it is run.
"""

import json
from pathlib import Path
from typing import Any

from peregrine import files
from peregrine.artifact import Artifact
from peregrine.data.places import cache_folder
from peregrine.errors import CheckFailed, MissingDevice
from peregrine.export.tensorrt_inspection import assert_inspected
from peregrine.export.tensorrt_layers import assert_precision, layers_of
from peregrine.formats import FORMATS
from peregrine.host import Gpu, find_gpu
from peregrine.libraries import onnx_file
from peregrine.libraries.tensorrt import Log, name, trt

SMALLEST, USUAL, LARGEST = 1, 250, 250  # images; a Runtime never gives more at once
WORKSPACE_BYTES = 2 << 30
# Ampere and later. With Turing (7.5) in the list, TensorRT-RTX 1.7 refuses products of float32 matrices.
CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")


def convert(source: Artifact, folder: Path) -> dict[str, Any]:
    """Write `model.plan` into `folder`.

    Returns:
        Notes for the manifest: library and version, devices that it runs on, batch sizes, and the layers.

    Raises:
        CheckFailed: the parser or the builder refuses the file, or a layer is not of the file's precision.
        MissingDevice: the package `tensorrt` builds on a GPU, and there is none.
    """
    gpu = find_gpu()
    log = Log()
    builder = _builder(log)
    network, notes = _parsed(builder, source, log)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)  # which would round products of "float32" to 10 bits
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the inspector tells types
    notes["batch"] = _add_profile(builder, network, config)
    notes |= _choose_devices(config, gpu)
    cache = _load_timings(config, gpu)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise CheckFailed(f"{name()} cannot build this network: {log.reason()}")
    content = bytes(plan)
    if gpu is not None and gpu.capability in notes["capabilities"]:
        _assert_engine(content, source.manifest.precision, log)
    if cache is not None:
        files.write_bytes(cache, bytes(config.get_timing_cache().serialize()))
    files.write_bytes(folder / FORMATS["tensorrt"].file, content)
    return {"library": name(), "version": trt.__version__, **notes}


def _builder(log: Log) -> Any:
    try:
        return trt.Builder(log)
    except TypeError:  # what pybind11 says when the library gives nothing
        raise MissingDevice(
            f"the package {name()} builds engines on an NVIDIA GPU and finds none ({log.reason()}); "
            "install tensorrt-rtx-cu13, which needs none to build"
        ) from None


def _parsed(builder: Any, source: Artifact, log: Log) -> tuple[Any, dict[str, Any]]:
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    # Bytes, not a path: what was verified is what is parsed.
    if not parser.parse(onnx_file.read(source.model_path)):
        error = parser.get_error(0)
        where = f" of {error.node_name()!r}" if error.node_name() else ""
        raise CheckFailed(f"{name()} cannot parse {source.model_path.name}{where}: {' '.join(error.desc().split())}")
    return network, assert_precision(layers_of(network), source.manifest.precision)


def _add_profile(builder: Any, network: Any, config: Any) -> dict[str, int]:
    """Batch sizes to be prepared for; a file with a fixed one is taken as it is."""
    images = network.get_input(0)
    fixed, *pixels = tuple(images.shape)
    if fixed >= 0:
        return {"smallest": fixed, "usual": fixed, "largest": fixed}
    profile = builder.create_optimization_profile()
    profile.set_shape(images.name, *((count, *pixels) for count in (SMALLEST, USUAL, LARGEST)))
    config.add_optimization_profile(profile)
    return {"smallest": SMALLEST, "usual": USUAL, "largest": LARGEST}


def _choose_devices(config: Any, gpu: Gpu | None) -> dict[str, Any]:
    """What the plan will run on: kernels for each of `CAPABILITIES`, or for this GPU alone."""
    if name() == "tensorrt_rtx":
        config.num_compute_capabilities = len(CAPABILITIES)
        for index, capability in enumerate(CAPABILITIES):
            chosen = getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}")
            config.set_compute_capability(chosen, index)
        return {"capabilities": list(CAPABILITIES), "built_on": gpu.name if gpu else None}
    assert gpu is not None  # or there would be no builder
    return {"capabilities": [gpu.capability], "built_on": gpu.name}


def _load_timings(config: Any, gpu: Gpu | None) -> Path | None:
    """Give the builder what earlier builds on such a GPU measured; the file to keep it in, or None where nothing is."""
    if name() != "tensorrt" or gpu is None:
        return None
    path = cache_folder() / "tensorrt" / f"timings-{trt.__version__}-{gpu.name.replace(' ', '-')}.bin"
    known = path.read_bytes() if path.is_file() else b""
    config.set_timing_cache(config.create_timing_cache(known), False)
    return path


def _assert_engine(plan: bytes, precision: str, log: Log) -> None:
    """Where the engine can be loaded, ask it itself."""
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        raise CheckFailed(f"{name()} does not load the plan that it has built: {log.reason()}")
    told = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    assert_inspected(json.loads(told), precision)
