"""What a verb was pointed at: a run or an Artifact, and the data that belongs to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peregrine.artifact import Artifact
from peregrine.data.sources import load_dataset
from peregrine.dataset import Splits
from peregrine.errors import CheckFailed, UsageError
from peregrine.preprocess import Preprocess
from peregrine.rundir import RunDirectory
from peregrine.stages.preparing import divided, in_class_order


@dataclass(frozen=True)
class Target:
    """A run with its Artifacts, or one Artifact, inside a run or alone.

    Attributes:
        artifact: what was named; of a run, its ancestor.
        run: the run that it lies in, or None.
    """

    artifact: Artifact
    run: RunDirectory | None
    whole_run: bool

    @classmethod
    def find(cls, target: "str | Path | Artifact | RunDirectory") -> "Target":
        """Find out what `target` is, and verify it.

        Raises:
            UsageError: neither a run nor an Artifact, or a run that has not finished training.
            DamagedFile: an Artifact that is not what its manifest says.
        """
        if isinstance(target, RunDirectory):
            return cls(target.ancestor(), target, whole_run=True)
        path = target.path if isinstance(target, Artifact) else Path(target)
        if (path / "run.json").is_file():
            return cls.find(RunDirectory.open(path))
        if not (path / "manifest.json").is_file():
            found = "nothing is there" if not path.exists() else "it is something else"
            raise UsageError(f"expected a run or an artifact at {path}; {found}; `peregrine runs` lists runs")
        artifact = target if isinstance(target, Artifact) else Artifact.open(path)
        owner = path.absolute().parent.parent
        return cls(artifact, RunDirectory(owner) if (owner / "run.json").is_file() else None, whole_run=False)

    def splits(self, data: str | Path | Splits | None = None) -> Splits:
        """The data to judge this model with, in its class order and at its size.

        Args:
            data: data of one's own; None takes what the run was trained on, and checks that it is still the same.

        Raises:
            UsageError: there is no run that tells the data.
            DataError: the data has classes that the model does not know.
            CheckFailed: the run's data has changed.
        """
        preprocess = self.artifact.manifest.preprocess
        if data is None:
            splits = self._own_splits(preprocess)
        elif isinstance(data, Splits):
            splits = data
        else:
            splits = load_dataset(data, size=preprocess.size, resize=preprocess.resize)
        recipe = self.artifact.manifest.recipe  # of an imported model it says no more than this
        splits = divided(splits, preprocess.size, preprocess.resize, recipe["validation"], recipe["seed"])
        return in_class_order(splits, self.artifact.manifest.class_names)

    def _own_splits(self, preprocess: Preprocess) -> Splits:
        record: dict[str, Any] = self.run.read()["data"] if self.run else {"source": "memory"}
        if record["source"] == "memory":
            raise UsageError(f"{self.artifact.path} does not tell where its data is; give it with --data")
        # How many files may be unreadable was decided when the run began; the fingerprint tells whether that changed.
        splits = load_dataset(record["source"], size=preprocess.size, resize=preprocess.resize, max_bad=1.0)
        if splits.test.fingerprint != record["fingerprints"]["test"]:
            raise CheckFailed(
                f"the test images in {record['source']} are not those of the run any more; restore them, or judge the "
                "model on them as new data with --data"
            )
        return splits
