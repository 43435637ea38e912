"""Downloads from a server of our own, which can fail in every way that servers do."""

import hashlib
import http.server
import io
import multiprocessing
import os
import signal
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import making
from peregrine import progress
from peregrine.data import cifar, download
from peregrine.data.base import Options
from peregrine.errors import DamagedFile, MachineError


@dataclass
class Server:
    """What is served, and how."""

    url: str = ""
    content: bytes = b""
    fault: str = ""  # "cut", "404", "slow"
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def remote(self, name: str = "data.tar.gz", of: bytes | None = None) -> download.Remote:
        content = self.content if of is None else of
        digests = (hashlib.new(kind, content, usedforsecurity=False).hexdigest() for kind in ("md5", "sha256"))
        return download.Remote(f"{self.url}/{name}", len(content), *digests)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with state.lock:
                state.requests += 1
            if state.fault == "404":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.content)))
            self.end_headers()
            half = len(state.content) // 2
            self.wfile.write(state.content[:half])
            if state.fault == "cut":
                return
            if state.fault == "slow":
                self.wfile.flush()
                time.sleep(30)
            self.wfile.write(state.content[half:])

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """A client that was killed is no news."""

    with Quiet(("127.0.0.1", 0), Handler) as listening:
        state.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """CIFAR-10's Python edition, a tiny one, as it is published."""
    making.cifar10_python(tmp_path / "source" / "cifar-10-batches-py")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(tmp_path / "source" / "cifar-10-batches-py", "cifar-10-batches-py")
    return buffer.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_download_unpack_load(server: Server, archive: bytes, cache: Path) -> None:
    server.content = archive
    source = replace(cifar.CIFAR10, remotes=(server.remote("cifar-10-python.tar.gz"),))
    for _ in range(2):
        assert len(source.load(Options()).splits.train) == 50
        assert source.fetch() == cache / "datasets" / "cifar10" / "cifar-10-batches-py"
    assert server.requests == 1
    assert names(cache / "downloads") == ["cifar-10-python.tar.gz"]
    assert names(cache / "datasets") == ["cifar10"]


def test_shows_progress(server: Server, tmp_path: Path) -> None:
    server.content = os.urandom(1_000_000)
    shown: list[tuple[str, int | None, str]] = []
    amounts: list[int] = []

    class Display:
        def bar(self, label: str, total: int | None, unit: str) -> "Display":
            shown.append((label, total, unit))
            return self

        def __enter__(self) -> progress.Advance:
            return lambda amount=1, note="": amounts.append(amount)

        def __exit__(self, *_: object) -> None: ...

    with progress.show_on(Display()):
        download.fetch(server.remote(), tmp_path / "d")
    assert shown == [("download data.tar.gz", 1_000_000, "B")]
    assert sum(amounts) == 1_000_000
    assert len(amounts) > 10


def test_cut_in_the_middle_then_whole(server: Server, tmp_path: Path) -> None:
    server.content, server.fault = os.urandom(500_000), "cut"
    with pytest.raises(
        MachineError, match=r"cannot download http://.*data\.tar\.gz: IncompleteRead.*; check the network"
    ) as caught:
        download.fetch(server.remote(), tmp_path / "d")
    assert f"or put the file at {tmp_path}/d/data.tar.gz by hand" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path / "d") == []
    server.fault = ""
    assert download.fetch(server.remote(), tmp_path / "d").read_bytes() == server.content


def test_killed_in_the_middle_then_whole(server: Server, tmp_path: Path) -> None:
    server.content, server.fault = os.urandom(500_000), "slow"
    child = multiprocessing.get_context("spawn").Process(target=download.fetch, args=(server.remote(), tmp_path / "d"))
    child.start()
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 100_000 for path in (tmp_path / "d").glob(".tmp-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    server.fault = ""
    assert download.fetch(server.remote(), tmp_path / "d").read_bytes() == server.content
    assert names(tmp_path / "d") == ["data.tar.gz"]


def test_not_found(server: Server, tmp_path: Path) -> None:
    server.fault = "404"
    with pytest.raises(
        MachineError, match=r"cannot download http://.*/data\.tar\.gz: 404 Not Found; check the network"
    ):
        download.fetch(server.remote(), tmp_path / "d")
    assert names(tmp_path / "d") == []


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        remote = Server(f"http://127.0.0.1:{reserved.getsockname()[1]}").remote()
        with pytest.raises(
            MachineError, match=r"cannot download http://.*: Connection refused; check the network and run"
        ):
            download.fetch(remote, tmp_path / "d")


def test_no_such_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(
        MachineError, match=r"cannot download http://nowhere\.invalid/data\.tar\.gz: \S.*; check the network"
    ):
        download.fetch(Server("http://nowhere.invalid").remote(), tmp_path / "d")


def test_another_file(server: Server, tmp_path: Path) -> None:
    server.content = b"something else"
    with pytest.raises(
        DamagedFile, match=r"data\.tar\.gz is not the published file: expected 13 bytes, got 14; run again"
    ):
        download.fetch(server.remote(of=b"what we want!"), tmp_path / "d")
    with pytest.raises(
        DamagedFile, match=r"expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}; run again, or put the right file"
    ):
        download.fetch(server.remote(of=b"what we want!!"), tmp_path / "d")
    with pytest.raises(DamagedFile, match=r"expected md5 00, got [0-9a-f]{32}"):
        download.fetch(replace(server.remote(), md5="00"), tmp_path / "d")
    assert names(tmp_path / "d") == []


def test_put_there_by_hand(server: Server, archive: bytes, cache: Path) -> None:
    server.fault = "404"
    binary, python = server.remote("cifar-10-binary.tar.gz", b""), server.remote("cifar-10-python.tar.gz", archive)
    source = replace(cifar.CIFAR10, remotes=(binary, python))
    (cache / "downloads").mkdir(parents=True)
    by_hand = cache / "downloads" / "cifar-10-python.tar.gz"
    by_hand.write_bytes(b"damaged")
    with pytest.raises(DamagedFile, match=r"cifar-10-python\.tar\.gz is not the published file: .* got 7; delete it"):
        source.fetch()
    by_hand.write_bytes(archive)
    assert len(source.load(Options()).splits.test) == 10
    assert server.requests == 0


def test_published_addresses() -> None:
    for source in (cifar.CIFAR10, cifar.CIFAR100):
        for remote in source.remotes:
            assert remote.url.startswith("https://www.cs.toronto.edu/~kriz/cifar-10")
            assert (len(remote.md5), len(remote.sha256)) == (32, 64)


def test_two_at_once(server: Server, tmp_path: Path) -> None:
    server.content = os.urandom(2_000_000)
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=download.fetch, args=(server.remote(), tmp_path / "d")) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert server.requests == 1
    assert (tmp_path / "d" / "data.tar.gz").read_bytes() == server.content
