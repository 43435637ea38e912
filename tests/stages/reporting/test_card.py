"""The model card, read as the hub reads it."""

from pathlib import Path

import pytest

from peregrine import files
from peregrine.rundir import RunDirectory
from peregrine.stages.reporting import report
from report_making import CLASSES, SCRIPT, fill, fill_more, new_run, other_images, page_of, recipe

huggingface_hub = pytest.importorskip("huggingface_hub", reason="reads model cards; from the extra dev")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = new_run(tmp_path / "a run")
    fill(made)
    return made


def card_of(run: RunDirectory) -> "huggingface_hub.ModelCard":
    report(run)
    return huggingface_hub.ModelCard(run.card_path.read_text("utf-8"))


def test_the_hub_understands_its_metadata(run: RunDirectory) -> None:
    fill_more(run)
    run.update(name=SCRIPT)
    about = card_of(run).data
    assert about.license == "unknown"
    assert about.pipeline_tag == "image-classification"
    assert about.tags == ["image-classification", "peregrine", "pytorch", "onnx", "onnx-int8"]
    assert about.metrics == ["accuracy", "f1"]
    assert about.datasets is None  # a folder is not on the hub
    assert about.model_name == SCRIPT
    found = {result.metric_type: result for result in about.eval_results}
    assert found["accuracy"].metric_value == 0.95
    assert found["accuracy"].dataset_name == f"photos {SCRIPT}"
    assert found["accuracy"].dataset_split == "test"
    assert set(found) == {"accuracy", "f1", "loss", "ece"}


@pytest.mark.parametrize(
    ("source", "dataset"), [("cifar10", "uoft-cs/cifar10"), ("hf://someone/flowers", "someone/flowers")]
)
def test_data_of_the_hub_has_its_name_there(run: RunDirectory, source: str, dataset: str) -> None:
    run.update(data={**run.read()["data"], "source": source})
    about = card_of(run).data
    assert about.datasets == [dataset]
    assert about.eval_results[0].dataset_type == dataset


def test_the_text_tells_what_a_user_needs(run: RunDirectory) -> None:
    fill_more(run)
    text = card_of(run).text
    assert (
        "PyTorch model **sprint** with 1,973,642 parameters, which sorts RGB images into 4 classes. It names the"
        in text
    )
    assert 'with peregrine.open("artifacts/onnx") as model:' in text
    assert "`(N, 32, 32, 3)`" in text
    assert 'Classes, in order: `<script>alert(1)</script>`, `" onerror="alert(1)`, `熊猫宝宝`, `dog�god`.' in text
    assert "answers below a confidence of 0.620 are better withheld" in text
    assert "| accuracy with test-time augmentation, full, the 25.0% least certain | 95.70% |" in text
    assert "| mean corruption error, 2 corruptions × 5 severities | 31.00% |" in text
    assert "| onnx@onnxruntime | fp32 | passed | 100.00% |" in text
    assert "Chosen for throughput: **onnx@onnxruntime**." in text
    assert f"- Fingerprint of test: `{'ab' * 32}`" in text


def test_other_images_are_not_in_the_report(run: RunDirectory) -> None:
    """What `evaluate --data … --tta` found stays in the evidence; the card is of the trained model alone."""
    fill_more(run)
    other_images(run)
    evaluation = page_of(run).section("evaluation")
    assert "95.70%" in evaluation
    assert "12.30%" not in evaluation
    assert "45.60%" in evaluation, "an export, on the run's images"
    rows = [line for line in card_of(run).text.splitlines() if "test-time augmentation" in line]
    assert rows == ["| accuracy with test-time augmentation, full, the 25.0% least certain | 95.70% |"]


def test_names_are_neither_markdown_nor_html(run: RunDirectory) -> None:
    fill_more(run)
    run.update(name="[x](javascript:alert(1)) | `y`\n# z <b>")
    card = card_of(run)
    prose = "".join(card.text.split("```")[::2])
    outside = "".join(prose.split("`")[::2])
    assert "<script" not in outside
    assert "\n# \\[x\\](javascript:alert(1)) \\| \\`y\\` # z &lt;b&gt;\n" in card.text
    assert card.data.model_name == "[x](javascript:alert(1)) | `y`\n# z <b>"


def test_a_score_on_watched_images_is_called_inflated(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", "test")
    fill(run, "test")
    assert "**Its test score is inflated:**" in card_of(run).text


def test_the_test_split_is_no_validation_split(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", "test")
    fill(run, "test")
    data = run.read()["data"]
    assert "3 splits of" in page_of(run).section("data")
    fingerprints = {**data["fingerprints"], "validation": data["fingerprints"]["test"]}
    run.update(data={**data, "images": {**data["images"], "validation": 2_000}, "fingerprints": fingerprints})
    told = page_of(run).section("data")
    assert "2 splits of" in told
    assert "validation" not in told
    assert "45,000 images for training, at 32×32 pixels" in card_of(run).text


def test_a_choice_that_was_exported_again_is_none(run: RunDirectory) -> None:
    """As for `predict`, which does not follow it."""
    fill_more(run)
    chosen = run.artifacts_folder / "onnx"
    told = {"artifact": "artifacts/onnx", "artifact_id": "12" * 32}
    best, benchmark = (run.results / f"{name}.json" for name in ("best", "benchmark"))
    files.write_json(best, {**files.read_json(best), **told})
    measured = files.read_json(benchmark)
    rows = [{**row, **(told if row["candidate"] == "onnx@onnxruntime" else {})} for row in measured["rows"]]
    files.write_json(benchmark, {**measured, "rows": rows})
    mark = "; exported again or removed since"
    files.write_text(chosen / "manifest.sha256", "12" * 32 + "\n")
    assert "Chosen for throughput" in page_of(run).section("choice")
    assert "Chosen for throughput" in card_of(run).text
    assert mark not in page_of(run).section("benchmark")

    files.write_text(chosen / "manifest.sha256", "34" * 32 + "\n")
    page, card = page_of(run), card_of(run).text
    assert "What was chosen has been exported again or removed since." in page.section("choice")
    assert "Chosen for" not in page.section("choice") + card
    assert "The fastest way to run it is the trained model itself, torch@torch in fp32" in page.section("summary")
    assert f"onnx@onnxruntime fp32, cpu, 2 threads{mark}" in page.section("benchmark")
    assert page.section("benchmark").count(mark) == 1
    (row,) = (line for line in card.splitlines() if line.startswith("| onnx@onnxruntime |"))
    assert row.endswith("| – | – | – |")


def test_what_is_not_done_yet_is_said(run: RunDirectory) -> None:
    for name in ("inference_results", "parity", "benchmark"):
        (run.results / f"{name}.json").unlink()
    card = card_of(run)
    assert card.data.eval_results is None
    assert f"It has not been evaluated yet: run `peregrine evaluate '{run.path}'`." in card.text
    assert f"Nothing has been exported yet: run `peregrine export '{run.path}' --to all`." in card.text


def test_an_imported_model_has_a_card(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", None, {})
    files.write_json(run.results / "import.json", {
        "schema": 1, "file": "mine`.onnx", "path": "mine`.onnx", "kind": "onnx", "format": "onnx", "size": 28,
        "class_names": list(CLASSES), "notes": [], "validation": None, "warnings": ["its scale is unusual"],
        "options": "--scale 1/255", "layout": "nchw", "outputs": "logits", "largest_difference": 1e-7,
    })  # fmt: skip
    text = card_of(run).text
    assert "A model that was imported from the file ``mine`.onnx``, which sorts RGB images into 4 classes." in text
    assert "**Said when it was imported:** its scale is unusual." in text
    assert 'with peregrine.open("artifacts/onnx") as model:' in text


def test_a_run_without_a_model_has_none(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", recipe(), {})
    report(run)
    assert not run.card_path.exists()
