"""The command line in a process of its own, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def invoke(*arguments: str | Path, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the installed command as a user does."""
    command = [sys.executable, "-m", "peregrine", *[str(argument) for argument in arguments]]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment})


def call(*arguments: str | Path, cwd: Path, status: int = 0) -> str:
    """Run the command, check its status, and return its stdout."""
    ended = invoke(*arguments, cwd=cwd)
    assert ended.returncode == status, ended.stderr
    return ended.stdout


def last_line(stdout: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return content
