"""Data from the Hugging Face hub, by its own addresses: `hf://owner/name@revision/folder`, Parquet files all of them.

The library's cache, tokens and offline mode hold as everywhere. What belongs to a revision is remembered in Peregrine's
cache, so that data which is here needs no network: a commit never changes.
"""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from peregrine import files, progress
from peregrine.data import places
from peregrine.data.splitting import split_of
from peregrine.errors import DamagedFile, DataError, MachineError, UsageError

_NAME = r"(?!\.)[\w.-]+"  # which `..` is not
_REVISION = rf"refs/(?:convert|pr)/{_NAME}|{_NAME}"
# `datasets/` stands in the library's own addresses
_ADDRESS = re.compile(rf"hf://(?:datasets/)?({_NAME}/{_NAME})(?:@({_REVISION}))?(?:/({_NAME}(?:/{_NAME})*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(address: str) -> tuple[str, Path]:
    """The address with the commit that it leads to now, and the folder of its Parquet files; downloaded once.

    Args:
        address: without a revision it means the newest. A data set of several configurations needs the folder of one.

    Raises:
        UsageError: it is no such address, or the hub has no such data set.
        DataError: the data set has no Parquet files, or several configurations.
        MachineError: the hub cannot be reached, and the files are not in the cache.
        OSError: the disk is full or cannot be written to.
    """
    if not (parts := _ADDRESS.fullmatch(address)):
        raise UsageError(
            "a data set on the hub is hf://owner/name, hf://owner/name@revision or hf://owner/name/folder; "
            f"got {address!r}"
        )
    repository, revision, folder = parts[1], parts[2] or "main", parts[3] or ""
    if split_of(PurePosixPath(PurePosixPath(folder).name)):
        whole = address.removesuffix(f"/{PurePosixPath(folder).name}")
        raise UsageError(f"an address is that of a data set, not of one of its splits; got {address!r}; use {whole}")
    try:
        known = _known(repository, revision, address)
        wanted = _chosen(known["files"], folder, f"hf://{repository}", address)
        with progress.bar(f"fetch {repository}", len(wanted), "file") as advance:
            for name in wanted:
                path = Path(hf_hub_download(repository, name, repo_type="dataset", revision=known["commit"]))
                advance()
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _unreachable(address, error) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        found = f"no revision {revision}" if isinstance(error, RevisionNotFoundError) else "no data set open to you"
        raise UsageError(
            f"data is an address on the hub; found {found} at {address}; check it in a browser, and your token"
        ) from error
    except (HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the network's
            raise
        raise _unreachable(address, error) from error
    top = path.parents[wanted[-1].count("/")]  # …/snapshots/COMMIT, where other files may lie too
    pinned = f"hf://{repository}@{known['commit']}"
    return f"{pinned}/{folder}" if folder else pinned, top / _common(wanted)


def _known(repository: str, revision: str, address: str) -> dict[str, Any]:
    """The commit of a revision, and all of its files: asked of the hub, or remembered where that cannot be."""
    memory = _memory(repository, revision)
    remembered = _recall(memory)
    if remembered and _COMMIT.fullmatch(revision):
        return remembered
    try:
        info = HfApi().dataset_info(repository, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except (HTTPError, OSError, OfflineModeIsEnabled) as error:
        if remembered:
            return remembered
        raise _unreachable(address, error) from error
    known = {"schema": 1, "commit": info.sha, "files": [file.rfilename for file in info.siblings or []]}
    for name in (revision, str(info.sha)):
        files.write_json(_memory(repository, name), known)
    return known


def _memory(repository: str, revision: str) -> Path:
    name = hashlib.sha256(f"{repository}@{revision}".encode()).hexdigest()[:32]
    return places.cache_folder() / "hub" / f"{name}.json"


def _recall(memory: Path) -> dict[str, Any] | None:
    try:
        known = files.read_json(memory)
    except (DamagedFile, FileNotFoundError):
        return None
    return known if isinstance(known, dict) and known.get("schema") == 1 else None


def _chosen(names: list[str], folder: str, repository: str, address: str) -> list[str]:
    """The Parquet files below `folder`; all of one data set, as only the folders of splits lie between them."""
    paths = [PurePosixPath(name) for name in names if name.endswith(".parquet")]
    paths = [path for path in paths if ".." not in path.parts and path.is_relative_to(folder)]
    if not paths:
        where = f"the folder {folder} of " if folder else ""
        raise DataError(
            f"a data set on the hub has Parquet files; {where}{address} has none; many have some at "
            f"{repository}@refs/convert/parquet"
        )
    parents = (path.relative_to(folder).parts[:-1] for path in paths)
    configurations = sorted(
        {"/".join(part for part in parts if not split_of(PurePosixPath(part))) for parts in parents}
    )
    if len(configurations) > 1:
        told = ", ".join(name or "the folder itself" for name in configurations)
        raise DataError(f"{address} has several data sets: {told}; name one, as {address}/{configurations[-1]}")
    return [str(path) for path in paths]


def _common(wanted: list[str]) -> PurePosixPath:
    """The folder of all these files, or that of the folders of their splits."""
    common = PurePosixPath(os.path.commonpath([PurePosixPath(name).parent for name in wanted]))
    while split_of(PurePosixPath(common.name)):
        common = common.parent
    return common


def _unreachable(address: str, error: BaseException) -> MachineError:
    while error.__cause__:
        error = error.__cause__
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return MachineError(f"cannot download {address}: {words}; check the network and run again")
