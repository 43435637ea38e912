"""What `run` exports unasked: what can be the fastest on the machine at hand."""

import pytest

from peregrine import host
from peregrine.export.routes import reachable
from peregrine.formats import FORMATS
from peregrine.host import Gpu
from peregrine.stages.pipeline import FAST_ON_CPU, FAST_ON_GPU, winners


def test_a_processor_gets_the_formats_for_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_gpu", lambda: None)
    assert winners(reachable("torch")) == ["onnx", "onnx-int8", "openvino-int8"]
    assert winners(["keras"]) == []


def test_a_gpu_gets_engines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_gpu", lambda: Gpu("Some GPU", "8.9"))
    assert set(winners(reachable("torch"))) == {*FAST_ON_CPU, *FAST_ON_GPU}
    assert FORMATS.keys() >= {*FAST_ON_CPU, *FAST_ON_GPU}
