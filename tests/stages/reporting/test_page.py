import base64
import hashlib
import io
import re
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from peregrine import files, host, metrics
from peregrine.errors import DamagedFile, UsageError
from peregrine.rundir import RunDirectory
from peregrine.stages.reporting import report
from report_making import SCRIPT, fill, fill_more, new_run, page_of, recipe


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """With the results that runs had before issue 6."""
    made = new_run(tmp_path / "a run")
    fill(made)
    return made


@pytest.fixture
def full(run: RunDirectory) -> RunDirectory:
    """With everything."""
    fill_more(run)
    return run


# ---- safe ----------------------------------------------------------------------------------------------------------


def test_names_that_mean_harm_are_text(full: RunDirectory) -> None:
    with full.verb("train"):
        full.update(name=SCRIPT)
    page = page_of(full)
    assert page.html.count("<script") == len(page.all("script")) == 1
    assert "alert" not in page.all("script")[0].text
    assert page.html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10
    assert not [name for element in page.elements for name in element.attributes if name.startswith("on")]
    assert SCRIPT in page.all("h1")[0].text
    assert SCRIPT in page.all("title")[0].text
    assert any(element.text == "dog\u202egod" for element in page.all("bdi"))  # kept apart from the line around it


def test_nothing_is_loaded_from_anywhere(full: RunDirectory) -> None:
    page = page_of(full)
    for element in page.elements:
        for name in ("src", "srcset", "href", "data", "action", "poster", "background"):
            target = element.attributes.get(name)
            assert target is None or target.startswith(("data:image/png;base64,", "#")), element
        assert "style" not in element.attributes  # the content security policy would refuse it
    assert not page.all("link")
    style, script = page.all("style")[0].text, page.all("script")[0].text
    assert "url(" not in style
    assert "@import" not in style
    assert "fetch" not in script
    policy = next(e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes)
    assert policy == (
        f"default-src 'none'; img-src data:; style-src {hashed(style)}; script-src {hashed(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# ---- complete ------------------------------------------------------------------------------------------------------


def test_the_summary_says_what_a_manager_wants_to_know(run: RunDirectory) -> None:
    summary = page_of(run).section("summary")
    assert (
        "The PyTorch model sprint learned 4 classes from 45,000 images in 3 min 12 s and names the right one for 95.0% "
        "of 2,000 test images (95% interval 94.0% to 95.9%). Its fastest export that is proved to predict the same, "
        "onnx@onnxruntime in fp32, answers one image in 1.23 ms and 1,880 images per second in batches of 250, with 2 "
        "threads of "
    ) in summary
    assert "onnx-int8@onnxruntime failed its proof." in summary
    assert "inflated" not in summary


def test_every_section_has_its_numbers(run: RunDirectory) -> None:
    page = page_of(run)
    training, data, evaluation, exports, benchmark, provenance = (
        page.section(name) for name in ("training", "data", "evaluation", "exports", "benchmark", "provenance")
    )
    assert "sprint (1,973,642 parameters) by the recipe quick in bf16, for 3 epochs" in training
    assert "Epoch 2 was the best on validation and was kept." in training
    assert "Compilation 6.20 s" in training
    assert "train 45,000 1212121212121212" in data
    assert "Each has 500 test images." in data
    assert f"1 file was left out: {SCRIPT}.jpg" in data
    assert "Accuracy 95.0% Top-3 accuracy 97.5% Balanced accuracy 95.0%" in evaluation
    assert "The temperature 1.043 was fitted on validation" in evaluation
    assert "The most frequent mistakes" in evaluation
    assert "1 of 2 exports is proved to predict what the trained model predicts, on all 2,000 test images." in exports
    assert "✓ passed 100.00%" in exports
    assert "✗ failed" in exports
    assert "onnx-int8@onnxruntime: agreement" in exports
    assert (
        "Limits for fp32: agreement at least 100%, largest |Δp| at most 0.001, accuracy drop by ties only." in exports
    )
    assert "Limits for int8: agreement at least 97%, accuracy drop at most 0.5 points." in exports
    assert f"tensorrt was skipped: needs a library {SCRIPT}." in exports
    assert "2 torch@torch fp32, cpu, 2 threads ✓ trained model 95.00% 1.23 2.50 780" in benchmark
    assert "2 torch@torch 2.00 s 0.30 s 8.0 MB" in benchmark
    assert "ab" * 32 in provenance
    assert host.describe()["processor"] in provenance
    assert 'engine = "pytorch"' in provenance
    source = shlex.quote(f"photos {SCRIPT}")
    assert f"peregrine run --data {source} --recipe {shlex.quote(str(run.recipe_path))}" in provenance


def test_the_verbs_of_one_command_stand_together(run: RunDirectory) -> None:
    for name in ("train", "evaluate"):
        with run.verb(name):
            pass
    provenance = page_of(run).section("provenance")
    assert re.search(r"train done in 0\.\d+ s, evaluate done in 0\.\d+ s", provenance)


def test_what_issue_6_brought_is_shown(full: RunDirectory) -> None:
    page = page_of(full)
    summary, choice, evaluation, benchmark = (
        page.section(name) for name in ("summary", "choice", "evaluation", "benchmark")
    )
    assert "The one to use for throughput is onnx@onnxruntime in fp32: it answers one image in 1.23 ms" in summary
    assert f"Chosen for throughput onnx@onnxruntime It is the fastest of two that passed {SCRIPT}." in choice
    assert "Accuracy on validation, which chose 94.70% Accuracy on test 95.10% 94.1% to 96.0%" in choice
    assert "fp32, run by onnxruntime with 2 threads, from artifacts/onnx." in choice
    assert "Limits asked for: accuracy at least 90.0%, accuracy drop at most 0.5 points, size at most 12 MB." in choice
    assert f"The limit is close {SCRIPT}." in choice
    assert "torch@torch 59% less throughput 780 1.23 8.0 MB" in choice
    assert "onnx-int8@onnxruntime its parity failed – – –" in choice
    assert "Accuracy against throughput: 2 candidates that no other beats in both" in choice
    assert (
        "Answers with a confidence below 0.620 are better withheld: then 66.0% of the images get an answer, and 98.1% "
        "of these answers are right (98.0% was aimed at). The threshold was chosen on validation."
    ) in evaluation
    assert "test 2,000 images, torch@torch full, the 25.0% least certain 95.70% 94.0% to 96.0% +0.70" in evaluation
    assert "2 synthetic corruptions at five severities, on 2,000 images: 31.0% on average" in evaluation
    assert "fog 10.0% 20.0% 30.0% 40.0% 60.0% 32.0%" in evaluation
    assert f"The machine was busy while this was measured: The program {SCRIPT} used 0.8 of 2 cores." in benchmark
    assert "780 764 to 796 0.410× 0.400 to 0.420, slower" in benchmark
    assert "1.01× no difference measured" in benchmark
    assert "1,880 1,842 to 1,918 1 baseline" in benchmark
    assert "2.00 s 468 0.30 s 1.25 s 0.75 s 312.0 MB 8.0 MB 7.70 ms at 120/s" in benchmark
    assert "of 10,000 timed answers of 2 candidates, 100.00% are the answers that were scored." in benchmark
    assert f"Preprocessing alone: 4,250 images/s (JPEG of {SCRIPT})." in benchmark
    assert "Cores that other programs kept busy: 0.8 before, 2.1 after; clock: 3,100 to 3,700 MHz." in benchmark
    assert "Throughput by batch size" in benchmark


def test_what_failed_while_it_was_measured_is_a_caution(full: RunDirectory) -> None:
    content = files.read_json(full.results / "benchmark.json")
    content["rows"][0]["accuracy_mode"]["timed_agreement"] = 0.9
    content["skipped"] = [
        {"candidate": "fast@fake", "reason": "it answers otherwise than it was proved to", "error": "ParityFailed"},
        {"candidate": "tensorrt@tensorrt", "reason": "there is no GPU", "error": "MissingDevice"},
    ]
    files.write_json(full.results / "benchmark.json", content)
    page = page_of(full)
    cautions = [element.text for element in page.all("div") if element.attributes.get("class") == "caution"]
    said = "fast@fake failed while it was measured: it answers otherwise than it was proved to."
    assert any(said in text for text in cautions)
    benchmark = page.section("benchmark")
    assert benchmark.count("fast@fake") == 1
    assert "tensorrt@tensorrt was skipped: there is no GPU." in benchmark
    assert "95.00% are the answers that were scored." in benchmark


def test_nothing_to_withhold(full: RunDirectory) -> None:
    content = files.read_json(full.results / "inference_results.json")
    content["reject"] |= {"threshold": 0.0, "coverage": 1.0, "accuracy": 0.95}
    files.write_json(full.results / "inference_results.json", content)
    evaluation = page_of(full).section("evaluation")
    assert "all answers together are as accurate as was aimed at on validation (98.0%)." in evaluation
    assert "reject threshold" not in evaluation


@pytest.mark.parametrize("validation", [0.1, "none"])
def test_without_a_threshold_the_page_says_why(tmp_path: Path, validation: float | str) -> None:
    run = new_run(tmp_path / "run", validation)
    fill(run, validation)
    fill_more(run)
    content = files.read_json(run.results / "inference_results.json")
    content["reject"] = dict.fromkeys(content["reject"])
    files.write_json(run.results / "inference_results.json", content)
    said = "there was no validation split to choose it on"
    evaluation = page_of(run).section("evaluation")
    assert f"No threshold was chosen: {said if validation == 'none' else 'none reaches'}" in evaluation
    assert "The less it answers, the more is right" in evaluation


def test_a_picture_is_inside_and_told_in_words(full: RunDirectory) -> None:
    page = page_of(full)
    pictures = page.all("img")
    assert [picture.attributes["alt"] for picture in pictures] == [
        f"{name} with {SCRIPT} and 100%. How to read it." for name in ("mistakes", "prediction_samples")
    ]
    for picture in pictures:
        content = base64.b64decode((picture.attributes["src"] or "").partition(",")[2])
        with Image.open(io.BytesIO(content)) as image:
            assert (str(image.width), str(image.height)) == (picture.attributes["width"], picture.attributes["height"])


def test_a_matrix_of_many_classes_is_a_picture(run: RunDirectory) -> None:
    names = tuple(f"class {number}" for number in range(30))
    evaluation = files.read_json(run.results / "inference_results.json")
    evaluation |= metrics.evaluate(np.eye(30), np.arange(30), names)
    files.write_json(run.results / "inference_results.json", evaluation)
    page = page_of(run)
    assert any("confusion_matrix" in (picture.attributes["alt"] or "") for picture in page.all("img"))
    assert "confusion-caption" not in page.html


# ---- accessible ----------------------------------------------------------------------------------------------------


def test_the_page_can_be_read_without_seeing_it(full: RunDirectory) -> None:
    page = page_of(full)
    assert page.all("html")[0].attributes["lang"] == "en"
    levels = [int(element.tag[1]) for element in page.elements if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    tables = page.all("table")
    assert len(tables) == len(page.all("caption")) >= 15
    assert all("scope" in header.attributes for header in page.all("th"))
    identities = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(identities) == len(set(identities))
    for element in page.elements:
        for name, prefix in (("href", "#"), ("aria-labelledby", ""), ("for", "")):
            target = element.attributes.get(name)
            assert target is None or target.removeprefix(prefix) in identities
        if element.attributes.get("role") == "region":
            assert element.attributes["tabindex"] == "0"  # so that the keyboard can scroll it
        if element.tag == "svg" and "aria-hidden" not in element.attributes:
            assert element.attributes["role"] in ("img", "group")
            assert element.attributes["aria-label"]


def test_light_dark_and_paper_are_thought_of(run: RunDirectory) -> None:
    style = page_of(run).all("style")[0].text
    assert "@media (prefers-color-scheme: dark)" in style
    assert "@media print" in style


# ---- what the score is worth ---------------------------------------------------------------------------------------


def test_a_score_on_the_split_that_was_watched_is_called_inflated(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", "test")
    fill(run, "test")
    page = page_of(run)
    assert "This test score is inflated." in page.section("summary")
    assert "The last epoch was kept." in page.section("training")
    assert "there was no validation split to correct it on" in page.section("evaluation")


def test_without_validation_the_page_says_what_was_not_chosen(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", "none")
    fill(run, "none")
    assert "Nothing was chosen on held-out images." in page_of(run).section("summary")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"verdict": "inconclusive"},
            "Its fastest export, with too few images to prove that it predicts the same, onnx@",
        ),
        (
            {"candidate": "onnx@openvino"},
            "The fastest way to run it is the trained model itself, torch@torch in fp32: it",
        ),
    ],
)
def test_the_fastest_is_as_good_as_its_proof(run: RunDirectory, change: dict[str, str], words: str) -> None:
    content = files.read_json(run.results / "parity.json")
    content["rows"][0] |= change
    files.write_json(run.results / "parity.json", content)
    measured = files.read_json(run.results / "benchmark.json")
    if "verdict" in change:  # else the trained model, which is slower, but needs no proof, comes first
        measured["rows"] = measured["rows"][1:]
    files.write_json(run.results / "benchmark.json", measured)
    assert words in page_of(run).section("summary")


def test_a_measurement_without_any_proof_says_so(run: RunDirectory) -> None:
    for name in ("parity", "inference_results"):
        (run.results / f"{name}.json").unlink()
    page = page_of(run)
    assert "The fastest way to run it is the trained model itself, torch@torch" in page.section("summary")
    assert "– not proved" in page.section("benchmark")
    assert "✓ trained model" in page.section("benchmark")
    measured = files.read_json(run.results / "benchmark.json")
    files.write_json(run.results / "benchmark.json", {**measured, "rows": measured["rows"][1:]})
    assert "Its fastest export, which is not proved yet, onnx@onnxruntime" in page_of(run).section("summary")


def test_what_could_not_be_built_was_not_skipped(run: RunDirectory) -> None:
    content = files.read_json(run.results / "parity.json")
    content["skipped"] = [
        {"format": "onnx", "status": "failed", "reason": "the converter crashed", "batch": 8},
        {"format": "tensorrt", "status": "unproved", "reason": "there is no GPU", "batch": None},
    ]
    files.write_json(run.results / "parity.json", content)
    exports = page_of(run).section("exports")
    assert "onnx-batch8 could not be built: the converter crashed." in exports
    assert "tensorrt was built, but not proved here: there is no GPU." in exports


# ---- what is missing -----------------------------------------------------------------------------------------------


def test_a_fresh_run_says_which_commands_come_next(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "a run", recipe(), {})
    page = page_of(run)
    path = shlex.quote(str(run.path))
    assert "The training of this run has not finished." in page.section("summary")
    for section, command in (
        ("training", f"peregrine train --resume --run {path}"),
        ("data", f"peregrine train --resume --run {path}"),
        ("choice", f"peregrine best {path}"),
        ("evaluation", f"peregrine evaluate {path}"),
        ("exports", f"peregrine export {path} --to all"),
        ("benchmark", f"peregrine benchmark {path}"),
    ):
        assert page.section(section).endswith(f"This command does it: {command}")


@pytest.mark.parametrize("name", ["training_summary", "inference_results", "parity", "benchmark", "best"])
def test_any_result_may_be_missing(full: RunDirectory, name: str) -> None:
    (full.results / f"{name}.json").unlink()
    assert "This command does it:" in page_of(full).html


def test_a_run_with_everything_misses_nothing(full: RunDirectory) -> None:
    assert "This command" not in page_of(full).html


def test_parts_of_the_evaluation_that_are_missing_are_named(run: RunDirectory) -> None:
    evaluation = page_of(run).section("evaluation")
    path = shlex.quote(str(run.path))
    for what, command in (
        ("How accuracy rises when unsure answers are withheld has not been worked out yet", f"evaluate {path}"),
        ("The model has not been judged with test-time augmentation", f"evaluate {path} --tta full"),
        ("The model has not been judged on corrupted images", f"evaluate {path} --robustness"),
    ):
        assert f"{what}. This command does it: peregrine {command}" in evaluation


def test_a_run_that_lost_its_record_still_has_a_page(run: RunDirectory) -> None:
    for name in ("run.json", "recipe.toml"):
        (run.path / name).unlink()
    assert "95.0%" in page_of(run).section("summary")


def test_a_missing_or_damaged_picture_is_named_with_its_command(full: RunDirectory) -> None:
    (full.results / "prediction_samples.png").unlink()
    (full.results / "mistakes.png").write_bytes(b"\x89PNG but not really")
    evaluation = page_of(full).section("evaluation")
    for name in ("prediction_samples", "mistakes"):
        draws = f"is missing. This command draws it: peregrine evaluate {shlex.quote(str(full.path))}"
        assert f"The picture {name}.png {draws}" in evaluation


def test_a_result_that_is_no_json_is_named(run: RunDirectory) -> None:
    (run.results / "parity.json").write_text("{")
    with pytest.raises(DamagedFile, match=r"parity\.json is not valid JSON"):
        report(run)


def test_a_folder_without_a_run_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a run is a folder with a run\.json; found none at"):
        report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_classes_and_one_image(run: RunDirectory) -> None:
    evaluation = files.read_json(run.results / "inference_results.json")
    evaluation |= metrics.evaluate(np.array([[0.7, 0.3]]), np.array([0]), ("cat", "dog"))
    files.write_json(run.results / "inference_results.json", evaluation)
    page = page_of(run)
    assert "Top-3" not in page.html
    assert "of 1 test image (95% interval" in page.section("summary")
    assert "dog – – – 0" in page.section("evaluation")
    assert "The most frequent mistakes" not in page.html
