"""The page that follows a run, asked for as a browser does."""

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from peregrine import files
from peregrine.errors import UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages.reporting.watching import watch
from report_making import Page, fill, new_run

COMMAND = [sys.executable, "-m", "peregrine", "report"]


class Watched:
    """A `peregrine report RUN --watch` in a process of its own."""

    def __init__(self, run: RunDirectory) -> None:
        command = [*COMMAND, str(run.path), "--watch", "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.line = self.process.stdout.readline()
        self.url: str = json.loads(self.process.stdout.readline())["url"]

    def get(self, path: str, host: str = "") -> tuple[int, dict[str, str], str]:
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        connection.request("GET", path, headers={"Host": host or address.netloc})
        answer = connection.getresponse()
        content = answer.read().decode()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def stop(self, signum: int) -> str:
        self.process.send_signal(signum)
        return self.process.communicate(timeout=20)[1]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = new_run(tmp_path / "run")
    fill(made)
    return made


@pytest.fixture
def watched(run: RunDirectory) -> Iterator[Watched]:
    started = Watched(run)
    yield started
    if started.process.poll() is None:
        started.stop(signal.SIGTERM)


def test_it_serves_the_run_as_it_is(run: RunDirectory, watched: Watched) -> None:
    assert watched.line == f"{watched.url}  follows {run.path}; Ctrl-C ends it\n"
    status, headers, content = watched.get("/")
    assert status == 200
    page = Page(content)
    meta = next(e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes)
    assert headers["Content-Security-Policy"] == meta
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert "name the right one" not in page.section("summary")
    assert "95.0%" in page.section("summary")

    before = watched.get("/version")[2]
    assert watched.get("/version")[2] == before
    results = run.results / "inference_results.json"
    files.write_json(results, {**files.read_json(results), "accuracy": 0.9876})
    assert watched.get("/version")[2] != before
    assert "98.8%" in Page(watched.get("/")[2]).section("summary")
    assert not run.report_path.exists()


def test_it_is_for_this_machine_alone(watched: Watched) -> None:
    assert watched.url.startswith("http://127.0.0.1:")
    status, _, content = watched.get("/", host="elsewhere.example")
    assert (status, content) == (403, "this page is for this machine alone\n")
    assert watched.get("/", host=f"localhost:{urlsplit(watched.url).port}")[0] == 200
    assert watched.get("/run.json")[0] == 404


def test_a_damaged_result_is_said_and_can_be_mended(run: RunDirectory, watched: Watched) -> None:
    whole = (run.results / "parity.json").read_bytes()
    (run.results / "parity.json").write_text("{")
    status, _, content = watched.get("/")
    assert status == 500
    assert "parity.json is not valid JSON" in content
    (run.results / "parity.json").write_bytes(whole)
    assert watched.get("/")[0] == 200


@pytest.mark.parametrize(
    ("signum", "status", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_a_signal_ends_it(watched: Watched, run: RunDirectory, signum: int, status: int, name: str) -> None:
    began = time.monotonic()
    stderr = watched.stop(signum)
    assert time.monotonic() - began < 10
    assert watched.process.returncode == status
    assert stderr == (
        f"peregrine: stopped by {name}: {run.path} is watched no more; `peregrine report` writes the page as a file\n"
    )


def test_there_is_nothing_to_watch_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a run is a folder with a run\.json; found none at"):
        watch(tmp_path, print)
