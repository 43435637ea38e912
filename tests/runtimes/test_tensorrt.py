"""What a plan is bound to, and what only a GPU can show: the latter is skipped elsewhere, with the reason."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt is not installed")
import torch

import onnx_making
import tiny
from peregrine import catalog
from peregrine.artifact import ANCESTOR, Artifact, Golden
from peregrine.candidate import default_candidate
from peregrine.errors import CheckFailed, MissingDependency, MissingDevice
from peregrine.export.base import convert_task
from peregrine.host import Gpu, find_gpu
from peregrine.libraries.tensorrt import name, trt
from peregrine.runtimes.base import Runtime

pytestmark = pytest.mark.tensorrt
gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(
    find_gpu() is None or not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a PyTorch with CUDA"
)
EDGES = {
    "fp32": ("onnx", "onnx_to_tensorrt", "tensorrt"),
    "fp16": ("onnx-fp16", "onnx_fp16_to_tensorrt_fp16", "tensorrt-fp16"),
    "int8": ("onnx-int8-symmetric", "onnx_int8_symmetric_to_tensorrt_int8", "tensorrt-int8"),
}
LIMITS = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.1}


def of_precision(precision: str, folder: Path) -> tuple[Artifact, Artifact]:
    """A float32 ONNX file, and the plan of that precision."""
    model = onnx_making.network()
    reference = onnx_making.write(folder / "reference", model)
    if precision == "fp16":
        model = onnx_making.half(model)
    elif precision == "int8":
        model = onnx_making.quantised(model, folder / "quantising")
    format, edge, target = EDGES[precision]
    source = onnx_making.write(folder / "source", model, format)
    convert_task(edge, str(source.path), str(folder / target), target)
    return reference, Artifact.open(folder / target)


def plan(path: Path, notes: dict[str, Any]) -> Artifact:
    """A plan that no library has to like."""
    golden = Golden(tiny.images(2), {ANCESTOR: tiny.answers(2)})
    with Artifact.write(path, format="tensorrt", like=tiny.like(), golden=golden, notes=notes) as folder:
        (folder / "model.plan").write_bytes(b"a plan")
    return Artifact.open(path)


BOUND = {
    "library": name(),
    "version": trt.__version__,
    "capabilities": ["8.9"],
    "batch": {"smallest": 1, "usual": 250, "largest": 250},
}


@pytest.mark.parametrize(
    ("capability", "cuda", "notes", "error", "message"),
    [
        ("9.0", True, {}, MissingDevice, r"runs on GPUs of compute capability 8\.9; Some GPU has 9\.0; export the mo"),
        ("8.9", False, {}, MissingDependency, r"needs a PyTorch with CUDA for its memory; this one is built without"),
        ("8.9", True, {"version": "0.1"}, CheckFailed, rf"is bound to .*, {name()} 0\.1; here is {name()} \d+\.\d+"),
    ],
)
def test_a_plan_is_bound_to_device_and_version(
    capability: str,
    cuda: bool,
    notes: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The device is made up; what is refused comes before anything touches it."""
    module = catalog.load("runtime", "tensorrt").__module__
    monkeypatch.setattr("peregrine.libraries.tensorrt.find_gpu", lambda: Gpu("Some GPU", capability))
    monkeypatch.setattr(f"{module}.torch.cuda.is_available", lambda: cuda)
    candidate = default_candidate(plan(tmp_path / "plan", {**BOUND, **notes}))
    with pytest.raises(error, match=message):
        candidate.open()


def test_batches_are_filled_up_to_powers_of_two() -> None:
    from peregrine.runtimes.tensorrt import _filled

    assert [_filled(count, 250) for count in (1, 2, 3, 8, 9, 128, 129, 249, 250)] == [
        1, 2, 4, 8, 16, 128, 250, 250, 250,
    ]  # fmt: skip


@pytest.fixture(params=EDGES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Runtime, Artifact]]:
    reference, made = of_precision(request.param, tmp_path)
    with default_candidate(made).open() as runtime:
        yield runtime, reference


@gpu
@needs_gpu
def test_an_engine_predicts_what_its_file_predicts(opened: tuple[Runtime, Artifact]) -> None:
    runtime, reference = opened
    images = tiny.images(1000, seed=3)
    limit = LIMITS[runtime.artifact.manifest.precision]
    assert runtime.provider == "cuda"
    with default_candidate(reference).open() as before:
        for count in (0, 1, 3, 250, 251, 1000):
            np.testing.assert_allclose(runtime.predict(images[:count]), before.predict(images[:count]), atol=limit)


@gpu
@needs_gpu
def test_graphs_are_recorded_once_for_each_size(opened: tuple[Runtime, Artifact]) -> None:
    runtime, _ = opened
    images = tiny.images(250)
    together = runtime.predict(images)
    for _ in range(3):
        for count in (1, 5, 6, 7, 250):
            np.testing.assert_allclose(runtime.predict(images[:count]), together[:count], atol=1e-2)
    assert sorted(runtime._graphs) == [1, 8, 250]  # type: ignore[attr-defined]


@gpu
@needs_gpu
def test_two_threads_share_the_buffers(opened: tuple[Runtime, Artifact]) -> None:
    runtime, _ = opened
    images = tiny.images(200, seed=4)
    expected = runtime.predict(images)
    answers: dict[int, Any] = {}

    def ask(half: int) -> None:
        answers[half] = [runtime.predict(images[half::2]) for _ in range(20)]

    threads = [threading.Thread(target=ask, args=(half,)) for half in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for half in (0, 1):
        for answer in answers[half]:
            np.testing.assert_allclose(answer, expected[half::2], atol=1e-2)


@gpu
@needs_gpu
def test_closing_gives_the_memory_back(tmp_path: Path) -> None:
    _, made = of_precision("fp32", tmp_path)
    before = torch.cuda.memory_allocated()
    runtime = default_candidate(made).open()
    runtime.predict(tiny.images(10))
    assert torch.cuda.memory_allocated() > before
    runtime.close()
    assert torch.cuda.memory_allocated() == before
