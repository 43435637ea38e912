"""The one table of everything that can be plugged in, and the one place that imports by name.

A newcomer adds a file and a line here. Nothing registers itself on import, so nothing heavy is imported before it is
asked for: each entry is `module:attribute`, resolved by `load`.
"""

import importlib
from dataclasses import dataclass
from typing import Any

from peregrine.errors import MissingDependency, UsageError, suggestion


@dataclass(frozen=True)
class Entry:
    """Where a piece lives, which pip extras (`tensorflow,torch`) bring its libraries, and one line for the listings."""

    target: str
    extra: str = ""
    summary: str = ""


CATALOG: dict[str, dict[str, Entry]] = {
    # data known by a name
    "source": {
        "digits": Entry("peregrine.data.digits", summary="1,797 scanned digits, 8×8 grey, offline"),
        "cifar10": Entry("peregrine.data.cifar:CIFAR10", summary="60,000 photos 32×32, 10 classes"),
        "cifar100": Entry("peregrine.data.cifar:CIFAR100", summary="60,000 photos 32×32, 100 classes"),
    },
    # data at a path; the first that recognises it loads it
    "layout": {
        "cifar10": Entry("peregrine.data.cifar:CIFAR10", summary="a folder with CIFAR-10's batches"),
        "cifar100": Entry("peregrine.data.cifar:CIFAR100", summary="a folder with CIFAR-100's batches"),
        "folder": Entry("peregrine.data.folder", summary="a folder per class, or train/ and test/ of them"),
        "parquet": Entry("peregrine.data.parquet", summary="Parquet files as on the Hugging Face hub"),
        "webdataset": Entry("peregrine.data.webdataset", summary="tar files of key.jpg and key.cls"),
        "csv": Entry("peregrine.data.csv", summary="a CSV file with paths and labels"),
    },
    # data elsewhere, by the start of its address
    "address": {
        "hf://": Entry("peregrine.data.hub:fetch", "hub", "Parquet files on the Hugging Face hub"),
    },
    # what of `data check` needs a library of its own
    "check": {
        "label-error": Entry("peregrine.data.checks.labels", "check"),
    },
    # what arrays and tables are computed with, by device; see `peregrine.device`
    "arrays": {
        "cuda": Entry("peregrine.libraries.cupy", "rapids"),
    },
    "tables": {
        "cpu": Entry("peregrine.libraries.pandas"),
        "cuda": Entry("peregrine.libraries.cudf", "rapids"),
    },
    "engine": {
        "tensorflow": Entry("peregrine.engines.tensorflow.engine:TensorFlowEngine", "tensorflow"),
        "pytorch": Entry("peregrine.engines.pytorch.engine:PyTorchEngine", "torch"),
    },
    # engine/model -> a module with `Options` and `build`
    "model": {
        "tensorflow/cnn": Entry(
            "peregrine.engines.tensorflow.models.cnn", "tensorflow", "the classic Keras CNN, three convolutions"
        ),
        "tensorflow/resnet": Entry(
            "peregrine.engines.tensorflow.models.resnet", "tensorflow", "the CIFAR ResNet with pre-activation, depth 20"
        ),
        "tensorflow/efficientnet": Entry(
            "peregrine.engines.tensorflow.models.efficientnet",
            "tensorflow",
            "EfficientNetB0, trained on ImageNet before",
        ),
        "tensorflow/sprint": Entry(
            "peregrine.engines.tensorflow.models.sprint", "tensorflow", "PyTorch's sprint, layer for layer"
        ),
        "pytorch/sprint": Entry(
            "peregrine.engines.pytorch.models.sprint", "torch", "whitening and six convolutions, built for speed"
        ),
        "pytorch/resnet18": Entry(
            "peregrine.engines.pytorch.models.resnet18",
            "torch",
            "ResNet-18 with torchvision's names, so that its weights fit",
        ),
    },
    # how an engine's checkpoints tell what they are
    "record": {
        "tensorflow": Entry("peregrine.engines.tensorflow.record:read_record", "tensorflow"),
        "pytorch": Entry("peregrine.engines.pytorch.record:read_record", "torch"),
    },
    # what opens somebody's model, by the kind of its file
    "foreign": {
        "onnx": Entry("peregrine.foreign.onnx:open_model", summary=".onnx"),
        "keras": Entry("peregrine.foreign.keras:open_model", "tensorflow", ".keras and .h5"),
        "savedmodel": Entry("peregrine.foreign.savedmodel:open_model", "tensorflow", "a folder with saved_model.pb"),
    },
    # where first weights come from, by the start of their address
    "weights": {
        "hf://": Entry("peregrine.engines.hub:fetch", "hub"),
    },
    # source format _to_ target format, with _ for -
    "edge": {
        "keras_to_onnx": Entry("peregrine.export.keras_to_onnx:convert", "tensorflow"),
        "keras_to_h5": Entry("peregrine.export.keras_to_h5:convert", "tensorflow"),
        "keras_to_savedmodel": Entry("peregrine.export.keras_to_savedmodel:convert", "tensorflow"),
        "keras_to_tflite": Entry("peregrine.export.keras_to_tflite:convert", "tensorflow"),
        "keras_to_tflite_fp16": Entry("peregrine.export.keras_to_tflite_fp16:convert", "tensorflow"),
        "keras_to_tflite_dynamic": Entry("peregrine.export.keras_to_tflite_dynamic:convert", "tensorflow"),
        "keras_to_tflite_int8": Entry("peregrine.export.keras_to_tflite_int8:convert", "tensorflow,litert"),
        "torch_to_onnx": Entry("peregrine.export.torch_to_onnx:convert", "torch"),
        "torch_to_keras": Entry("peregrine.export.torch_to_keras:convert", "tensorflow,torch"),
        "onnx_to_onnx_fp16": Entry("peregrine.export.onnx_to_onnx_fp16:convert"),
        "onnx_to_onnx_int8": Entry("peregrine.export.onnx_to_onnx_int8:convert"),
        "onnx_to_onnx_int8_symmetric": Entry("peregrine.export.onnx_to_onnx_int8_symmetric:convert"),
        "onnx_to_openvino": Entry("peregrine.export.onnx_to_openvino:convert", "openvino"),
        "onnx_to_openvino_int8": Entry("peregrine.export.onnx_to_openvino_int8:convert", "openvino"),
        # one path: the precision of a plan is that of the graph it is made from
        "onnx_to_tensorrt": Entry("peregrine.export.onnx_to_tensorrt:convert", "tensorrt"),
        "onnx_fp16_to_tensorrt_fp16": Entry("peregrine.export.onnx_to_tensorrt:convert", "tensorrt"),
        "onnx_int8_symmetric_to_tensorrt_int8": Entry("peregrine.export.onnx_to_tensorrt:convert", "tensorrt"),
    },
    # the model's file -> what writes it again for batches of one size
    "static": {
        "model.onnx": Entry("peregrine.export.static_onnx:fix"),
        "model.xml": Entry("peregrine.export.static_openvino:fix", "openvino"),
    },
    "runtime": {
        "fake": Entry("peregrine.runtimes.fake:FakeRuntime", summary="a test double with a fixed answer"),
        "keras": Entry("peregrine.runtimes.keras:KerasRuntime", "tensorflow", "Keras on TensorFlow"),
        "savedmodel": Entry("peregrine.runtimes.savedmodel:SavedModelRuntime", "tensorflow", "TensorFlow's SavedModel"),
        "tflite": Entry("peregrine.runtimes.tflite:TfliteRuntime", "litert", "LiteRT on the CPU"),
        "torch": Entry("peregrine.runtimes.torch:TorchRuntime", "torch", "PyTorch eager"),
        "onnxruntime": Entry("peregrine.runtimes.onnxruntime:OnnxRuntime", summary="ONNX Runtime"),
        "openvino": Entry("peregrine.runtimes.openvino:OpenVinoRuntime", "openvino", "OpenVINO on the CPU"),
        "tensorrt": Entry("peregrine.runtimes.tensorrt:TensorRtRuntime", "tensorrt", "TensorRT, or TensorRT-RTX"),
    },
    # what drives a benchmark
    "driver": {
        "plain": Entry("peregrine.stages.drivers.plain:Plain", summary="a loop"),
        "loadgen": Entry("peregrine.stages.drivers.loadgen:LoadGen", "loadgen", "MLCommons LoadGen"),
    },
    # what a worker process can be asked to do
    "task": {
        "convert": Entry("peregrine.export.base:convert_task"),
        "fix-batch": Entry("peregrine.export.base:fix_batch_task"),
        "predict": Entry("peregrine.runtimes.base:predict_task"),
        "inspect-model": Entry("peregrine.foreign.base:inspect_task"),
        "import-model": Entry("peregrine.foreign.base:import_task"),
        "explain": Entry("peregrine.divergence:explain_task"),
        "measure": Entry("peregrine.stages.measuring:measure_task"),
        "answer": Entry("peregrine.stages.answers:answer_task"),
    },
    # what the verbs of the command line call
    "stage": {
        "train": Entry("peregrine.stages.training:train"),
        "evaluate": Entry("peregrine.stages.evaluating:evaluate"),
        "export": Entry("peregrine.stages.exporting:attempt"),
        "benchmark": Entry("peregrine.stages.benchmarking:attempt"),
        "best": Entry("peregrine.stages.choosing:attempt"),
        "compare": Entry("peregrine.stages.comparing:compare"),
        "predict": Entry("peregrine.stages.predicting:predict"),
        "import": Entry("peregrine.stages.importing:import_model"),
        "sample": Entry("peregrine.stages.predicting:sample"),
        "report": Entry("peregrine.stages.reporting:report"),
        "watch": Entry("peregrine.stages.reporting.watching:watch"),
        "run": Entry("peregrine.stages.pipeline:attempt"),
        "load": Entry("peregrine.data.sources:load_dataset"),
        "origin": Entry("peregrine.engines.origin:find_origin"),
        "fetch": Entry("peregrine.data.sources:fetch"),
        "check": Entry("peregrine.data.checks.examine:check"),
        "check-page": Entry("peregrine.data.checks.page:write"),
        "check-table": Entry("peregrine.data.checks.table:write"),
        "exclude": Entry("peregrine.data.checks.excluding:exclude"),
        "statistics": Entry("peregrine.data.stats:describe"),
        "export-data": Entry("peregrine.data.exporting:export"),
        "diagnose": Entry("peregrine.stages.diagnosing:diagnose"),
        "formats": Entry("peregrine.stages.diagnosing:format_states"),
    },
}


def find(kind: str, key: str) -> Entry:
    """Look an entry up; an unknown key is a `UsageError` that lists the known ones."""
    entries = CATALOG[kind]
    if key not in entries:
        raise UsageError(f"unknown {kind} {key!r}{suggestion(key, entries)}; known: {', '.join(entries)}")
    return entries[key]


def load(kind: str, key: str) -> Any:
    """Import and return what an entry names: a module, or an attribute of one.

    Raises:
        UsageError: the key is unknown.
        MissingDependency: a library that the piece needs is not installed; the message names the extra.
    """
    entry = find(kind, key)
    module, _, attribute = entry.target.partition(":")
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "peregrine":
            raise
        extra = entry.extra or "cpu"
        raise MissingDependency(
            f"{kind} {key} needs the library {error.name.partition('.')[0]!r}, which is not installed; "
            f"run: pip install 'peregrine[{extra}]'"
        ) from error
    return getattr(loaded, attribute) if attribute else loaded
