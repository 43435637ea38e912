"""How a conversion to INT8 chooses: every calibrator, per channel and per weight; then layers that stay in float32.

The judged images decide, by mean |Δp| against the ancestor. Each quantiser brings a `Workbench`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from peregrine.artifact import Probabilities
from peregrine.dataset import Images
from peregrine.export.samples import Samples

Model = TypeVar("Model")
_RANKED_IMAGES = 256  # enough to rank layers by


@dataclass(frozen=True)
class Trial:
    """One way to quantise, and what came of it on the judged images.

    Attributes:
        calibrator: how ranges are found: `minmax`; `percentile`, which cuts off the outermost values; or `entropy`.
        per_channel: whether each output channel of a weight has a scale of its own.
        kept_in_fp32: the layers that are not quantised.
        difference: mean |Δp| against the ancestor.
        agreement: share of images with the ancestor's top class.
        accuracy_drop_points: accuracy lost, in percentage points.
    """

    calibrator: str
    per_channel: bool
    kept_in_fp32: tuple[str, ...]
    difference: float
    agreement: float
    accuracy_drop_points: float


@dataclass(frozen=True)
class Workbench(Generic[Model]):
    """What a quantiser can do with one model.

    Attributes:
        calibrators: the names of those it knows.
        layers: what has weights, by name.
        quantise: by a calibrator, per channel or not, all but the named layers.
        quantise_alone: likewise, but the named layer and nothing else.
        answer: the probabilities that a quantised model gives.
    """

    calibrators: Sequence[str]
    layers: Sequence[str]
    quantise: Callable[[str, bool, Sequence[str]], Model]
    quantise_alone: Callable[[str, bool, str], Model]
    answer: Callable[[Model, Images], Probabilities]


def search(workbench: Workbench[Model], samples: Samples) -> tuple[Model, dict[str, Any]]:
    """The model that differs least from the ancestor.

    Where it is beyond the limits of INT8, the layers that hurt most stay in float32: 1, 2, 4, … of them.

    Returns:
        The model, and notes for the manifest: what was chosen, and the trials.
    """
    trials = [
        _attempt(workbench, samples, calibrator, per_channel)
        for calibrator in workbench.calibrators
        for per_channel in (True, False)
    ]
    best = min(trials, key=lambda trial: trial.difference)
    ranking: list[str] = []
    while not samples.within_limits(best.agreement, best.accuracy_drop_points):
        ranking = ranking or _worst_first(workbench, samples, best)
        kept = 2 * len(trials[-1].kept_in_fp32) or 1
        if kept > len(ranking) // 2:  # half of it in float32 would be no INT8 model
            break
        trials.append(_attempt(workbench, samples, best.calibrator, best.per_channel, ranking[:kept]))
        best = min(trials[-1], best, key=lambda trial: trial.difference)
    model = workbench.quantise(best.calibrator, best.per_channel, best.kept_in_fp32)
    return model, {"chosen": asdict(best), "trials": [asdict(trial) for trial in trials]}


def _attempt(
    workbench: Workbench[Model], samples: Samples, calibrator: str, per_channel: bool, kept: Sequence[str] = ()
) -> Trial:
    """Quantise all but the layers `kept`, and judge."""
    answers = workbench.answer(workbench.quantise(calibrator, per_channel, kept), samples.judged)
    return Trial(
        calibrator=calibrator,
        per_channel=per_channel,
        kept_in_fp32=tuple(kept),
        difference=samples.difference(answers),
        agreement=samples.agreement(answers),
        accuracy_drop_points=samples.drop_points(answers),
    )


def _worst_first(workbench: Workbench[Model], samples: Samples, way: Trial) -> list[str]:
    """Layers by the harm that each does when it alone is quantised."""
    judged, expected = samples.judged[:_RANKED_IMAGES], samples.expected[:_RANKED_IMAGES]

    def harm(name: str) -> float:
        model = workbench.quantise_alone(way.calibrator, way.per_channel, name)
        return float(np.abs(workbench.answer(model, judged) - expected).mean())

    return sorted(workbench.layers, key=harm, reverse=True)
