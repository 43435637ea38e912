"""The benchmark with test doubles in real worker processes: who is slow is told so, and who cheats is caught."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

import fake_runs
from peregrine import files
from peregrine.artifact import Artifact
from peregrine.catalog import CATALOG, Entry
from peregrine.dataset import Splits
from peregrine.errors import CheckFailed, MachineError, MissingDependency, UsageError
from peregrine.stages import benchmarking
from peregrine.stages.benchmarking import attempt, benchmark, make_plan, refuse
from peregrine.stages.target import Target

DRIVERS = [
    "plain",
    pytest.param(
        "loadgen",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("mlperf_loadgen") is None, reason="the extra loadgen is not installed"
        ),
    ),
]
CONTRACT = {
    "schema", "mode", "host", "versions", "scenarios", "test_images", "fingerprint", "rounds",
    "round_seconds", "warmup_seconds", "baseline", "noise", "preprocess", "rows", "comparisons", "pareto", "sweep",
    "skipped",
}  # fmt: skip
ROW = {
    "candidate", "format", "runtime", "provider", "precision", "threads", "driver", "batch_size", "latency_ms_p50",
    "latency_ms_p90", "latency_ms_p95", "latency_ms_p99", "latency_samples", "latency_ms_p50_rounds",
    "latency_ms_p50_interval", "throughput_per_s", "throughput_per_s_rounds", "throughput_per_s_interval",
    "throughput_spread", "test_split_seconds", "load_seconds", "cold_start_seconds", "warmup_seconds",
    "peak_memory_bytes", "size_bytes", "images_per_s_from_bytes", "accuracy", "accuracy_mode", "server",
}  # fmt: skip


@pytest.fixture
def data() -> Splits:
    return fake_runs.splits()


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_runs.use(monkeypatch)


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setitem(CATALOG["driver"], "loadgen", Entry("no_such_library:LoadGen", "loadgen"))
    return str(request.param)


def by_key(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["candidate"]: row for row in result["rows"]}


def test_a_slow_one_is_ranked_right_and_its_delay_is_measured(tmp_path: Path, data: Splits, driver: str) -> None:
    run = fake_runs.run(tmp_path / "run", {"openvino": {"delay_s": 0.001}}, data)
    result = benchmark(run.path, data=data, quick=True)
    rows = by_key(result)
    slow, fast = rows["openvino@fake"], rows["onnx@fake"]
    assert slow["latency_ms_p50"] - fast["latency_ms_p50"] > 0.9
    assert 1e3 / slow["throughput_per_s"] - 1e3 / fast["throughput_per_s"] > 0.9
    # The upper bound by the undisturbed calls: whoever runs the tests may do something else beside them.
    samples = pyarrow.parquet.read_table(run.results / "benchmark_samples.parquet").to_pandas()
    calls = samples.groupby(["candidate", "scenario"]).nanoseconds.quantile(0.1) / 1e6
    for scenario, images in (("single-stream", 1), ("offline", slow["batch_size"])):
        delay_ms = (calls["openvino@fake", scenario] - calls["onnx@fake", scenario]) / images
        assert delay_ms == pytest.approx(1.0, rel=0.1)
    verdicts = {entry["metric"]: entry for entry in result["comparisons"]}
    assert {entry["verdict"] for entry in verdicts.values()} == {"slower"}
    assert verdicts["latency_ms_p50"]["baseline"] == "onnx@fake"
    assert verdicts["latency_ms_p50"]["interval"][1] < 1
    assert result["pareto"]["latency_ms_p50"] == ["onnx@fake"]
    assert {row["driver"] for row in result["rows"]} == {driver}


def test_everything_is_told_and_written(tmp_path: Path, data: Splits) -> None:
    run = fake_runs.run(tmp_path / "run", {"openvino": {}}, data)
    result = benchmark(run.path, data=data, quick=True, rounds=2)
    assert result.keys() >= CONTRACT
    assert result["mode"] == "quick"
    assert result["scenarios"] == ["single-stream", "offline"]
    assert result["preprocess"]["images_per_s"] > 0
    for row in result["rows"]:
        assert row.keys() >= ROW
        assert row["latency_ms_p50_interval"][0] <= row["latency_ms_p50"] <= row["latency_ms_p50_interval"][1]
        assert row["throughput_per_s_interval"][0] <= row["throughput_per_s"] <= row["throughput_per_s_interval"][1]
        assert row["cold_start_seconds"] > row["load_seconds"] > 0
        assert row["accuracy_mode"]["images"] == fake_runs.IMAGES
        assert row["accuracy_mode"]["agreement"] == row["accuracy_mode"]["timed_agreement"] == 1
        assert row["images_per_s_from_bytes"] > 0
        assert 2e7 < row["peak_memory_bytes"] < 2e9
    assert files.read_json(run.results / "benchmark.json") == result
    assert (run.results / "benchmark.png").is_file()
    assert (run.results / "pareto.png").is_file()
    samples = pyarrow.parquet.read_table(run.results / "benchmark_samples.parquet").to_pandas()
    assert list(samples.columns) == ["candidate", "scenario", "round", "nanoseconds"]
    single = samples[(samples.candidate == "onnx@fake") & (samples.scenario == "single-stream")]
    row = by_key(result)["onnx@fake"]
    assert len(single) == row["latency_samples"]
    medians = single.groupby("round").nanoseconds.median() / 1e6
    assert list(medians) == pytest.approx(row["latency_ms_p50_rounds"])
    assert run.read()["verbs"][-1]["verb"] == "benchmark"


def test_who_answers_wrongly_fast_is_caught(tmp_path: Path, data: Splits, driver: str) -> None:
    run = fake_runs.run(tmp_path / "run", {"openvino": {"stale": True}}, data)
    result = attempt(run.path, data=data, quick=True, rounds=1)
    assert list(by_key(result)) == ["onnx@fake"]
    (entry,) = result["skipped"]
    assert entry["candidate"] == "openvino@fake"
    assert "answers otherwise while it is timed" in entry["reason"]
    assert files.read_json(run.results / "benchmark.json") == result, "the others are told"
    with pytest.raises(CheckFailed, match=r"^openvino@fake answers otherwise while it is timed"):
        refuse(result)


def test_on_the_images_of_its_proof_the_accuracy_mode_is_as_strict_as_the_proof(
    tmp_path: Path, data: Splits, driver: str
) -> None:
    run = fake_runs.run(tmp_path / "run", {"openvino": {"stale": True}}, data)
    proof = {"verdict": "passed", "fingerprint": data.test.fingerprint}
    Artifact.open(run.artifact_path("openvino")).learn("parity", {"openvino@fake": proof})
    result = attempt(run.path, data=data, quick=True, rounds=1)
    assert list(by_key(result)) == ["onnx@fake"]
    (entry,) = result["skipped"]
    assert entry["reason"].startswith("openvino@fake does not predict what it was proved to while it is measured: ")
    assert "agreement on" in entry["reason"]


def test_who_falls_back_to_another_device_is_caught(tmp_path: Path, data: Splits) -> None:
    run = fake_runs.run(tmp_path / "run", {"openvino": {"falls_back": True}}, data)
    result = attempt(run.path, data=data, quick=True, rounds=1)
    assert list(by_key(result)) == ["onnx@fake"]
    assert result["skipped"] == [
        {
            "candidate": "openvino@fake-cuda",
            "reason": "openvino@fake-cuda was asked to run on cuda, and fell back to cpu without a word; check the "
            "driver with `peregrine doctor`",
            "error": "CheckFailed",
        }
    ]


def test_the_same_twice_shows_no_difference(tmp_path: Path, data: Splits) -> None:
    """Both wait for the same time, so that what is left is noise."""
    run = fake_runs.run(tmp_path / "run", {"openvino": {"delay_s": 0.0005}, "openvino-int8": {"delay_s": 0.0005}}, data)
    result = benchmark(run.path, data=data, quick=True, baseline="openvino@fake")
    found = [entry for entry in result["comparisons"] if entry["candidate"] == "openvino-int8@fake"]
    assert len(found) == 2
    for entry in found:
        assert entry["verdict"] == "no difference measured" or entry["ratio"] == pytest.approx(1, abs=0.02)


def test_full_mode_has_queries_and_a_sweep(tmp_path: Path, data: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlperf_loadgen", reason="the extra loadgen is not installed")
    monkeypatch.setattr(benchmarking.host, "threads", lambda: 2)
    run = fake_runs.run(tmp_path / "run", {"openvino": {"delay_s": 0.001}}, data)
    quick = make_plan(None, 2, True)
    shorter = replace(quick, scenarios=benchmarking.SCENARIOS, starts=2, server_seconds=0.5, sweep_seconds=0.02)
    monkeypatch.setattr(benchmarking, "make_plan", lambda *_: shorter)
    result = benchmark(run.path, data=data, out=tmp_path / "out")
    assert result["mode"] == "full"
    rows = by_key(result)
    target = rows["onnx@fake"]["server"]["target_qps"]
    assert rows["openvino@fake"]["server"]["target_qps"] == target > 100
    assert rows["onnx@fake"]["server"]["latency_ms_p99"] > 0
    cells = {(cell["candidate"], cell["threads"], cell["batch_size"]) for cell in result["sweep"]}
    assert cells >= {("onnx@fake", threads, size) for threads in (1, 2) for size in (1, 8, 32, 250)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "benchmark.json", "benchmark.png", "pareto.png", "benchmark_samples.parquet",
    }  # fmt: skip
    assert not (run.results / "benchmark.json").exists()
    summaries = sorted(path.name for path in (run.logs / "loadgen" / "benchmark-onnx@fake").glob("*_summary.txt"))
    assert summaries == [f"{name}_summary.txt" for name in ("accuracy", "offline", "server", "single-stream")]


def test_artifacts_of_several_runs_side_by_side(tmp_path: Path, data: Splits) -> None:
    one, two = (fake_runs.run(tmp_path / name, {}, data) for name in ("a", "b"))
    result = benchmark([one.artifact_path("onnx"), two.path], data=data, quick=True, rounds=1)
    assert list(by_key(result)) == ["a/onnx@fake", "b/onnx@fake"]
    assert result["baseline"] == "a/onnx@fake"
    assert {entry["verdict"] for entry in result["comparisons"]} == {"no difference measured"}, "of one round"
    assert not list(tmp_path.rglob("benchmark.json"))
    assert {run.read()["verbs"][-1]["status"] for run in (one, two)} == {"done"}


def test_where_results_cannot_be_written_nothing_is_measured(tmp_path: Path, data: Splits) -> None:
    run = fake_runs.run(tmp_path / "run", {"openvino": {"delay_s": 60.0}}, data)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"results are written into a folder; .*file is none; choose another --out"):
        benchmark(run.path, data=data, out=tmp_path / "file")
    with pytest.raises(MachineError, match="file/below"):
        benchmark(run.path, data=data, out=tmp_path / "file" / "below")


def test_other_images_are_not_recorded(tmp_path: Path, data: Splits, caplog: pytest.LogCaptureFixture) -> None:
    """The accuracy on them would stand in the report beside that of the run."""
    run = fake_runs.run(tmp_path / "run", {}, data)
    run.update(data={"source": "memory", "fingerprints": {"test": data.test.fingerprint}})
    others = fake_runs.splits(60, seed=6)
    fake_runs.remember(run, others)
    own = benchmark(run.path, data=data, quick=True, rounds=1)
    assert files.read_json(run.results / "benchmark.json") == own
    assert own["fingerprint"] == data.test.fingerprint
    with caplog.at_level("INFO", logger="peregrine"):
        result = benchmark(run.path, data=others, quick=True, rounds=1)
    assert (result["test_images"], result["fingerprint"]) == (60, others.test.fingerprint)
    assert files.read_json(run.results / "benchmark.json") == own
    assert "these are not the run's test images: nothing is recorded, unless --out says where" in caplog.messages
    written = benchmark(run.path, data=others, quick=True, rounds=1, out=tmp_path / "out")
    assert files.read_json(tmp_path / "out" / "benchmark.json") == written


def test_the_results_of_a_run_hold_its_own_benchmark_alone(tmp_path: Path, data: Splits) -> None:
    one, two = (fake_runs.run(tmp_path / name, {}, data) for name in ("a", "b"))
    for run in (one, two):
        run.update(data={"source": "memory", "fingerprints": {"test": data.test.fingerprint}})
    alone = one.artifact_path("onnx")
    told = r"^the results of a run have the whole benchmark of that run, .*; choose another --out$"
    for targets, images in (([one.path], fake_runs.splits(60, seed=6)), ([one.path, two.path], data), ([alone], data)):
        with pytest.raises(UsageError, match=told):
            benchmark(targets, data=images, quick=True, rounds=1, out=one.results)
    with pytest.raises(UsageError, match=told):
        benchmark(two.path, data=data, quick=True, rounds=1, out=one.results)
    assert not (one.results / "benchmark.json").exists()
    own = benchmark(one.path, data=data, quick=True, rounds=1, out=one.results)
    assert files.read_json(one.results / "benchmark.json") == own


def test_one_scenario_alone_is_not_recorded(tmp_path: Path, data: Splits) -> None:
    pytest.importorskip("mlperf_loadgen", reason="the extra loadgen is not installed")
    run = fake_runs.run(tmp_path / "run", {}, data)
    result = benchmark(run.path, data=data, scenarios=["offline"], rounds=1, quick=True)
    (row,) = result["rows"]
    assert "throughput_per_s" in row
    assert "latency_ms_p50" not in row
    assert not (run.results / "benchmark.json").exists()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"scenarios": ["single"]},
            "^a scenario is one of single-stream, offline, server; got 'single'; did you mean 'single-stream'",
        ),
        ({"rounds": 0}, "^a benchmark has 1 round or more; got 0$"),
        (
            {"baseline": "onnx@fak"},
            "^the baseline is one of the candidates that are measured: onnx@fake; got 'onnx@fak'; did you mean",
        ),
    ],
)
def test_what_cannot_be_asked_for(tmp_path: Path, data: Splits, request_: dict[str, Any], message: str) -> None:
    run = fake_runs.run(tmp_path / "run", {}, data)
    with pytest.raises(UsageError, match=message):
        benchmark(run.path, data=data, **request_)
    assert run.read()["verbs"] == []


def test_an_artifact_in_no_run(tmp_path: Path, data: Splits) -> None:
    run = fake_runs.run(tmp_path / "run", {}, data)
    alone = tmp_path / "alone"
    run.artifact_path("onnx").rename(alone)
    with pytest.raises(UsageError, match=r"^a benchmark is logged in a run; .*alone is in none$"):
        benchmark(alone, data=data)


def test_a_named_scenario_wants_loadgen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG["driver"], "loadgen", Entry("no_such_library:LoadGen", "loadgen"))
    message = (
        r"^driver loadgen needs the library 'no_such_library', which is not installed; run: pip install 'peregrine\[l"
    )
    with pytest.raises(MissingDependency, match=message):
        make_plan(["server"], None, False)
    plan = make_plan(None, None, False)
    assert (plan.driver, plan.scenarios) == ("plain", ("single-stream", "offline"))


def test_models_are_compared_on_the_same_images(tmp_path: Path, data: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (fake_runs.run(tmp_path / name, {}, data) for name in ("a", "b"))
    other = fake_runs.splits(fake_runs.IMAGES - 3)
    monkeypatch.setattr(Target, "splits", lambda self, _=None: data if self.run.path.name == "a" else other)
    with pytest.raises(
        UsageError, match=r"^models are compared on the same test images; those of a and b differ; give"
    ):
        benchmark([one.path, two.path], quick=True)
