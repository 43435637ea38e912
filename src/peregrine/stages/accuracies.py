"""How right each Candidate is on a split: looked up where it is known, else predicted in a worker and kept."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from peregrine import metrics, progress, worker
from peregrine.artifact import Artifact
from peregrine.candidate import Candidate
from peregrine.dataset import Splits
from peregrine.errors import CheckFailed, MissingDependency, MissingDevice
from peregrine.rundir import RunDirectory
from peregrine.stages.exporting import images_file


class Accuracies:
    """Of a run's Candidates, each from its Artifact's evidence, or from a process of its own and into the evidence.

    Args:
        run: locked by the caller, as the evidence is written.
        splits: in the models' class order.
        stack: removes what was written for the workers.

    Attributes:
        problems: why an accuracy is not known, in words.
    """

    def __init__(self, run: RunDirectory, splits: Splits, stack: ExitStack) -> None:
        self.problems: list[str] = []
        self._run, self._splits, self._stack = run, splits, stack
        self._images: dict[str, Path] = {}  # of each split
        self._found: dict[tuple[str, str], dict[str, Any]] = {}

    def of(self, candidate: Candidate, artifact: Artifact, split: str) -> dict[str, Any]:
        """`images`, `accuracy` and its 95% `accuracy_interval`; None each where the Candidate cannot be run."""
        key = (candidate.key, split)
        if key not in self._found:
            try:
                self._found[key] = self._recorded(candidate, artifact, split) or self._predicted(
                    candidate, artifact, split
                )
            except (CheckFailed, MissingDependency, MissingDevice) as error:
                self.problems.append(f"the {split} accuracy of {candidate.key} is not known: {error}")
                self._found[key] = dict.fromkeys(("images", "accuracy", "accuracy_interval"))
        return self._found[key]

    def known(self, key: str, split: str) -> dict[str, Any]:
        """The accuracy as far as it had to be looked at, for the table."""
        return {f"{split}_accuracy": self._found.get((key, split), {}).get("accuracy")}

    def _recorded(self, candidate: Candidate, artifact: Artifact, split: str) -> dict[str, Any] | None:
        fingerprint, evidence = self._splits.part(split).fingerprint, artifact.evidence()
        evaluated = evidence.get(f"evaluation:{split}:{fingerprint[:12]}", {})
        if evaluated.get("candidate") == candidate.key:
            return {key: evaluated[key] for key in ("images", "accuracy", "accuracy_interval")}
        proof = evidence.get("parity", {}).get(candidate.key, {})
        if split == "test" and proof.get("fingerprint") == fingerprint:
            return _accuracy(round(proof["accuracy"] * proof["images"]), proof["images"])
        kept: dict[str, Any] | None = evidence.get(self._topic(split), {}).get(candidate.key)
        return kept

    def _predicted(self, candidate: Candidate, artifact: Artifact, split: str) -> dict[str, Any]:
        part = self._splits.part(split)
        if split not in self._images:
            self._images[split] = self._stack.enter_context(images_file(part.images, self._run.cache))
        images = self._images[split]
        output = images.with_name("answers.npz")
        arguments = {"candidate": candidate.to_dict(), "images": str(images), "output": str(output)}
        with progress.bar(f"{split} accuracy of {candidate.key}", total=None):
            limit = worker.time_limit(len(part))
            worker.call(f"best-{candidate.key}", self._run.logs, "predict", arguments, limit)
        with np.load(output, allow_pickle=False) as answers:
            right = int((answers["probabilities"].argmax(1) == part.labels).sum())
        figures = _accuracy(right, len(part))
        artifact.learn(self._topic(split), {**artifact.evidence().get(self._topic(split), {}), candidate.key: figures})
        return figures

    def _topic(self, split: str) -> str:
        return f"accuracy:{split}:{self._splits.part(split).fingerprint[:12]}"


def _accuracy(right: int, images: int) -> dict[str, Any]:
    return {
        "images": images,
        "accuracy": right / images,
        "accuracy_interval": list(metrics.wilson_interval(right, images)),
    }
