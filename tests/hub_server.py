"""A server of our own that answers like the Hugging Face hub, and the environment of a process that asks it."""

import contextlib
import hashlib
import http.server
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"  # the newest of the one repository, owner/name


@dataclass
class Hub:
    """The server, and which files were asked of it."""

    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Hub]:
    """A hub with these files in the branch main of owner/name, be it asked for a model or for a data set."""
    state = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            if self.path.startswith("/api/") and not self.path.startswith("/api/datasets/"):  # the library's business
                self._refuse(404, "")
                return
            state.asked.append(f"{self.command} {self.path}")
            path = self.path.removeprefix("/api").removeprefix("/datasets").partition("?")[0]
            owner, name, _, revision, file = [*path[1:].split("/", 4), ""][:5]
            if (owner, name) != ("owner", "name"):
                self._refuse(401, "RepoNotFound")
            elif revision not in ("main", COMMIT):
                self._refuse(404, "RevisionNotFound")
            elif self.path.startswith("/api/"):
                listed = {"id": "owner/name", "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
                content = json.dumps(listed).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            elif file not in files:
                self._refuse(404, "EntryNotFound")
            else:
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.sha256(files[file]).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(files[file])))
                self.end_headers()
                if body:
                    self.wfile.write(files[file])

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        state.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            listening.shutdown()
            thread.join()


def environment(endpoint: str, home: Path) -> dict[str, str]:
    """Of a process whose hub is `endpoint`, with a cache of its own and no token; the library reads it on import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    ours = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    return {**kept, **ours, "no_proxy": "127.0.0.1"}
