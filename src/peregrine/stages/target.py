"""What a verb was pointed at: a run or an Artifact, and the data that belongs to it."""

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peregrine.artifact import Artifact
from peregrine.data.sources import listing, load_dataset
from peregrine.dataset import Splits
from peregrine.errors import CheckFailed, UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages.preparing import divided, in_class_order, resized

logger = logging.getLogger("peregrine")


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

    @property
    def held_out(self) -> bool:
        """Whether the recipe keeps a validation part to make choices on, neither trained nor judged on."""
        return self.artifact.manifest.recipe["validation"] not in ("none", "test")

    def recorded(self, name: str) -> str | None:
        """The fingerprint of that part of the data when the run began; None where it is not known."""
        fingerprint: str | None = self._record().get("fingerprints", {}).get(name)
        return fingerprint

    def splits(self, data: str | Path | Splits | None = None, split: str = "test") -> Splits:
        """The data to judge this model with, in its class order and at its size.

        Args:
            data: data of one's own; None takes what the run was trained on, and checks that `split` is still the same.
                What tells no splits is all test, unless it is what the run was trained on, from another place.
            split: what is looked at; only of the run's data, or where it is asked for, a validation part is made.

        Raises:
            UsageError: there is no run that tells the data.
            DataError: the data has classes that the model does not know, or no such split.
            CheckFailed: the run's data has changed.
        """
        if data is None:
            own = self.own_splits()
            self.require(own, split)
            return own
        splits = self._given(data) if split == "test" else self.own_splits(data)
        for note in splits.notes:
            logger.info("%s", note)
        return splits

    def own_splits(self, data: str | Path | Splits | None = None) -> Splits:
        """The data that the run was trained on, divided as it was then; `require` tells whether it still is that.

        Args:
            data: where it is; None asks the run.

        Raises:
            UsageError: there is no run that tells the data.
            DataError: the data has classes that the model does not know.
        """
        preprocess = self.artifact.manifest.preprocess
        if data is None:
            # How many files may be unreadable was decided when the run began; `require` finds out whether that changed.
            splits = load_dataset(self._source(), size=preprocess.size, resize=preprocess.resize, max_bad=1.0)
        elif isinstance(data, Splits):
            splits = data
        else:
            splits = load_dataset(data, size=preprocess.size, resize=preprocess.resize)
        recipe = self.artifact.manifest.recipe  # of an imported model it says no more than this
        splits = divided(splits, preprocess.size, preprocess.resize, recipe["validation"], recipe["seed"])
        return in_class_order(splits, self.artifact.manifest.class_names)

    def require(self, splits: Splits, *names: str) -> None:
        """Refuse parts that are not those of the run.

        One image more to train on, and another tenth of them all is the validation part: most of it was trained on.

        Raises:
            DataError: there is no such part.
            CheckFailed: a part has other images than when the run began.
        """
        for name in names:
            if self.recorded(name) in (None, splits.part(name).fingerprint):
                continue
            if splits.source != self._record()["source"]:
                raise CheckFailed(
                    f"the {name} images in {splits.source} are not those of the run; give its own, or judge it on "
                    "others by `peregrine evaluate --data`"
                )
            fix = "train again with what is there now"
            if name == "test":
                fix = "judge the model on them as new data by `peregrine evaluate --data`"
            raise CheckFailed(
                f"the {name} images in {splits.source} are not those of the run any more; restore what was there when "
                f"it was trained, or {fix}"
            )

    def _given(self, data: str | Path | Splits) -> Splits:
        """Data of one's own, of which the test part is judged."""
        preprocess = self.artifact.manifest.preprocess
        splits = data if isinstance(data, Splits) else self._loaded(data)
        splits = resized(splits, preprocess.size, preprocess.resize)
        if self.recorded("test") == splits.test.fingerprint:
            return self.own_splits(splits)
        return in_class_order(splits, self.artifact.manifest.class_names)

    def _loaded(self, source: str | Path) -> Splits:
        """What is there, as a whole where it tells no splits.

        Of what the run was trained on, at another place, the test part alone is fit to be judged.
        """
        preprocess = self.artifact.manifest.preprocess
        load = functools.partial(load_dataset, source, size=preprocess.size, resize=preprocess.resize)
        found = listing(source, seed=None)
        if found is None or any(entry.split != "test" for entry in found.entries):
            return load()
        whole = load(seed=None)
        if len(whole.test) == self._recorded_images():
            own = load()
            if self.recorded("test") == own.test.fingerprint:
                return own
        if whole.source == self._record()["source"]:
            logger.warning(
                "%s has changed since the model was trained on it: "
                "it may have seen most of the %s images that are judged",
                whole.source,
                f"{len(whole.test):,}",
            )
        return whole

    def _recorded_images(self) -> int:
        """How many images the run's data had in all, counted once where validation was the test part."""
        record = self._record()
        images: dict[str, int] = record.get("images", {})
        parts = {record["fingerprints"][name]: count for name, count in images.items()}
        return sum(parts.values())

    def _source(self) -> str:
        source: str = self._record()["source"]
        if source == "memory":
            raise UsageError(f"{self.artifact.path} does not tell where its data is; give it with --data")
        return source

    def _record(self) -> dict[str, Any]:
        """What the run remembers of its data."""
        record: dict[str, Any] = self.run.read()["data"] if self.run else {"source": "memory"}
        return record
