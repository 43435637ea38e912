"""What every conversion promises; a new one needs no line here."""

import numpy as np
import onnx
import pytest

import small_runs
from peregrine.artifact import Artifact
from peregrine.candidate import default_candidate
from peregrine.export import routes
from workshop import ANCESTORS, Workshop, ancestor_of, engine_marks

LARGEST = {"fp32": 1e-4, "fp16": 1e-2, "int8": 0.2}  # |Δp| against the ancestor, by the precision of the result
pytestmark = pytest.mark.parametrize(
    "edge",
    [pytest.param(step.edge, marks=engine_marks(ANCESTORS[ancestor_of(step.source)])) for step in routes.steps()],
)


@pytest.fixture
def exported(edge: str, workshop: Workshop) -> Artifact:
    return workshop.exported(edge)


@pytest.fixture
def source(edge: str, workshop: Workshop) -> Artifact:
    return workshop.artifact(next(step.source for step in routes.steps() if step.edge == edge))


def test_predicts_what_its_source_predicts(exported: Artifact, source: Artifact) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, small_runs.SIZE, small_runs.SIZE, 3), np.uint8)
    limit = LARGEST[exported.manifest.precision]
    small_runs.need_device(default_candidate(exported))
    real = [small_runs.splits().test.images, exported.golden().images, small_runs.splits().test.images[:1]]
    # INT8 is calibrated for images like those of the training split.
    judged = real if exported.manifest.precision == "int8" else [noise, *real, noise[:1]]
    with default_candidate(source).open() as before, default_candidate(exported).open() as after:
        for images in judged:
            np.testing.assert_allclose(after.predict(images), before.predict(images), atol=limit)


def test_the_manifest_tells_where_it_comes_from(exported: Artifact, source: Artifact) -> None:
    manifest, parent = exported.manifest, source.manifest
    assert manifest.parent == source.id
    assert manifest.ancestor == source.root_id
    assert manifest.class_names == parent.class_names
    assert manifest.temperature == parent.temperature
    assert manifest.preprocess == parent.preprocess
    assert manifest.model == parent.model
    assert manifest.recipe == parent.recipe
    assert manifest.notes
    np.testing.assert_array_equal(exported.golden().images, source.golden().images)


def test_an_onnx_file_keeps_the_contract(exported: Artifact) -> None:
    if exported.model_path.suffix != ".onnx":
        pytest.skip("another format")
    assert list(exported.manifest.files) == ["model.onnx"]
    model = onnx.load(exported.model_path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    (images,), (probabilities,) = model.graph.input, model.graph.output
    assert described(images) == ("images", onnx.TensorProto.UINT8, ["N", small_runs.SIZE, small_runs.SIZE, 3])
    assert described(probabilities) == ("probabilities", onnx.TensorProto.FLOAT, ["N", len(small_runs.CLASSES)])
    assert [node.op_type for node in model.graph.node][:2] == ["Cast", "Transpose"]
    assert next(opset.version for opset in model.opset_import if not opset.domain) >= 17
    assert exported.manifest.notes["opset"] >= 17


def described(value: onnx.ValueInfoProto) -> tuple[str, int, list[str | int]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
