"""The pictures of a run, one plain function each: data in, one PNG out, atomically.

A title states what was found, with numbers; the line below it says how to read the picture. Both also stand in the
file's metadata, `Title` and `Description`, so that the report can tell in words what a picture shows.
"""

from peregrine.stages.plots.benchmark import benchmark
from peregrine.stages.plots.comparison import class_changes
from peregrine.stages.plots.coverage import coverage
from peregrine.stages.plots.evaluation import class_accuracy, confidence_distribution, confusion_matrix, reliability
from peregrine.stages.plots.frame import check_name
from peregrine.stages.plots.pareto import pareto
from peregrine.stages.plots.robustness import robustness
from peregrine.stages.plots.samples import mistakes, prediction_sample, prediction_samples
from peregrine.stages.plots.training import training_history

__all__ = [
    "benchmark",
    "check_name",
    "class_accuracy",
    "class_changes",
    "confidence_distribution",
    "confusion_matrix",
    "coverage",
    "mistakes",
    "pareto",
    "prediction_sample",
    "prediction_samples",
    "reliability",
    "robustness",
    "training_history",
]
