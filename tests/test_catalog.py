"""The table leads to files that are there, and says what to install when a library is not."""

import importlib.util
from pathlib import Path

import pytest

from machine import python
from peregrine import catalog
from peregrine.catalog import CATALOG, Entry
from peregrine.errors import MissingDependency, UsageError

ENTRIES = [(kind, key) for kind, entries in CATALOG.items() for key in entries]


@pytest.mark.parametrize(("kind", "key"), ENTRIES)
def test_each_entry_leads_to_a_file_that_defines_it(kind: str, key: str) -> None:
    """Nothing is imported, so this needs no library; what is behind the names is for the contract tests."""
    module, _, attribute = catalog.find(kind, key).target.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text("utf-8")
    assert (
        not attribute
        or any(f"\n{word} {attribute}" in source for word in ("def", "class"))
        or (f"\n{attribute} = " in source or f"\n{attribute}: " in source)
    )


def test_an_unknown_key_gets_the_known_ones() -> None:
    message = "^unknown runtime 'onxruntime'; did you mean 'onnxruntime'.; known: fake, "
    with pytest.raises(UsageError, match=message):
        catalog.load("runtime", "onxruntime")


def test_loading_gives_the_attribute_or_the_module() -> None:
    from peregrine.runtimes.fake import FakeRuntime

    assert catalog.load("runtime", "fake") is FakeRuntime
    assert catalog.load("source", "digits").__name__ == "peregrine.data.digits"


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real import that fails, with names that no machine has."""
    (tmp_path / "needs_something.py").write_text("import no_such_library.sub")
    (tmp_path / "is_broken.py").write_text("import peregrine.no_such_file")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(CATALOG["runtime"], "a", Entry("needs_something:A", "tensorflow"))
    monkeypatch.setitem(CATALOG["runtime"], "b", Entry("needs_something:A"))
    monkeypatch.setitem(CATALOG["runtime"], "c", Entry("is_broken:A"))
    for key, extra in (("a", "tensorflow"), ("b", "cpu")):
        with pytest.raises(MissingDependency) as caught:
            catalog.load("runtime", key)
        assert str(caught.value) == (
            f"runtime {key} needs the library 'no_such_library', which is not installed; "
            f"run: pip install 'peregrine[{extra}]'"
        )
    with pytest.raises(ModuleNotFoundError, match="no_such_file"):  # a bug of ours is not the user's to fix
        catalog.load("runtime", "c")


def test_the_package_loads_its_names_when_they_are_used() -> None:
    script = """
import sys, peregrine
assert "numpy" not in sys.modules
assert set(peregrine.__all__) == set(dir(peregrine))
assert peregrine.Dataset.__module__ == "peregrine.dataset"
import peregrine.export.routes
assert callable(peregrine.export), "a verb, and not the folder of that name"
assert "numpy" in sys.modules
try:
    peregrine.no_such_name
except AttributeError as error:
    print(error)
"""
    assert python(script).stdout == "module 'peregrine' has no attribute 'no_such_name'\n"
