"""Runs with all results, small but of the real shape, for tests of the report; names in them mean harm."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from peregrine import files, host, metrics, parity
from peregrine.recipe import Recipe
from peregrine.rundir import RunDirectory
from peregrine.stages.reporting import report

SCRIPT = "<script>alert(1)</script>"
CLASSES = (SCRIPT, '" onerror="alert(1)', "熊猫宝宝", "dog\u202egod")
PICTURES = (
    "training_history", "confusion_matrix", "class_accuracy", "prediction_samples", "confidence_distribution",
    "reliability", "benchmark", "mistakes", "coverage", "robustness",
)  # fmt: skip
EMPTY = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
}  # fmt: skip
BLOCKS = {"caption", "td", "th", "dt", "dd", "li", "p", "div", "h2", "h3", "figcaption"}


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
        elif tag == "br":
            self.handle_data(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

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
    """A row of a benchmark, as all versions have written it."""
    format, _, runtime = candidate.partition("@")
    return {
        "candidate": candidate, "format": format, "runtime": runtime, "provider": "cpu", "precision": precision,
        "threads": 2, "batch_size": 250, "latency_ms_p50": 1.2345, "latency_ms_p90": 1.4, "latency_ms_p95": 1.5,
        "latency_ms_p99": 2.5, "throughput_per_s": per_s, "test_split_seconds": 2.0, "load_seconds": 0.3,
        "size_bytes": 8_000_000,
    }  # fmt: skip


def newer(old: dict[str, Any], accuracy: float | None) -> dict[str, Any]:
    """A row with what issue 6 brought."""
    per_s = old["throughput_per_s"]
    return {
        **old,
        "latency_ms_p50_interval": [1.21, 1.27],
        "throughput_per_s_interval": [0.98 * per_s, 1.02 * per_s],
        "cold_start_seconds": 1.25,
        "peak_memory_bytes": 312_000_000,
        "warmup_seconds": 0.75,
        "images_per_s_from_bytes": 0.6 * per_s,
        "accuracy": accuracy,
        "accuracy_mode": {"images": 500, "agreement": 0.99, "timed_answers": 5_000, "timed_agreement": 1.0},
        "server": {"target_qps": 120.0, "latency_ms_p99": 7.7, "valid": True},
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


def history(epochs: int = 3, judged: bool = True) -> list[dict[str, Any]]:
    """Rows as the engines write them."""
    return [
        {
            "epoch": epoch, "loss": 2.0 / epoch, "accuracy": 1 - 0.6 / epoch,
            "val_loss": 2.1 / epoch if judged else None, "val_accuracy": 1 - 0.7 / epoch if judged else None,
            "learning_rate": 0.24 * (1 - (epoch - 1) / epochs), "seconds": 12.0, "images_per_s": 3_750.0,
        }
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip


def fill(run: RunDirectory, validation: float | str = 0.1) -> None:
    """Write the results of a run as they were before issue 6."""
    labels = np.arange(2_000) % 4
    answers = np.tile([0.05, 0.06, 0.04, 0.03], (2_000, 1))
    answers[np.arange(2_000), np.where(np.arange(2_000) < 1_900, labels, (labels + 1) % 4)] = 0.85
    summary = {
        "schema": 1, "engine": "pytorch", "model": "sprint", "recipe": "quick", "precision": "bf16", "epochs": 3,
        "training_seconds": 192.4, "compilation_seconds": 6.2, "images_per_s": 1_871.4, "best_epoch": 2,
        "stopped_early": False, "parameters": 1_973_642, "temperature": 1.0432, "train_images": 45_000,
        "validation_images": 5_000, "validation": validation, "image_size": 32, "class_names": list(CLASSES),
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
        "training_history": history(judged=validation != "none"),
        "inference_results": evaluation,
        "parity": {"split": "test", "images": 2_000, "ancestor": "cd" * 32, "rows": proofs, "skipped": skipped},
        "benchmark": {"host": host.describe(), "test_images": 2_000, "rows": rows},
    }
    for name, content in results.items():
        files.write_json(run.results / f"{name}.json", content)
    for name in PICTURES[:7]:
        png(run.results / f"{name}.png", f"{name} with {SCRIPT} and 100%")


def fill_more(run: RunDirectory) -> None:
    """Add to `fill` what issue 6 brought, and names that mean harm there too."""
    benchmark = files.read_json(run.results / "benchmark.json")
    rows = [newer(one, accuracy) for one, accuracy in zip(benchmark["rows"], (0.95, 0.951), strict=True)]
    more = newer({**row("onnx-fp16@onnxruntime", 1_900, "fp16"), "size_bytes": 4_000_000}, 0.948)
    rows.append({**more, "accuracy_mode": None, "server": None, "latency_ms_p50": 1.9})
    sweep = [
        {"candidate": one["candidate"], "threads": threads, "batch_size": batch,
         "throughput_per_s": one["throughput_per_s"] * threads / 2 * batch / (batch + 4), "latency_ms_p50": 1.0 * batch}
        for one in rows for threads in (1, 2) for batch in (1, 8, 64)
    ]  # fmt: skip
    comparison = {"baseline": "onnx@onnxruntime", "metric": "throughput_per_s"}
    files.write_json(run.results / "benchmark.json", {
        **benchmark,
        "mode": "full",
        "baseline": "onnx@onnxruntime",
        "noise": {
            "busy": True, "messages": [f"the program {SCRIPT} used 0.8 of 2 cores"], "load_before": 0.8,
            "load_after": 2.1, "steal_share": None, "frequency_mhz": [3_100.0, 3_700.0],
        },
        "comparisons": [
            {**comparison, "candidate": "torch@torch", "ratio": 0.41, "interval": [0.4, 0.42], "verdict": "slower"},
            {**comparison, "candidate": "onnx-fp16@onnxruntime", "ratio": 1.01, "interval": [0.97, 1.04],
             "verdict": "no difference measured"},
        ],
        "pareto": {"latency_ms_p50": ["onnx@onnxruntime"]},
        "sweep": sweep,
        "preprocess": {"images_per_s": 4_250.0, "what": f"JPEG of {SCRIPT}"},
        "rows": rows,
    })  # fmt: skip
    limits = {"max_latency_ms": None, "min_accuracy": 0.9, "max_accuracy_drop_points": 0.5, "max_size_mb": 12.0}
    files.write_json(run.results / "best.json", {
        "schema": 1, "objective": "throughput", "limits": limits,
        "candidate": "onnx@onnxruntime", "artifact": "artifacts/onnx", "runtime": "onnxruntime", "precision": "fp32",
        "threads": 2, "validation_accuracy": 0.947, "test_accuracy": 0.951, "test_accuracy_interval": [0.941, 0.96],
        "throughput_per_s": 1_880.0, "latency_ms_p50": 1.2345, "size_bytes": 8_000_000,
        "why": f"It is the fastest of two that passed {SCRIPT}",
        "runners_up": [
            {"candidate": "torch@torch", "misses": "59% less throughput", "precision": "fp32",
             "throughput_per_s": 780.0, "latency_ms_p50": 1.2345, "size_bytes": 8_000_000},
            {"candidate": "onnx-int8@onnxruntime", "misses": "its parity failed", "precision": "int8",
             "throughput_per_s": None, "latency_ms_p50": None, "size_bytes": None},
        ],
        "warnings": [f"the limit is close {SCRIPT}"],
    })  # fmt: skip
    evaluation = files.read_json(run.results / "inference_results.json")
    names = ("gaussian_noise", "fog")
    files.write_json(run.results / "inference_results.json", {
        **evaluation,
        "coverage": [
            {"threshold": step / 10, "coverage": 1 - 0.06 * step, "accuracy": 0.95 + 0.005 * step} for step in range(10)
        ],
        "reject": {"threshold": 0.62, "coverage": 0.66, "accuracy": 0.981, "target_accuracy": 0.98,
                   "chosen_on": "validation"},
        "robustness": {
            "mean_corruption_error": 0.31, "clean_error": 0.05, "images": 2_000,
            "corruptions": {name: [0.1, 0.2, 0.3, 0.4, 0.5 + place / 10] for place, name in enumerate(names)},
        },
    })  # fmt: skip
    without = {"accuracy": 0.95, "accuracy_interval": [0.94, 0.96], "loss": 0.2, "ece": 0.02, "images": 2_000}
    with_views = {**without, "accuracy": 0.957, "loss": 0.18, "candidate": "torch@torch"}
    learned = {"evaluation:test:abababababab": without, "evaluation:test:abababababab:tta-full-0.25": with_views}
    files.write_json(run.artifacts_folder / "torch" / "evidence.json", {"schema": 1, "learned": learned})
    for name in PICTURES[7:]:
        png(run.results / f"{name}.png", f"{name} with {SCRIPT} and 100%")


def other_images(run: RunDirectory) -> None:
    """Add to `fill_more` what was found with test-time augmentation on other images, and of an export."""
    path = run.artifacts_folder / "torch" / "evidence.json"
    learned = files.read_json(path)["learned"]
    plain, with_views = learned.values()
    topic = "evaluation:test:cdcdcdcdcdcd"
    others = {topic: plain, f"{topic}:tta-flip-1": {**with_views, "accuracy": 0.123}}
    files.write_json(path, {"schema": 1, "learned": {**learned, **others}})
    by_export = {**with_views, "candidate": "onnx@onnxruntime", "accuracy": 0.456}
    of_export = dict(zip(learned, (plain, by_export), strict=True))
    files.write_json(run.artifacts_folder / "onnx" / "evidence.json", {"schema": 1, "learned": of_export})


def new_run(path: Path, validation: float | str = 0.1) -> RunDirectory:
    data = {
        "source": f"photos {SCRIPT}",
        "notes": [f"1 file was left out: {SCRIPT}.jpg"],
        "class_names": list(CLASSES),
        "size": 32,
        "resize": "crop",
        "images": {"train": 45_000, "validation": 5_000, "test": 2_000},
        "fingerprints": {"train": "12" * 32, "validation": "34" * 32, "test": "ab" * 32},
    }
    return RunDirectory.create(path, recipe(validation), data)


def page_of(run: RunDirectory) -> Page:
    """The report, written and read."""
    path = report(run)
    assert path == run.path / "report.html"
    return Page(path.read_text("utf-8"))
