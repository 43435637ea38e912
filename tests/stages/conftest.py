"""A finished run on the digits, for all tests that look at one; they share a worker: `xdist_group("pipeline")`."""

from pathlib import Path

import pytest

from command import call
from peregrine.rundir import RunDirectory


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the commands run in, with the run `digits` and what its command said."""
    folder = tmp_path_factory.mktemp("pipeline")
    stdout = call("run", "--data", "digits", "--run", "digits", "--json", cwd=folder)
    (folder / "run.json").write_text(stdout.splitlines()[-1])
    (folder / "run.txt").write_text(stdout)
    return folder


@pytest.fixture(scope="session")
def run(work: Path) -> RunDirectory:
    return RunDirectory.open(work / "digits")
