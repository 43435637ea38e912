"""`peregrine report RUN --watch`: the page, served to this machine alone, and always as the run is now."""

import hashlib
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from threading import Thread
from typing import Any

from peregrine.errors import PeregrineError
from peregrine.rundir import RunDirectory
from peregrine.signals import stop_request
from peregrine.stages.reporting.content import gather
from peregrine.stages.reporting.page import policy_of, render

HOST = "127.0.0.1"
LOOK_S = 0.2  # between two looks whether to stop


def watch(run: RunDirectory | str | Path, ready: Callable[[str], None]) -> None:
    """Serve the run's page on a free port of this machine until a signal asks to stop. Writes nothing.

    Args:
        ready: is given the page's address.

    Raises:
        UsageError: there is no run.
        Interrupted: always, in the end: by Ctrl-C or SIGTERM.
    """
    directory = run if isinstance(run, RunDirectory) else RunDirectory.open(run)
    with stop_request() as stop, _Server(directory) as server:
        thread = Thread(target=server.serve_forever, args=(LOOK_S,), daemon=True)
        thread.start()
        ready(server.url)
        while not stop:
            time.sleep(LOOK_S)
        server.shutdown()
        thread.join()
    raise stop.interrupted(f"{directory.path} is watched no more; `peregrine report` writes the page as a file")


class _Server(ThreadingHTTPServer):
    """Answers `/` with the page and `/version` with a word that is another one when the run has changed."""

    daemon_threads = True

    def __init__(self, run: RunDirectory) -> None:
        super().__init__((HOST, 0), _Handler)
        self.run = run
        port = self.server_address[1]
        self.url = f"http://{HOST}:{port}/"
        # A page elsewhere could have a name of its own resolve to this machine and read along: the browser tells.
        self.names = {f"{HOST}:{port}", f"localhost:{port}"}

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's would look this machine's name up in the network, for seconds
        self.server_name, self.server_port = HOST, self.server_address[1]

    def version(self) -> str:
        """A digest of when the run's files changed."""
        paths = [self.run.path / "run.json", self.run.recipe_path, *sorted(self.run.results.glob("[!.]*"))]
        paths += sorted(self.run.artifacts_folder.glob("*/evidence.json"))
        digest = hashlib.sha256()
        for path in paths:
            try:
                state = path.stat()
            except FileNotFoundError:  # replaced, or removed, since it was listed
                continue
            digest.update(f"{path}\0{state.st_mtime_ns}\0{state.st_size}\n".encode())
        return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "peregrine"
    sys_version = ""

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.names:
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", "this page is for this machine alone\n")
        elif self.path == "/version":
            self._answer(HTTPStatus.OK, "text/plain", self.server.version())
        elif self.path == "/":
            self._page()
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "there is one page here: /\n")

    def _page(self) -> None:
        try:
            page = render(gather(self.server.run), watched=True)
        except (PeregrineError, OSError) as error:  # a damaged result, which the next verb may mend
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", f"{error}\n")
            return
        self._answer(HTTPStatus.OK, "text/html", page)

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Content-Security-Policy": policy_of(watched=True),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not worth a line each."""
