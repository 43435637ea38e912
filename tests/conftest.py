"""What holds for every test: a cache of its own, and one core for each worker of pytest-xdist."""

import os

import pytest

# OpenMP's threads wait by spinning: two workers with two threads each on two cores are ten times slower than two
# workers with a core each. Subprocesses inherit the affinity, and `host.threads` follows it.
_worker = os.environ.get("PYTEST_XDIST_WORKER")
if _worker and hasattr(os, "sched_setaffinity"):
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_worker.removeprefix("gw")) % len(_cores)]})


@pytest.fixture(autouse=True, scope="session")
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepared data of tests is nobody's cache."""
    os.environ["PEREGRINE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
