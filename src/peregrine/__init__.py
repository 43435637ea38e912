"""Peregrine: from labelled images to the fastest classifier that is still provably right.

    import peregrine

    splits = peregrine.load_dataset("cifar10")
    artifact = peregrine.train(splits, "sprint-quick")
    peregrine.export(artifact, "onnx")
    with peregrine.open(artifact) as model:
        probabilities = model.predict(model.preprocess.fit_array(splits.test.images))

Names are imported when they are first used, so `import peregrine` itself costs next to nothing.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peregrine.artifact import Artifact as Artifact
    from peregrine.candidate import Candidate as Candidate
    from peregrine.data.sources import load_dataset as load_dataset
    from peregrine.dataset import Dataset as Dataset
    from peregrine.dataset import Splits as Splits
    from peregrine.recipe import Recipe as Recipe
    from peregrine.recipe import load_recipe as load_recipe
    from peregrine.rundir import RunDirectory as RunDirectory
    from peregrine.runtimes.base import Runtime as Runtime
    from peregrine.stages.benchmarking import benchmark as benchmark
    from peregrine.stages.choosing import best as best
    from peregrine.stages.comparing import compare as compare
    from peregrine.stages.evaluating import evaluate as evaluate
    from peregrine.stages.exporting import export as export
    from peregrine.stages.importing import import_model as import_model
    from peregrine.stages.opening import open_model as open  # noqa: F401 - in _HOMES, as all of these
    from peregrine.stages.pipeline import run as run
    from peregrine.stages.predicting import predict as predict
    from peregrine.stages.reporting import report as report
    from peregrine.stages.training import train as train

__version__ = "0.1.0"

_HOMES = {
    "Artifact": "artifact",
    "Candidate": "candidate",
    "Dataset": "dataset",
    "Recipe": "recipe",
    "RunDirectory": "rundir",
    "Runtime": "runtimes.base",
    "Splits": "dataset",
    "benchmark": "stages.benchmarking",
    "best": "stages.choosing",
    "compare": "stages.comparing",
    "evaluate": "stages.evaluating",
    "export": "stages.exporting",
    "import_model": "stages.importing",
    "load_dataset": "data.sources",
    "load_recipe": "recipe",
    "open": "stages.opening",
    "predict": "stages.predicting",
    "report": "stages.reporting",
    "run": "stages.pipeline",
    "train": "stages.training",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the keys are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'peregrine' has no attribute {name!r}")
    module = importlib.import_module(f"peregrine.{_HOMES[name]}")
    value = getattr(module, "open_model" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """This package, in which a folder does not take the place of the verb of the same name.

    Python makes every imported submodule an attribute of its package: `peregrine.export` would be the verb until
    somebody imports from the folder `export`.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
