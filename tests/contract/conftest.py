from collections.abc import Iterator

import pytest

from peregrine import host
from workshop import Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """With one compute thread: threads of runs side by side wait for each other by spinning."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "threads", lambda: 1)
        yield Workshop(tmp_path_factory.mktemp("workshop"))
