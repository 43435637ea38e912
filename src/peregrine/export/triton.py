"""A Triton model repository: one folder per Artifact, with what NVIDIA's inference server needs to serve it.

    DIR/photos-onnx/
      config.pbtxt    inputs, outputs, dynamic batching, warm-up
      labels.txt      class names, in the order of the probabilities
      1/model.onnx    the model's files, as they were proved

Source: Triton's model configuration, and the README of each backend.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peregrine import files
from peregrine.artifact import Artifact
from peregrine.errors import CheckFailed, UsageError

# The model's file -> Triton's backend, which is the runtime of ours that has to have proved it.
BACKENDS = {"model.onnx": "onnxruntime", "model.xml": "openvino", "model.plan": "tensorrt"}
LARGEST_BATCH = 250
QUEUE_MICROSECONDS = 500  # how long an image waits for others


def is_served(artifact_file: str) -> bool:
    """Whether Triton has a backend for the model's file of a format."""
    return artifact_file in BACKENDS


def write_model(artifact: Artifact, repository: Path, name: str) -> Path:
    """Write one model into a repository, in place of an earlier one of that name.

    Args:
        name: of the model in requests; characters that Triton's addresses cannot hold become hyphens, with a few
            letters of the name's digest behind it, so that two such names stay two.

    Returns:
        The model's folder.

    Raises:
        UsageError: Triton has no backend for this format.
        CheckFailed: the backend's runtime was not proved to predict what the trained model predicts, or the plan is
            TensorRT-RTX's, which Triton does not load.
    """
    proved = _proof(artifact)
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    folder = repository / (safe if safe == name else f"{safe}-{digest[:8]}")
    with files.writing_folder(folder) as temporary:
        version = temporary / "1"
        for part in artifact.manifest.files:
            (version / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.path / part, version / part)
        labels = [" ".join(label.split()) for label in artifact.manifest.class_names]
        files.write_text(temporary / "labels.txt", "\n".join(labels) + "\n")
        files.write_text(temporary / "config.pbtxt", config(artifact, folder.name, proved["provider"]))
    return folder


def config(artifact: Artifact, name: str, provider: str) -> str:
    """The content of config.pbtxt, a `ModelConfig` in protobuf's text format.

    Args:
        provider: where the model was proved, `cpu` or `cuda`, and is run.
    """
    backend = BACKENDS[artifact.format.file]
    parts = [
        f"name: {_quoted(name)}",
        f"backend: {_quoted(backend)}",
        f"default_model_filename: {_quoted(artifact.format.file)}",
        *(_any_batch(artifact) if artifact.batch is None else _static_batch(artifact, artifact.batch)),
        f"instance_group [ {{ count: 1 kind: {'KIND_GPU' if provider == 'cuda' else 'KIND_CPU'} }} ]",
        _parameter("peregrine_artifact", artifact.id),
    ]
    if backend == "tensorrt":
        parts.append("optimization { cuda { graphs: true } }")
    if backend == "openvino":
        parts.append(_parameter("PERFORMANCE_HINT", "THROUGHPUT"))
    return "\n".join(parts) + "\n"


def _any_batch(artifact: Artifact) -> list[str]:
    """Of a model with a free batch: Triton makes batches of the requests that wait."""
    manifest = artifact.manifest
    largest = manifest.notes.get("batch", {}).get("largest", LARGEST_BATCH)
    image = [manifest.preprocess.size, manifest.preprocess.size, 3]
    return [
        f"max_batch_size: {largest}",
        _images(image),
        _probabilities([len(manifest.class_names)], 'label_filename: "labels.txt"'),
        f"dynamic_batching {{ preferred_batch_size: [ {largest} ] "
        f"max_queue_delay_microseconds: {QUEUE_MICROSECONDS} }}",
        *(_warmup(count, image) for count in sorted({1, largest})),
    ]


def _static_batch(artifact: Artifact, batch: int) -> list[str]:
    """Of a model with a batch of one size: to Triton it has none, each request is one whole batch.

    A label would be that of the most probable number in the whole batch, so none is given.
    """
    manifest = artifact.manifest
    images = [batch, manifest.preprocess.size, manifest.preprocess.size, 3]
    return [
        "max_batch_size: 0",
        _images(images),
        _probabilities([batch, len(manifest.class_names)]),
        _warmup(1, images),
    ]


def _proof(artifact: Artifact) -> Mapping[str, Any]:
    """The parity row of the Candidate that Triton runs."""
    format, backend = artifact.format.name, BACKENDS.get(artifact.format.file)
    if backend is None:
        raise UsageError(f"Triton serves {', '.join(BACKENDS)}; a {format} artifact is a {artifact.format.file}")
    library = artifact.manifest.notes.get("library", backend)
    if backend == "tensorrt" and library != "tensorrt":
        raise CheckFailed(
            f"Triton loads plans of the package tensorrt; this one is {library}'s; build it where tensorrt is installed"
        )
    rows = [row for row in artifact.evidence().get("parity", {}).values() if row["runtime"] == backend]
    # In whichever precision: a backend takes bfloat16 where the processor has it, and cannot be told not to.
    if not rows or any(row["verdict"] == "failed" for row in rows):
        found = "it failed" if rows else "nothing is known of it"
        raise CheckFailed(
            f"Triton is given what {backend} was proved to run; of this {format} {found}; see `peregrine export`"
        )
    return dict(rows[0])


def _images(shape: Sequence[int]) -> str:
    return f'input [ {{ name: "images" data_type: TYPE_UINT8 dims: {list(shape)} }} ]'


def _probabilities(shape: Sequence[int], more: str = "") -> str:
    return f'output [ {{ name: "probabilities" data_type: TYPE_FP32 dims: {list(shape)} {more} }} ]'


def _warmup(count: int, shape: Sequence[int]) -> str:
    """Images of noise at one batch size, run before the model is ready."""
    return (
        f'model_warmup [ {{ name: "batch-{count}" batch_size: {count} inputs {{ key: "images" value '
        f"{{ data_type: TYPE_UINT8 dims: {list(shape)} random_data: true }} }} }} ]"
    )


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"


def _quoted(text: str) -> str:
    return json.dumps(text)
