"""Files from the internet: whole and verified, or not there at all."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pooch

from peregrine import files, progress
from peregrine.data import places
from peregrine.errors import DamagedFile, MachineError


@dataclass(frozen=True)
class Remote:
    """A file that is published under an address and never changes.

    Attributes:
        url: where it is; the last part is its name on disk.
        size_bytes: its length.
        md5, sha256: hex digests, both checked.
    """

    url: str
    size_bytes: int
    md5: str
    sha256: str

    @property
    def name(self) -> str:
        """File name."""
        return self.url.rpartition("/")[2]


def fetch(remote: Remote, folder: Path) -> Path:
    """The path of `remote` in `folder`; downloaded when it is not there, verified in any case.

    A download that was cut or killed leaves nothing that counts, so running it again starts cleanly.

    Raises:
        MachineError: the address cannot be reached.
        OSError: the disk is full or cannot be written to.
        DamagedFile: the file, downloaded or found, is another one than `remote`.
    """
    target = folder / remote.name
    with places.locked(folder):
        if target.exists():
            _verify(target, remote, f"{target}", "delete it, so that it is downloaded again")
        else:
            with files.writing(target) as temporary:
                _download(remote, temporary, target)
                _verify(temporary, remote, remote.url, f"run again, or put the right file at {target} by hand")
    return target


def _download(remote: Remote, destination: Path, target: Path) -> None:
    with progress.bar(f"download {remote.name}", remote.size_bytes, "B") as advance:
        get = pooch.HTTPDownloader(progressbar=_PoochBar(remote.size_bytes, advance), chunk_size=1 << 16)
        try:
            get(remote.url, str(destination), None)
        except OSError as error:  # the errors of `requests`, which pooch lets through, are OSErrors without a number
            if error.errno is not None:
                raise
            raise MachineError(
                f"cannot download {remote.url}: {_reason(error)}; check the network and run again, "
                f"or put the file at {target} by hand"
            ) from error


class _PoochBar:
    """Our bar in the shape that pooch wants, which is tqdm's.

    pooch counts in whole chunks and adds the total once more at the end, so what exceeds the total is cut off.
    """

    def __init__(self, total: int, advance: progress.Advance) -> None:
        self.total = total  # pooch overwrites it with what the server announces
        self._left = total
        self._advance = advance

    def update(self, amount: int) -> None:
        amount = min(amount, self._left)
        self._left -= amount
        self._advance(amount)

    def reset(self) -> None:
        """Nothing to do: see `update`."""

    def close(self) -> None:
        """Nothing to do: the bar is closed by its `with`."""


def _reason(error: BaseException) -> str:
    """What went wrong at the bottom of a stack of network errors, in a few words on one line."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    while error.__context__:
        error = error.__context__
    return " ".join((getattr(error, "strerror", None) or str(error)).split())


def _verify(path: Path, remote: Remote, name: str, fix: str) -> None:
    size = path.stat().st_size
    if size != remote.size_bytes:
        raise DamagedFile(
            f"{name} is not the published file: expected {remote.size_bytes:,} bytes, got {size:,}; {fix}"
        )
    for kind, expected in (("sha256", remote.sha256), ("md5", remote.md5)):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
        if found != expected:
            raise DamagedFile(f"{name} is not the published file: expected {kind} {expected}, got {found}; {fix}")
