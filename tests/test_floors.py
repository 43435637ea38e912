"""The floors of the house: imports go downward, heavy libraries stay in their corners, files stay small."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import grimp
import pytest

from machine import python
from peregrine.catalog import CATALOG

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "peregrine"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
HEAVY = {
    "ai_edge_litert", "cupy", "cudf", "keras", "matplotlib", "mlperf_loadgen", "numpy", "onnx", "onnxruntime",
    "openvino", "pandas", "PIL", "pyarrow", "scipy", "sklearn", "tensorflow", "tensorrt", "torch",
}  # fmt: skip


def test_imports_go_downward_only() -> None:
    """The layers stand in pyproject.toml; a new top-level file without a floor fails too."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", ROOT / "pyproject.toml"]
    if not command[0].exists():
        pytest.skip("import-linter is not installed")
    ended = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("peregrine", cache_dir=None, exclude_type_checking_imports=True)


def plugged(kind: str) -> set[str]:
    """The modules behind a kind of the catalogue; an engine is its whole folder."""
    modules = {entry.target.partition(":")[0] for entry in CATALOG[kind].values()}
    return {module.rpartition(".")[0] for module in modules} if kind == "engine" else modules


@pytest.mark.parametrize("kind", ["source", "engine", "model", "edge", "runtime", "foreign", "driver"])
def test_plug_ins_of_a_kind_do_not_know_each_other(graph: grimp.ImportGraph, kind: str) -> None:
    for module in plugged(kind):
        for other in plugged(kind) - {module}:
            if {module, other} <= graph.modules:
                assert not graph.direct_import_exists(importer=module, imported=other, as_packages=True)


def test_only_the_catalogue_imports_by_name() -> None:
    """And the package's own `__getattr__`, PEP 562."""
    allowed = {PACKAGE / "catalog.py", PACKAGE / "__init__.py"}
    found = {path for path in SOURCES if "import_module" in path.read_text("utf-8")}
    assert found == allowed


def test_the_catalogues_modules_are_imported_by_nobody(graph: grimp.ImportGraph) -> None:
    """What needs a heavy library is reached through the catalogue, from outside its own corner."""
    for kind in ("engine", "model", "edge", "runtime", "foreign", "driver"):
        for entry in CATALOG[kind].values():
            module = entry.target.partition(":")[0]
            if module in graph.modules:
                corner = module.rpartition(".")[0]
                importers = graph.find_modules_that_directly_import(module)
                assert {name for name in importers if not name.startswith(corner)} == set(), module


@pytest.mark.parametrize("arguments", [[], ["--help"], ["run", "--help"], ["formats", "--help"], ["--version"]])
def test_the_door_opens_without_heavy_libraries(arguments: list[str]) -> None:
    script = f"""
import sys
sys.argv = ["peregrine", *{arguments!r}]
if {arguments!r}:
    from peregrine.__main__ import main
    try:
        main()
    except SystemExit as left:
        assert not left.code, left.code
else:
    import peregrine
print("loaded:", *sorted({{name.partition(".")[0] for name in sys.modules}} & {HEAVY!r}))
"""
    ended = python(script)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize(
    "module", ["errors", "formats", "catalog", "files", "progress", "signals", "engines.events", "worker"]
)
def test_the_ground_floor_needs_the_standard_library_alone(module: str) -> None:
    """And what has to start quickly, or beside any library, stays as light."""
    ended = python(f"import sys, peregrine.{module}; print({HEAVY!r} & set(sys.modules))")
    allowed = "{'numpy'}" if module == "engines.events" else "set()"
    assert ended.stdout.strip() in (allowed, "set()"), ended.stderr


def test_no_file_is_long() -> None:
    """600 lines are the limit; over 400 somebody asks why."""
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in [*SOURCES, *TESTS]}
    assert {str(path): length for path, length in lengths.items() if length > 600} == {}
    long = [f"{path.relative_to(ROOT)} has {length} lines" for path, length in lengths.items() if length > 400]
    if long:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn("; ".join(long), stacklevel=1)


def test_names_say_something() -> None:
    forbidden = re.compile(r"^(utils?|helpers?|common|misc|manager)$")
    names = {part for path in [*SOURCES, *TESTS] for part in (*path.relative_to(ROOT).parts[:-1], path.stem)}
    assert [name for name in names if forbidden.match(name)] == []


def test_the_package_names_no_machine() -> None:
    """No path of the place where it was written."""
    for path in SOURCES:
        assert not re.search(r"/(work|home|root|Users)/", path.read_text("utf-8")), path
