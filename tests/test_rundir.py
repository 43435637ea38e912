"""A run directory tells the truth at every moment of its life, also after a kill."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from machine import kill, small_disk, started
from peregrine import files
from peregrine.errors import DamagedFile, Interrupted, MachineError, UsageError
from peregrine.rundir import RunDirectory, check_free, list_runs, new_run_path, newest_unfinished


def verbs(run: RunDirectory) -> list[tuple[str, str]]:
    return [(entry["verb"], entry["status"]) for entry in run.read()["verbs"]]


def test_a_new_run(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "runs" / "first")
    content = run.read()
    assert (content["schema"], content["name"], content["status"]) == (1, "first", "created")
    assert content["data"] == tiny.DATA
    assert content["versions"]["peregrine"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", content["created"])
    assert run.recipe() == tiny.recipe()
    assert RunDirectory.open(run.path) == run
    assert all(folder.is_dir() for folder in (run.checkpoints, run.logs, run.results, run.artifacts_folder))


def test_an_existing_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    before = (run.path / "run.json").read_bytes()
    message = f"^a new run needs a new folder; {run.path} exists; go on with it by --resume --run {run.path}, or choose"
    with pytest.raises(UsageError, match=message):
        tiny.run(run.path)
    assert (run.path / "run.json").read_bytes() == before


def test_somebody_elses_folder_is_refused_and_an_empty_one_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").touch()
    with pytest.raises(UsageError, match=r"^a new run needs a new folder; .*thesis exists, or choose another --run$"):
        tiny.run(tmp_path / "thesis")
    (tmp_path / "empty").mkdir()
    tiny.run(tmp_path / "empty")


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file exists, or choose another --run$"):
        tiny.run(tmp_path / "file")
    with pytest.raises(UsageError, match=f"^a run is a folder; {tmp_path}/file is a file$"):
        tiny.run(tmp_path / "file" / "run")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    if os.geteuid() != 0:
        folder.mkdir(mode=0o500)
        with pytest.raises(MachineError, match=f"^cannot read or write {folder}: permission denied; choose a folder"):
            check_free(folder / "run")
        return
    with small_disk(folder, "64k"):
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(MachineError, match=f"^cannot read or write {folder}: permission denied; choose a folder"):
            tiny.run(folder / "run")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        (disk / "film").write_bytes(bytes(64 * 1024))
        with pytest.raises(MachineError, match=r"^cannot read or write .*disk/run: the disk is full; free some space"):
            tiny.run(disk / "run")
        assert not (disk / "run").exists()
        (disk / "film").unlink()
        tiny.run(disk / "run")


def test_there_is_no_run(tmp_path: Path) -> None:
    message = f"^a run is a folder with a run.json; found none at {tmp_path}; `peregrine runs` lists runs$"
    with pytest.raises(UsageError, match=message):
        RunDirectory.open(tmp_path)


def test_verbs_are_recorded(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    with run.verb("train"):
        assert run.read()["status"] == "train: running"
        assert verbs(run) == [("train", "running")]
    assert run.read()["status"] == "done"
    with pytest.raises(ValueError, match="a bug"), run.verb("evaluate"):
        raise ValueError("a bug")
    assert run.read()["status"] == "evaluate: failed"
    with pytest.raises(UsageError), run.verb("export"):
        raise UsageError("a rule")
    assert run.read()["status"] == "export: failed"
    for error in (Interrupted("Ctrl-C"), KeyboardInterrupt()):
        with pytest.raises(type(error)), run.verb("benchmark"):
            raise error
        assert run.read()["status"] == "benchmark: interrupted"
    assert verbs(run) == [
        ("train", "done"),
        ("evaluate", "failed"),
        ("export", "failed"),
        ("benchmark", "interrupted"),
        ("benchmark", "interrupted"),
    ]
    entry = run.read()["verbs"][0]
    assert entry["seconds"] >= 0
    assert entry["command"].split()[0] == Path(sys.argv[0]).name


def test_a_verb_inside_a_verb_is_kept(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    with run.verb("run"), run.verb("train"):
        pass
    assert verbs(run) == [("run", "done"), ("train", "done")]


@pytest.mark.parametrize("verb", ["train", "load", "run"])
def test_a_way_left_half_done_is_gone_on_with_whatever_came_after(tmp_path: Path, verb: str) -> None:
    run = tiny.run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), run.verb(verb):
        raise KeyboardInterrupt
    with run.verb("evaluate"):
        pass
    assert run.overview()["status"] == f"{verb}: interrupted"
    assert newest_unfinished(tmp_path) == run
    with run.verb(verb), run.verb("evaluate", within=verb):
        pass
    with run.verb("evaluate"):
        pass
    assert run.overview()["status"] == "done"


def vanish(run: RunDirectory) -> None:
    (run.path / "run.json").unlink()
    raise UsageError("the real reason")


def test_what_went_wrong_is_not_hidden_by_a_run_that_vanished(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"^the real reason$"), run.verb("train"):
        vanish(run)


HOLD = """
import sys, time
from peregrine.rundir import RunDirectory

with RunDirectory.open(sys.argv[1]).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_one_process_writes_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    with started(HOLD, run.path) as process:
        message = f"^{run.path} is being written by another process; wait for it or stop it$"
        with pytest.raises(UsageError, match=message), run.lock():
            pass
        kill(process)
        with run.lock():
            pass
    with run.lock():
        pass


TRAIN = HOLD.replace(".lock():", ".lock(), RunDirectory.open(sys.argv[1]).verb('train'):")


def test_a_killed_run_is_told_from_a_running_one(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    with started(TRAIN, run.path) as process:
        assert run.overview()["status"] == "train: running"
        kill(process)
        assert run.overview()["status"] == "train: killed"
    with run.lock(), run.verb("evaluate"):
        pass
    assert run.overview()["status"] == "train: killed"
    assert newest_unfinished(tmp_path) == run


def test_an_error_inside_lets_go_while_its_traceback_lives(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    with pytest.raises(ValueError, match="oops") as caught, run.lock():
        raise ValueError("oops")
    with run.lock():
        pass
    assert caught.value.__traceback__ is not None


def test_the_same_process_does_not_lock_twice(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    with run.lock(), pytest.raises(UsageError, match="is being written by another process"), run.lock():
        pass


def test_locking_sweeps_what_a_killed_writer_left(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    artifact = tiny.artifact(run.artifact_path("onnx"))
    kept = sorted(run.path.rglob("*"))
    for folder in (run.path, run.checkpoints, run.logs, run.results, run.artifacts_folder, artifact.path):
        (folder / ".tmp-0123456789abcdef.json").touch()
        (folder / ".tmp-0123456789abcdef").mkdir()
        (folder / ".tmp-0123456789abcdef" / "part").touch()
    with run.lock():
        assert sorted(path for path in run.path.rglob("*") if path.name != ".lock") == kept


def test_the_ancestor_and_its_exports(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    with pytest.raises(
        UsageError, match=f"no trained model yet; go on with: peregrine train --resume --run {run.path}$"
    ):
        run.ancestor()
    assert run.artifacts() == []
    ancestor = tiny.artifact(run.artifact_path("torch"), "torch")
    export = tiny.artifact(run.artifact_path("onnx"), "onnx", **ancestor.inherited())
    assert run.artifacts() == [ancestor, export]
    assert run.ancestor() == ancestor


def test_an_artifact_that_was_never_finished_is_not_listed(tmp_path: Path) -> None:
    """Its manifest is written before its folder gets its name."""
    run = tiny.run(tmp_path / "run")
    ancestor = tiny.artifact(run.artifact_path("torch"), "torch")
    tiny.artifact(run.artifacts_folder / ".tmp-0123456789abcdef", "onnx", **ancestor.inherited())
    assert run.artifacts() == [ancestor]


def test_a_damaged_export_can_be_exported_again(tmp_path: Path) -> None:
    """Exporting needs the ancestor, so the export that is to be replaced must not hide it."""
    run = tiny.run(tmp_path / "run")
    ancestor = tiny.artifact(run.artifact_path("torch"), "torch")
    export = tiny.artifact(run.artifact_path("onnx"), "onnx", **ancestor.inherited())
    export.model_path.write_bytes(b"changed")
    with pytest.raises(DamagedFile, match=r"onnx/model\.onnx"):
        run.artifacts()
    assert run.ancestor() == ancestor
    ancestor.model_path.unlink()
    with pytest.raises(DamagedFile, match=r"model\.safetensors is missing"):
        run.ancestor()


def test_an_overview_of_a_finished_run(tmp_path: Path) -> None:
    run = tiny.run(tmp_path / "run")
    with run.verb("evaluate"):
        files.write_json(run.results / "inference_results.json", {"accuracy": 0.875})
    assert run.overview() == {
        "run": str(run.path),
        "status": "done",
        "created": run.read()["created"],
        "data": "digits",
        "recipe": "tiny",
        "accuracy": 0.875,
    }


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.json", "{", "run.json is not valid JSON"),
        ("run.json", "[]", "run.json is not of schema 1; it was written by another version"),
        ("run.json", '{"schema": 2}', "run.json is not of schema 1"),
        ("run.json", '{"schema": 1}', "run.json or a result lacks what belongs there"),
        ("run.json", '{"schema": 1, "status": "done", "created": "", "data": null}', "lacks what belongs there"),
        ("recipe.toml", "epochs = 0", "recipe.toml"),
        ("recipe.toml", None, "recipe.toml"),
        ("results/inference_results.json", "[]", "lacks what belongs there"),
        ("results/inference_results.json", "", "inference_results.json is not valid JSON"),
    ],
)
def test_a_damaged_run_is_listed_as_such(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    run = tiny.run(tmp_path / "run")
    if content is None:
        (run.path / name).unlink()
    else:
        (run.path / name).write_text(content)
    overview = run.overview()
    assert overview["status"].startswith("damaged: ")
    assert words in overview["status"]
    assert overview["accuracy"] is None
    assert [listed.overview() for listed in list_runs(tmp_path)] == [overview]


def test_runs_are_listed_by_age_whatever_their_names(tmp_path: Path) -> None:
    for name, created in (("zebra", "2026-01-01"), ("ape", "2026-01-03"), ("mule", "2026-01-02")):
        tiny.run(tmp_path / name).update(created=created)
    assert [run.path.name for run in list_runs(tmp_path)] == ["zebra", "mule", "ape"]
    assert list_runs(tmp_path / "absent") == []


def test_the_newest_unfinished_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^found no unfinished run in {tmp_path}; name one with --run$"):
        newest_unfinished(tmp_path)
    for number, status in enumerate(("train: interrupted", "train: running", "done")):
        tiny.run(tmp_path / f"run {number}").update(created=f"2026-01-0{number + 1}", status=status)
    damaged = tiny.run(tmp_path / "run 3")
    damaged.update(created="2026-01-04", status="train: running")
    damaged.recipe_path.write_text("")
    assert newest_unfinished(tmp_path).path.name == "run 1"


def test_default_names_hold_the_time_and_a_harmless_label(tmp_path: Path) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}-digits", new_run_path("digits", tmp_path).name)
    for label in ("../../etc", "a/b c", "\n", ""):
        assert new_run_path(label, tmp_path).parent == tmp_path


CREATE_MANY = """
import sys
from pathlib import Path
import tiny
from peregrine.rundir import RunDirectory

print("ready", flush=True)
sys.stdin.readline()
for _ in range(5):
    print(RunDirectory.create_new(tiny.recipe(), {"source": "digits"}, Path(sys.argv[1])).path)
"""


def test_default_names_never_collide(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CREATE_MANY, str(tmp_path / "runs")]
    environment = {**os.environ, "PYTHONPATH": str(Path(tiny.__file__).parent)}
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    outputs = [process.communicate("go\n", timeout=60)[0] for process in processes]
    paths = [line for output in outputs for line in output.splitlines()]
    assert len(paths) == len(set(paths)) == 15
    assert [json.loads((Path(path) / "run.json").read_text())["name"] for path in paths] == [
        Path(path).name for path in paths
    ]
