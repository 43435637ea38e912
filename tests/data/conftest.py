"""Every test has a cache of its own and no data folder."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("PEREGRINE_CACHE", str(folder))
    monkeypatch.delenv("PEREGRINE_DATA", raising=False)
    return folder
