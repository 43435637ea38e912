"""Files from the Hugging Face hub, by its own addresses: `hf://owner/name@revision/file`."""

import re
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from peregrine.errors import MachineError, RecipeError

DEFAULT_FILE = "model.safetensors"  # what the hub's libraries call the weights
_NAME = r"(?!\.)[\w.-]+"  # which `..` is not
_ADDRESS = re.compile(rf"hf://({_NAME}/{_NAME})(?:@({_NAME}))?(?:/({_NAME}(?:/{_NAME})*))?")


def fetch(address: str) -> tuple[str, Path]:
    """The address with the commit that it leads to now, and the file in the hub's own cache; downloaded once.

    Args:
        address: without a revision it means the newest; without a file `model.safetensors`.

    Raises:
        RecipeError: it is no such address, or the hub has no such file.
        MachineError: the hub cannot be reached, and the file is not in the cache.
        OSError: the disk is full or cannot be written to.
    """
    if not (parts := _ADDRESS.fullmatch(address)):
        raise RecipeError(
            "an address on the hub is hf://owner/name, hf://owner/name/file or hf://owner/name@revision/file; "
            f"got {address}"
        )
    repository, revision, file = parts[1], parts[2], parts[3] or DEFAULT_FILE
    try:
        path = Path(hf_hub_download(repository, file, revision=revision))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _unreachable(address, error) from error
    except EntryNotFoundError as error:
        raise RecipeError(
            f"{repository} on the hub has no file {file}; name one of its own: hf://{repository}/FILE"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        found = f"no revision {revision}" if isinstance(error, RevisionNotFoundError) else "nothing that is open to you"
        raise RecipeError(
            f"model.weights is an address on the hub; found {found} at {address}; check it in a browser"
        ) from error
    except (HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the network's
            raise
        raise _unreachable(address, error) from error
    commit = path.parents[file.count("/")].name  # …/snapshots/COMMIT/FILE
    return f"hf://{repository}@{commit}/{file}", path


def _unreachable(address: str, error: BaseException) -> MachineError:
    while error.__cause__:
        error = error.__cause__
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return MachineError(
        f"cannot download {address}: {words}; check the network and run again, or give model.weights a file"
    )
