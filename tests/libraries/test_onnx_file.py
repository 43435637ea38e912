"""An ONNX file is one file: whatever points outside of it is refused, wherever it hides."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_making
import tiny
from peregrine.artifact import ANCESTOR, Artifact, Golden
from peregrine.candidate import default_candidate
from peregrine.errors import CheckFailed, DamagedFile
from peregrine.libraries import onnx_file


def outside(name: str = "stolen", location: str = "../../secret.bin") -> Any:
    """A weight that another file holds."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def as_initializer(model: Any) -> None:
    model.graph.initializer.append(outside())


def as_constant(model: Any) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=outside()))


def as_one_of_several(model: Any) -> None:
    node = helper.make_node("Made", [], ["unused"], domain="some")
    node.attribute.append(helper.make_attribute("values", [numpy_helper.from_array(np.zeros(1)), outside()]))
    model.graph.node.append(node)


def as_sparse(model: Any) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(outside())


def in_a_subgraph(model: Any) -> None:
    branch = helper.make_graph([helper.make_node("Identity", ["stolen"], ["y"])], "branch", [], [], [outside()])
    model.graph.node.append(helper.make_node("If", ["c"], ["unused"], then_branch=branch, else_branch=branch))


def in_a_function(model: Any) -> None:
    function = model.functions.add(name="f", domain="some")
    function.node.append(helper.make_node("Constant", [], ["y"], value=outside()))


def said_by_half(model: Any) -> None:
    """A place is named; that it counts is not said."""
    model.graph.initializer.append(outside())
    model.graph.initializer[-1].data_location = TensorProto.DEFAULT


@pytest.mark.parametrize(
    "hide",
    [as_initializer, as_constant, as_one_of_several, as_sparse, in_a_subgraph, in_a_function, said_by_half],
)
def test_external_data_is_refused(hide: Any, tmp_path: Path) -> None:
    model = onnx_making.network()
    hide(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    for read in (onnx_file.read, onnx_file.load):
        with pytest.raises(CheckFailed) as caught:
            read(path)
        assert str(caught.value) == (
            f"an ONNX file holds its weights itself; {path} takes 'stolen' from '../../secret.bin'; "
            "save it as one file, without external data"
        )


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_refuses_it_too(runtime: str, tmp_path: Path) -> None:
    """The hashes are right, and so somebody made it who knows how."""
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    model = onnx_making.network()
    model.graph.initializer.remove(model.graph.initializer[0])
    model.graph.initializer.append(outside("mean", "model.onnx"))
    with Artifact.write(
        tmp_path / "onnx", format="onnx", like=tiny.like(), golden=Golden(tiny.images(1), {ANCESTOR: tiny.answers(1)})
    ) as folder:
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckFailed, match=r"takes 'mean' from 'model\.onnx'; save it as one file"):
        default_candidate(Artifact.open(tmp_path / "onnx"), runtime).open()


@pytest.mark.parametrize("content", [b"no model", b"\x08\xff"])
def test_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"model\.onnx is no ONNX file; export the model again$"):
        onnx_file.read(tmp_path / "model.onnx")


def test_what_is_whole_is_read_as_it_is(tmp_path: Path) -> None:
    model = onnx_making.network()
    onnx.save_model(model, tmp_path / "model.onnx")
    assert onnx_file.read(tmp_path / "model.onnx") == (tmp_path / "model.onnx").read_bytes()
    assert onnx_file.load(tmp_path / "model.onnx") == model
