"""The shortest way from one format to another."""

import pytest

from peregrine import catalog
from peregrine.catalog import Entry
from peregrine.errors import UsageError
from peregrine.export.routes import Step, reachable, route, steps, takes_static


@pytest.fixture
def roads(monkeypatch: pytest.MonkeyPatch) -> None:
    """keras → savedmodel → tflite → tflite-int8, a short cut keras → tflite, and a way back."""
    edges = [
        "keras_to_savedmodel",
        "savedmodel_to_tflite",
        "keras_to_tflite",
        "tflite_to_tflite_int8",
        "tflite_to_keras",
    ]
    monkeypatch.setitem(catalog.CATALOG, "edge", dict.fromkeys(edges, Entry("")))


@pytest.mark.usefixtures("roads")
class TestRoutes:
    def test_edges_are_read_from_their_names(self) -> None:
        assert steps()[3] == Step("tflite_to_tflite_int8", "tflite", "tflite-int8")

    def test_the_shortest_is_taken(self) -> None:
        assert [step.edge for step in route("keras", "tflite-int8")] == ["keras_to_tflite", "tflite_to_tflite_int8"]

    def test_nowhere_to_go_is_an_empty_route(self) -> None:
        assert route("keras", "keras") == []

    def test_the_nearest_come_first(self) -> None:
        assert reachable("keras") == ["savedmodel", "tflite", "tflite-int8"]
        assert reachable("tflite-int8") == []

    def test_no_way(self) -> None:
        with pytest.raises(
            UsageError, match=r"^tflite cannot become onnx; it can become tflite-int8, keras, savedmodel$"
        ):
            route("tflite", "onnx")
        with pytest.raises(UsageError, match=r"^tflite-int8 cannot become onnx; it can become nothing else$"):
            route("tflite-int8", "onnx")


def test_both_engines_reach_onnx() -> None:
    assert [step.edge for step in route("keras", "onnx")] == ["keras_to_onnx"]
    assert [step.edge for step in route("torch", "onnx")] == ["torch_to_onnx"]


def test_pytorchs_networks_go_to_keras_for_what_is_made_of_keras_alone() -> None:
    assert [step.edge for step in route("torch", "keras")] == ["torch_to_keras"]
    by_keras = {format for format in reachable("torch") if "torch_to_keras" in {s.edge for s in route("torch", format)}}
    assert not {format for format in by_keras if format.startswith(("onnx", "openvino", "tensorrt"))}


def test_what_can_have_a_static_batch() -> None:
    assert takes_static("torch", "onnx-int8")
    assert takes_static("keras", "openvino")
    assert takes_static("torch", "tensorrt-int8"), "a plan is made of an ONNX file that has it"
    assert not takes_static("torch", "torch")


def test_only_what_goes_to_int8_needs_images() -> None:
    calibrating = {step.edge for step in steps() if step.calibrates}
    assert calibrating == {
        "keras_to_tflite_int8",
        "onnx_to_onnx_int8",
        "onnx_to_onnx_int8_symmetric",
        "onnx_to_openvino_int8",
    }
    assert not Step("onnx_int8_to_openvino_int8", "onnx-int8", "openvino-int8").calibrates
