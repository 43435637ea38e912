"""One run on disk: `RunDirectory`, the only place that knows the layout. See the README for a picture of it."""

import contextlib
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from peregrine import files, host
from peregrine.artifact import Artifact
from peregrine.errors import DamagedFile, Interrupted, PeregrineError, UsageError, machine_error
from peregrine.recipe import Recipe, load_recipe, write_recipe
from peregrine.signals import Terminated

_WAY = ("train", "load", "run")  # the verbs that --resume goes on with


class _Taken(UsageError):
    """Something is where a new run should go, perhaps since a moment ago."""


@dataclass(frozen=True)
class RunDirectory:
    """A run's folder. Get one from `create` or `open`."""

    path: Path

    # ---- layout -------------------------------------------------------------------------------------------------

    @property
    def recipe_path(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def checkpoints(self) -> Path:
        """`best_model.*`, `latest_model.*` and `resume/`."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def cache(self) -> Path:
        """What can be computed again: the ancestor's answers; while a verb runs, the images for its workers."""
        return self.path / "cache"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def card_path(self) -> Path:
        return self.path / "model_card.md"

    @property
    def artifacts_folder(self) -> Path:
        return self.path / "artifacts"

    def artifact_path(self, format: str, batch: int | None = None) -> Path:
        """Of a format; what has a static batch lies beside the one that takes any: `onnx`, `onnx-batch8`."""
        return self.artifacts_folder / (f"{format}-batch{batch}" if batch else format)

    # ---- life ---------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, recipe: Recipe | None, data: dict[str, Any]) -> "RunDirectory":
        """Make a new run, with its resolved recipe (None where nothing is trained) and what it was given as data.

        Raises:
            UsageError: the folder exists and is not empty.
            MachineError: it cannot be written.
        """
        check_free(path)
        run = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            run.checkpoints.mkdir()  # of two processes that come at the same time, one fails here
        except FileExistsError:
            raise _Taken(f"a new run needs a new folder; {path} was just taken; choose another --run") from None
        except OSError as error:
            raise machine_error(error, path) from error
        try:
            for folder in (run.logs, run.results, run.artifacts_folder):
                folder.mkdir()
            if recipe is not None:
                write_recipe(recipe, run.recipe_path)
            content = {
                "schema": 1,
                "name": path.name,
                "status": "created",
                "created": now(),
                "data": data,
                "host": host.describe(),
                "versions": host.versions(),
                "verbs": [],
            }
            if recipe is None:
                content["imported"] = True
            files.write_json(path / "run.json", content)
        except OSError as error:
            shutil.rmtree(path, ignore_errors=True)  # so that the same command can be given again
            raise machine_error(error, path) from error
        return run

    @classmethod
    def create_new(
        cls, recipe: Recipe | None, data: dict[str, Any], folder: Path = Path("runs"), label: str = ""
    ) -> "RunDirectory":
        """`create` under a default name that no other process takes, however many begin in the same moment.

        Args:
            label: ends the name; by default the recipe's name does.
        """
        while True:
            with contextlib.suppress(_Taken):
                name = label or (recipe.name if recipe is not None else "run")
                return cls.create(new_run_path(name, folder), recipe, data)

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Open an existing run.

        Raises:
            UsageError: there is none at `path`.
        """
        folder = Path(path)
        if not (folder / "run.json").is_file():
            raise UsageError(f"a run is a folder with a run.json; found none at {folder}; `peregrine runs` lists runs")
        return cls(folder)

    def read(self) -> dict[str, Any]:
        """The content of run.json.

        Raises:
            DamagedFile: it is not JSON, or of another schema.
        """
        content = files.read_json(self.path / "run.json")
        if not isinstance(content, dict) or content.get("schema") != 1:
            raise DamagedFile(f"{self.path / 'run.json'} is not of schema 1; it was written by another version")
        return content

    def update(self, **changes: Any) -> None:
        """Replace keys of run.json."""
        files.write_json(self.path / "run.json", {**self.read(), **changes})

    def overview(self) -> dict[str, Any]:
        """What a list of runs says of this one; readable at any moment of the run's life."""
        try:
            content = self.read()
            result = self.results / "inference_results.json"
            return {
                "run": str(self.path),
                "status": self._status(content["status"]),
                "created": content["created"],
                "data": content["data"]["source"],
                "recipe": "–" if self.imported else self.recipe().name,
                "accuracy": files.read_json(result)["accuracy"] if result.is_file() else None,
            }
        except (PeregrineError, OSError) as error:
            reason = str(error)
        except (KeyError, TypeError):
            reason = f"{self.path / 'run.json'} or a result lacks what belongs there"
        unknown = dict.fromkeys(("created", "data", "recipe"), "–")
        return {"run": str(self.path), **unknown, "status": f"damaged: {reason}", "accuracy": None}

    def _status(self, recorded: str) -> str:
        """What run.json says, except that a run that says `running` and that nobody holds was killed."""
        if not recorded.endswith(": running"):
            return recorded
        lock = FileLock(self.path / ".lock")
        try:
            with lock.acquire(timeout=0):
                return recorded.replace("running", "killed")
        except (Timeout, OSError):
            return recorded

    @property
    def imported(self) -> bool:
        """Whether its model comes from elsewhere, so that there is no recipe."""
        return bool(self.read().get("imported", False))

    def recipe(self) -> Recipe:
        """The resolved recipe.

        Raises:
            UsageError: the run has none, because its model was imported.
        """
        if self.imported:
            raise UsageError(f"the model of {self.path} was imported, and cannot be trained on; begin a new run")
        return load_recipe(self.recipe_path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing; the lock goes with the process, also when that is killed.

        Raises:
            UsageError: another process holds it.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0.5)  # a list of runs looks at the lock for a moment
        except Timeout:
            raise UsageError(f"{self.path} is being written by another process; wait for it or stop it") from None
        except OSError as error:
            raise machine_error(error, self.path) from error
        try:
            for folder in self._written_folders():
                files.sweep(folder)
            yield
        finally:
            lock.release()

    def _written_folders(self) -> list[Path]:
        """Where a killed writer may have left something unfinished."""
        resume = self.checkpoints / "resume"
        own = [self.path, self.checkpoints, resume, self.logs, self.results, self.cache, self.artifacts_folder]
        return [*own, *self._artifact_folders()]

    def _artifact_folders(self) -> list[Path]:
        """Folders with a whole Artifact, by name."""
        found = sorted(entry.parent for entry in self.artifacts_folder.glob("*/manifest.json"))
        return [folder for folder in found if not files.is_temporary(folder)]

    @contextlib.contextmanager
    def verb(self, name: str, within: str = "") -> Iterator[None]:
        """Record a verb in run.json: its command, how long it took, how it ended.

        Args:
            within: the verb that this one is a part of, and that goes on after it.
        """
        entry: dict[str, Any] = {
            "verb": name,
            "command": command_line(),
            "started": now(),
            "seconds": None,
            "status": "running",
        }
        before = self.read()["verbs"]
        self.update(status=f"{name}: running", verbs=[*before, entry])
        start = time.monotonic()

        def end(status: str) -> None:
            entry.update(seconds=round(time.monotonic() - start, 3), status=status)
            verbs = self.read()["verbs"]
            verbs[len(before)] = entry  # a verb inside this one may have come after it
            after = f"{within}: running" if within else _left_by(verbs)
            self.update(status=after if status == "done" else f"{name}: {status}", verbs=verbs)

        try:
            yield
        except BaseException as error:
            with contextlib.suppress(OSError, PeregrineError):  # a full disk must not hide what filled it
                end("interrupted" if isinstance(error, (Interrupted, KeyboardInterrupt, Terminated)) else "failed")
            raise
        end("done")

    def artifacts(self) -> list[Artifact]:
        """All Artifacts, verified, the ancestor first, then by name.

        Raises:
            DamagedFile: one of them is damaged.
        """
        found = [Artifact.open(folder) for folder in self._artifact_folders()]
        return sorted(found, key=lambda artifact: (artifact.manifest.parent is not None, artifact.manifest.format))

    def ancestor(self) -> Artifact:
        """The trained model that all exports come from. A damaged export does not stand in its way.

        Raises:
            UsageError: training has not finished.
            DamagedFile: it is damaged.
        """
        damaged: DamagedFile | None = None
        for folder in self._artifact_folders():
            try:
                artifact = Artifact.open(folder)
            except DamagedFile as error:
                damaged = error
                continue
            if artifact.manifest.parent is None:
                return artifact
        if damaged:
            raise damaged
        raise UsageError(
            f"{self.path} has no trained model yet; go on with: peregrine train --resume --run {self.path}"
        )


def _left_by(verbs: list[dict[str, Any]]) -> str:
    """The status of a run after a verb that ended well: `--resume` finds a way that was left half done all the same."""
    last = next((entry for entry in reversed(verbs) if entry["verb"] in _WAY), None)
    if last is None or last["status"] == "done":
        return "done"
    return f"{last['verb']}: {last['status'].replace('running', 'killed')}"  # for nobody else holds the run


def check_free(path: Path) -> None:
    """Make sure that a new run can be made at `path`, before long work starts.

    Raises:
        UsageError: something is there, or its name is not valid UTF-8.
        MachineError: nothing can be written there.
    """
    files.check_text(path.absolute())
    try:
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
        parent = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    except OSError as error:
        raise machine_error(error, path) from error
    if taken:
        hint = f"; go on with it by --resume --run {path}" if (path / "run.json").is_file() else ""
        raise _Taken(f"a new run needs a new folder; {path} exists{hint}, or choose another --run")
    if not parent.is_dir():
        raise UsageError(f"a run is a folder; {parent} is a file")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise machine_error(PermissionError(13, "permission denied"), parent)


def new_run_path(label: str, folder: Path = Path("runs")) -> Path:
    """A free path such as `runs/2026-11-21-101500-digits`; a second run in the same second gets `-2`.

    It is free now. `RunDirectory.create_new` also wins or evades a race for it.
    """
    stem = time.strftime("%Y-%m-%d-%H%M%S-") + re.sub(r"[^\w.-]+", "-", label)
    path, number = folder / stem, 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}"
    return path


def list_runs(folder: Path = Path("runs")) -> list[RunDirectory]:
    """All runs in a folder, the newest last."""
    return sorted((RunDirectory(entry.parent) for entry in folder.glob("*/run.json")), key=_age)


def _age(run: RunDirectory) -> tuple[str, str]:
    """When the run was created, then its name: a run may have any name. Damaged ones count as the oldest."""
    try:
        return str(run.read().get("created", "")), run.path.name
    except (PeregrineError, OSError):
        return "", run.path.name


def newest_unfinished(folder: Path = Path("runs")) -> RunDirectory:
    """The newest run in a folder that did not get to its end.

    Raises:
        UsageError: there is none.
    """
    for run in reversed(list_runs(folder)):
        status = run.overview()["status"]
        if status != "done" and not status.startswith("damaged") and not run.imported:
            return run
    raise UsageError(f"found no unfinished run in {folder}; name one with --run")


def now() -> str:
    """The time as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def command_line() -> str:
    """The command that is running, so that a reader of the run can repeat it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
