"""What tests do to the machine: processes that are killed, and a disk that is full."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter to its end; what it prints is in the result."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextlib.contextmanager
def started(script: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A script that has printed its first line; killed with SIGKILL at the end of the block, if not before."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "the script ended before it said anything"
            yield process
        finally:
            kill(process)


def kill(process: "subprocess.Popen[str]") -> None:
    """End a process in the middle of what it does, as the kernel does when memory runs out."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write below `folder`, not even root; skips where that cannot be had."""
    commands = [["mount", "--bind", folder, folder], ["mount", "-o", "remount,ro,bind", folder]]
    if os.geteuid() != 0:
        pytest.skip("a folder that nobody can write to needs root")
    if subprocess.run(commands[0], capture_output=True, check=False).returncode:
        pytest.skip("folders cannot be mounted here")
    try:
        if subprocess.run(commands[1], capture_output=True, check=False).returncode:
            pytest.skip("folders cannot be made read-only here")
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own with `size` (`64k`) for everything; skips where only root may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
