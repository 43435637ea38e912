import base64
import hashlib
import io
import re
import shlex
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from peregrine import files, host, metrics, parity
from peregrine.errors import DamagedFile, UsageError
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory
from peregrine.stages.reporting import report

SCRIPT = "<script>alert(1)</script>"
CLASSES = (SCRIPT, '" onerror="alert(1)', "熊猫宝宝", "dog\u202egod")
PICTURES = (
    "training_history", "confusion_matrix", "class_accuracy", "prediction_samples", "confidence_distribution",
    "reliability", "benchmark",
)  # fmt: skip
EMPTY = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
}  # fmt: skip
BLOCKS = {"caption", "td", "th", "dt", "dd", "li", "p", "div", "h2", "h3"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """The elements of a page, and a complaint about each that was not closed in order."""

    html: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[Element] = []
        self.feed(self.html)
        assert not self._open, f"never closed: {self._open[-1].tag}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        assert len(element.attributes) == len(attrs), f"an attribute of {tag} is given twice"
        self.elements.append(element)
        if tag not in EMPTY:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag
        if tag in BLOCKS:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    def section(self, name: str) -> str:
        """The text of a section, with single blanks."""
        found = [element for element in self.all("section") if element.attributes["id"] == name]
        return " ".join(found[0].text.split())


def png(path: Path, title: str) -> None:
    words = PngImagePlugin.PngInfo()
    words.add_text("Title", title)
    words.add_text("Description", "How to read it.")
    Image.new("RGB", (1350, 600), "white").save(path, pnginfo=words)


def row(candidate: str, per_s: float, precision: str = "fp32") -> dict[str, Any]:
    format, _, runtime = candidate.partition("@")
    who = {"candidate": candidate, "format": format, "runtime": runtime, "provider": "cpu", "precision": precision}
    latencies = {"latency_ms_p50": 1.2345, "latency_ms_p90": 1.4, "latency_ms_p95": 1.5, "latency_ms_p99": 2.5}
    times = {"test_split_seconds": 2.0, "load_seconds": 0.3}
    return {
        **who,
        "threads": 2,
        "batch_size": 250,
        **latencies,
        "throughput_per_s": per_s,
        **times,
        "size_bytes": 8_000_000,
    }


def verdict(
    candidate: str, noise: float, labels: Any, answers: metrics.Floats, precision: str = "fp32"
) -> dict[str, Any]:
    other = np.clip(answers + np.random.default_rng(1).normal(0, noise, answers.shape), 0, 1)
    judged = parity.compare(answers, other, labels, parity.LIMITS[precision]).to_dict()
    return {key: value for key, value in row(candidate, 1, precision).items() if key not in judged} | judged


def recipe(validation: float | str = 0.1) -> Recipe:
    content = {"name": "quick", "engine": "pytorch", "model": {"name": "sprint"}, "epochs": 3, "batch_size": 100}
    return Recipe.model_validate({**content, "schema": 1, "summary": SCRIPT, "validation": validation})


def fill(run: RunDirectory, validation: float | str = 0.1) -> None:
    """Write all results of a run, small but of the real shape, with names that mean harm."""
    labels = np.arange(2_000) % 4
    answers = np.tile([0.05, 0.06, 0.04, 0.03], (2_000, 1))
    answers[np.arange(2_000), np.where(np.arange(2_000) < 1_900, labels, (labels + 1) % 4)] = 0.85
    summary = {
        "schema": 1, "engine": "pytorch", "model": "sprint", "recipe": "quick", "precision": "bf16", "epochs": 3,
        "training_seconds": 192.4, "compilation_seconds": 6.2, "images_per_s": 1_871.4, "best_epoch": 2,
        "stopped_early": False, "parameters": 1_973_642, "temperature": 1.0432, "train_images": 45_000,
        "validation_images": 5_000, "validation": validation, "class_names": list(CLASSES),
    }  # fmt: skip
    evaluation = {
        "schema": 1, "split": "test", "tta": "none", "candidate": "torch@torch", "fingerprint": "ab" * 32,
        **metrics.evaluate(answers, labels, CLASSES),
    }  # fmt: skip
    rows = [row("torch@torch", 780), row("onnx@onnxruntime", 1_880)]
    proofs = [
        verdict("onnx@onnxruntime", 1e-7, labels, answers),
        verdict("onnx-int8@onnxruntime", 0.5, labels, answers, "int8"),
    ]
    skipped = [{"format": "tensorrt", "reason": f"needs a library {SCRIPT}"}]
    results = {
        "training_summary": summary,
        "training_history": [],
        "inference_results": evaluation,
        "parity": {"split": "test", "images": 2_000, "ancestor": "cd" * 32, "rows": proofs, "skipped": skipped},
        "benchmark": {"host": host.describe(), "test_images": 2_000, "throughput_batch": 250, "rows": rows},
    }
    for name, content in results.items():
        files.write_json(run.results / f"{name}.json", content)
    for name in PICTURES:
        png(run.results / f"{name}.png", f"{name} with {SCRIPT} and 100%")


def new_run(path: Path, validation: float | str = 0.1) -> RunDirectory:
    data = {
        "source": f"photos {SCRIPT}",
        "notes": [f"1 file was left out: {SCRIPT}.jpg"],
        "class_names": list(CLASSES),
        "size": 32,
        "resize": "crop",
        "images": {"train": 45_000, "validation": 5_000, "test": 2_000},
        "fingerprints": {"train": "12" * 32, "validation": "34" * 32, "test": "56" * 32},
    }
    return RunDirectory.create(path, recipe(validation), data)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = new_run(tmp_path / "a run")
    fill(made)
    return made


def page_of(run: RunDirectory) -> Page:
    path = report(run)
    assert path == run.path / "report.html"
    return Page(path.read_text("utf-8"))


# ---- safe ----------------------------------------------------------------------------------------------------------


def test_names_that_mean_harm_are_text(run: RunDirectory) -> None:
    with run.verb("train"):
        run.update(name=SCRIPT)
    page = page_of(run)
    assert "<script" not in page.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.html
    assert not page.all("script")
    assert not [name for element in page.elements for name in element.attributes if name.startswith("on")]
    assert SCRIPT in page.all("h1")[0].text
    assert SCRIPT in page.all("title")[0].text
    assert any(element.text == "dog\u202egod" for element in page.all("bdi"))  # kept apart from the line around it


def test_nothing_is_loaded_from_anywhere(run: RunDirectory) -> None:
    page = page_of(run)
    for element in page.elements:
        for name in ("src", "srcset", "href", "data", "action", "poster", "background"):
            target = element.attributes.get(name)
            assert target is None or target.startswith(("data:image/png;base64,", "#")), element
        assert "style" not in element.attributes  # the content security policy would refuse it
    assert not page.all("link")
    style = page.all("style")[0].text
    assert "url(" not in style
    assert "@import" not in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes)
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


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
    assert "torch@torch fp32, cpu, 2 threads ✓ trained model 1.23 1.40 1.50 2.50 780 2.00 s 0.30 s 8.0 MB" in benchmark
    assert "56" * 32 in provenance
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


def test_pictures_are_inside_and_told_in_words(run: RunDirectory) -> None:
    page = page_of(run)
    pictures = page.all("img")
    assert [picture.attributes["alt"] for picture in pictures] == [
        f"{name} with {SCRIPT} and 100%. How to read it."
        for name in (
            "training_history", "confusion_matrix", "class_accuracy", "prediction_samples", "reliability",
            "confidence_distribution", "benchmark",
        )
    ]  # fmt: skip
    for picture in pictures:
        content = base64.b64decode((picture.attributes["src"] or "").partition(",")[2])
        with Image.open(io.BytesIO(content)) as image:
            assert (str(image.width), str(image.height)) == (picture.attributes["width"], picture.attributes["height"])


# ---- accessible ----------------------------------------------------------------------------------------------------


def test_the_page_can_be_read_without_seeing_it(run: RunDirectory) -> None:
    page = page_of(run)
    assert page.all("html")[0].attributes["lang"] == "en"
    levels = [int(element.tag[1]) for element in page.elements if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    tables = page.all("table")
    assert len(tables) == len(page.all("caption")) >= 7
    assert all("scope" in header.attributes for header in page.all("th"))
    identities = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(identities) == len(set(identities))
    for element in page.elements:
        for name, prefix in (("href", "#"), ("aria-labelledby", "")):
            target = element.attributes.get(name)
            assert target is None or target.removeprefix(prefix) in identities
        if element.attributes.get("role") == "region":
            assert element.attributes["tabindex"] == "0"  # so that the keyboard can scroll it


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
    assert "Its fastest export, which is not proved yet, onnx@onnxruntime" in page.section("summary")
    assert "– not proved" in page.section("benchmark")


# ---- what is missing -----------------------------------------------------------------------------------------------


def test_a_fresh_run_says_which_commands_come_next(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "a run", recipe(), {})
    page = page_of(run)
    path = shlex.quote(str(run.path))
    assert "The training of this run has not finished." in page.section("summary")
    for section, command in (
        ("training", f"peregrine train --resume --run {path}"),
        ("data", f"peregrine train --resume --run {path}"),
        ("evaluation", f"peregrine evaluate {path}"),
        ("exports", f"peregrine export {path} --to all"),
        ("benchmark", f"peregrine benchmark {path}"),
    ):
        assert page.section(section).endswith(f"This command does it: {command}")


@pytest.mark.parametrize("name", ["training_summary", "inference_results", "parity", "benchmark"])
def test_any_result_may_be_missing(run: RunDirectory, name: str) -> None:
    (run.results / f"{name}.json").unlink()
    assert "This command does it:" in page_of(run).html


def test_a_run_that_lost_its_record_still_has_a_page(run: RunDirectory) -> None:
    for name in ("run.json", "recipe.toml"):
        (run.path / name).unlink()
    assert "95.0%" in page_of(run).section("summary")


def test_a_missing_or_damaged_picture_is_named_with_its_command(run: RunDirectory) -> None:
    (run.results / "benchmark.png").unlink()
    (run.results / "reliability.png").write_bytes(b"\x89PNG but not really")
    page = page_of(run)
    path = shlex.quote(str(run.path))
    draws = "is missing. This command draws it: peregrine"
    assert f"The picture benchmark.png {draws} benchmark {path}" in page.section("benchmark")
    assert f"The picture reliability.png {draws} evaluate {path}" in page.section("evaluation")


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
    assert "dog 0 – – –" in page.section("evaluation")
    assert "The most frequent mistakes" not in page.html
