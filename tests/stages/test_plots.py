"""Pictures are looked at by people; what a test can hold is that they appear, whole, and say the right numbers."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from peregrine import metrics, rejection
from peregrine.corruptions import CORRUPTIONS
from peregrine.dataset import Dataset
from peregrine.errors import UsageError
from peregrine.stages import plots
from pictures import HOSTILE, NARROW, WIDE, answers, title


def judged(classes: int, images: int, names: tuple[str, ...] = (), accuracy: float = 0.8) -> dict[str, Any]:
    """Figures of a made-up model, as the stage `evaluating` writes them."""
    labels = np.random.default_rng(1).integers(0, classes, images)
    names = names or tuple(f"class {number}" for number in range(classes))
    probabilities = answers(labels, classes, accuracy)
    return {
        "split": "test",
        **metrics.evaluate(probabilities, labels, names),
        "coverage": rejection.coverage_curve(probabilities, labels),
        "reject": None,
    }


def epochs(count: int, validated: bool = True) -> list[dict[str, Any]]:
    return [
        {
            "epoch": number,
            "loss": 2.0 / number,
            "accuracy": 1 - 0.5 / number,
            "val_loss": 2.2 / number if validated else None,
            "val_accuracy": 1 - 0.6 / number if validated else None,
            "learning_rate": 0.1 * (count - number) / count,
            "seconds": 1.5,
            "images_per_s": 900.0,
        }
        for number in range(1, count + 1)
    ]


@pytest.fixture(scope="module")
def digits() -> tuple[Dataset, metrics.Floats]:
    """Real scans, and what a nearest-mean classifier says of them."""
    pixels, labels = load_digits(return_X_y=True)
    means = np.stack([pixels[labels == digit].mean(0) for digit in range(10)])
    distance = ((pixels[:, None] - means) ** 2).sum(2)
    images = np.repeat((pixels.reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8), 3, axis=3)
    ids = np.array([f"digits/{number}" for number in range(len(labels))])
    names = tuple(str(digit) for digit in range(10))
    return Dataset(images, labels.astype(np.int64), ids, names), metrics.softmax(-distance / 100)


# ---- training ------------------------------------------------------------------------------------------------------


def test_history_names_the_epoch_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "results" / "training_history.png"
    plots.training_history(epochs(8), 6, path)
    assert title(path) == "90.0% validation accuracy in epoch 6 of 8, which was kept"
    before = path.read_bytes()
    plots.training_history(epochs(8), 6, path)
    assert path.read_bytes() == before  # same numbers, same picture


def test_history_says_when_the_curve_is_of_the_test_split(tmp_path: Path) -> None:
    plots.training_history(epochs(3), 3, tmp_path / "a.png", judged_on="test")
    assert title(tmp_path / "a.png") == "80.0% test accuracy in epoch 3 of 3, which was kept"


@pytest.mark.parametrize("count", [1, 200])
def test_history_without_validation(tmp_path: Path, count: int) -> None:
    plots.training_history(epochs(count, validated=False), count, tmp_path / "a.png")
    assert title(tmp_path / "a.png").startswith("Training accuracy ends at ")


def test_history_of_one_epoch_with_a_learning_rate_of_zero(tmp_path: Path) -> None:
    plots.training_history(epochs(1), 1, tmp_path / "a.png")
    assert title(tmp_path / "a.png") == "40.0% validation accuracy in epoch 1 of 1, which was kept"


# ---- evaluation ----------------------------------------------------------------------------------------------------


def test_confusion_matrix_names_the_most_frequent_mistake(tmp_path: Path) -> None:
    labels = np.array([0] * 10 + [1] * 10)
    probabilities = np.eye(2)[[0] * 7 + [1] * 3 + [1] * 9 + [0]]
    evaluation = metrics.evaluate(probabilities, labels, ("cat", "dog"))
    plots.confusion_matrix(evaluation, tmp_path / "a.png")
    assert title(tmp_path / "a.png") == (
        "80.0% of 20 images are right; the most frequent mistake: 30.0% of “cat” are taken for “dog”"
    )


def test_class_accuracy_names_both_ends(tmp_path: Path) -> None:
    labels = np.array([0] * 10 + [1] * 10)
    probabilities = np.eye(3)[[0] * 7 + [1] * 3 + [1] * 9 + [0]]
    evaluation = metrics.evaluate(probabilities, labels, ("cat", "dog", "a class without images"))
    plots.class_accuracy(evaluation, tmp_path / "a.png")
    assert title(tmp_path / "a.png") == "Accuracy per class runs from 70.0% (cat) to 90.0% (dog)"


@pytest.mark.parametrize(
    ("classes", "images", "accuracy", "matrix_width", "bars_width"),
    [
        (2, 1, 0.0, NARROW, NARROW),
        (2, 1, 1.0, NARROW, NARROW),
        (20, 50_000, 0.9, NARROW, NARROW),
        (31, 500, 0.0, WIDE, WIDE),
    ],
)
def test_any_number_of_classes_and_images(
    tmp_path: Path, classes: int, images: int, accuracy: float, matrix_width: int, bars_width: int
) -> None:
    names = tuple(f"a class with quite a long name, number {number}" for number in range(classes))
    evaluation = judged(classes, images, names, accuracy)
    plots.confusion_matrix(evaluation, tmp_path / "matrix.png")
    assert f"of {images:,} test image" in title(tmp_path / "matrix.png", matrix_width)
    plots.class_accuracy(evaluation, tmp_path / "bars.png")
    assert title(tmp_path / "bars.png", bars_width)
    plots.reliability(evaluation, tmp_path / "reliability.png")
    assert f"{100 * evaluation['ece']:.1f} points (ECE)" in title(tmp_path / "reliability.png")


def test_of_many_classes_the_weakest_are_drawn_and_it_is_said(tmp_path: Path) -> None:
    evaluation = judged(130, 2_000)
    plots.confusion_matrix(evaluation, tmp_path / "matrix.png")
    plots.class_accuracy(evaluation, tmp_path / "bars.png")
    for file, words in (("matrix", "the 100 of 130 classes with the most"), ("bars", "the 100 weakest of 130 classes")):
        assert title(tmp_path / f"{file}.png", WIDE)
        with Image.open(tmp_path / f"{file}.png") as picture:
            assert words in picture.info["Description"]


def test_no_mistake_at_all(tmp_path: Path) -> None:
    labels = np.arange(60) % 3
    evaluation = metrics.evaluate(np.eye(3)[labels], labels, ("a", "b", "c"))
    plots.confusion_matrix(evaluation, tmp_path / "a.png")
    assert title(tmp_path / "a.png") == "100.0% of 60 images are right"
    plots.reliability(evaluation, tmp_path / "b.png")
    assert title(tmp_path / "b.png").startswith("Confidence is off by 0.0 points (ECE)")


def test_confidence_of_right_and_wrong_answers(tmp_path: Path) -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05], [0.4, 0.6]])
    plots.confidence_distribution(probabilities, np.array([0, 0, 1, 0]), tmp_path / "a.png")
    assert title(tmp_path / "a.png") == (
        "Typical confidence: right answers 85%, wrong answers 77%; 1 of 2 mistakes made with 90% or more"
    )


@pytest.mark.parametrize(("label", "words"), [(0, "right answers 90%"), (1, "wrong answers 90%; 1 of 1 mistake ")])
def test_confidence_when_all_answers_are_of_one_kind(tmp_path: Path, label: int, words: str) -> None:
    plots.confidence_distribution(np.array([[0.9, 0.1]]), np.array([label]), tmp_path / "a.png")
    assert title(tmp_path / "a.png").startswith(f"Typical confidence: {words}")


@pytest.mark.parametrize(
    ("reject", "words"),
    [
        (
            {"threshold": 0.62, "coverage": 0.9, "accuracy": 0.88, "target_accuracy": 0.9},
            "Answers of 62.0% conf",
        ),
        (
            {"threshold": 0.99, "coverage": 0.2, "accuracy": 1.0, "target_accuracy": 0.999},
            "Answers of 99.0% conf",
        ),
        (
            {"threshold": 0.99, "coverage": 0.0, "accuracy": None, "target_accuracy": 0.999},
            "No answer has 99.0% confidence or more",
        ),
        ({"threshold": 0.0, "coverage": 1.0, "accuracy": 0.82, "target_accuracy": 0.8}, "nothing needs to be rejected"),
        (None, "Of the surer half of the answers "),
    ],
)
def test_coverage_says_what_the_threshold_gains(tmp_path: Path, reject: dict[str, Any] | None, words: str) -> None:
    evaluation = judged(4, 600)
    evaluation["reject"] = {"chosen_on": "validation", **reject} if reject else None
    plots.coverage(evaluation, tmp_path / "a.png")
    assert words in title(tmp_path / "a.png")


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
@pytest.mark.parametrize("images", [1, 3])
def test_coverage_of_few_images(tmp_path: Path, images: int, accuracy: float) -> None:
    plots.coverage(judged(2, images, accuracy=accuracy), tmp_path / "a.png")
    assert title(tmp_path / "a.png").startswith("Of the surer half")


@pytest.mark.parametrize("worst", [0.0, 0.05, 1.0])
def test_robustness_names_the_hardest(tmp_path: Path, worst: float, digits: tuple[Dataset, metrics.Floats]) -> None:
    errors = {name: [0.1 * worst] * 5 for name in CORRUPTIONS} | {"fog": [worst] * 5}
    mean = float(np.mean(list(errors.values())))
    result = {
        "mean_corruption_error": mean, "interval": [mean - 0.1, mean + 0.1], "clean_error": 0.05 * worst,
        "images": 1_000, "settings": "CIFAR-10-C", "corruptions": errors,
    }  # fmt: skip
    plots.robustness(result, digits[0].images[0], tmp_path / "a.png")
    assert title(tmp_path / "a.png").startswith(f"Mean corruption error {100 * mean:.1f}%, clean ")
    if worst:
        assert title(tmp_path / "a.png").endswith(f"hardest: fog, {100 * worst:.1f}%")


# ---- images --------------------------------------------------------------------------------------------------------


def test_samples_of_real_images(tmp_path: Path, digits: tuple[Dataset, metrics.Floats]) -> None:
    part, probabilities = digits
    right = int((probabilities.argmax(1) == part.labels).sum())
    plots.prediction_samples(part, probabilities, tmp_path / "a.png")
    assert title(tmp_path / "a.png") == f"{right:,} of 1,797 images are right"


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, 7])
def test_samples_of_few_images(
    tmp_path: Path, digits: tuple[Dataset, metrics.Floats], count: int, accuracy: float
) -> None:
    part = digits[0].subset(range(count))
    probabilities = np.eye(10)[part.labels if accuracy else (part.labels + 1) % 10]
    plots.prediction_samples(part, probabilities, tmp_path / "a.png")
    assert title(tmp_path / "a.png").startswith(f"{count if accuracy else 0} of {count} image")


def test_the_surest_mistakes_come_first(tmp_path: Path, digits: tuple[Dataset, metrics.Floats]) -> None:
    part = digits[0].subset(range(40))
    probabilities = np.full((40, 10), 0.01)
    probabilities[np.arange(40), part.labels] = 0.91
    probabilities[7] = np.roll(probabilities[7], 1)
    plots.mistakes(part, probabilities, tmp_path / "a.png")
    seven = str((part.labels[7] + 1) % 10)
    assert title(tmp_path / "a.png") == f"The only mistake: “{part.labels[7]}” taken for “{seven}”, 91%"
    probabilities[9] = np.eye(10)[(part.labels[9] + 1) % 10]
    plots.mistakes(part, probabilities, tmp_path / "b.png")
    assert title(tmp_path / "b.png").startswith(f"The surest of 2 mistakes: “{part.labels[9]}” taken for “")


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, 40])
def test_mistakes_of_a_model_that_makes_none_or_only_such(
    tmp_path: Path, digits: tuple[Dataset, metrics.Floats], count: int, accuracy: float
) -> None:
    part = digits[0].subset(range(count))
    plots.mistakes(part, np.eye(10)[part.labels if accuracy else (part.labels + 1) % 10], tmp_path / "a.png")
    words = title(tmp_path / "a.png")
    assert words.startswith(f"No mistake on {count} image" if accuracy else "The ")
    with Image.open(tmp_path / "a.png") as picture:
        assert ("The 25 of 40 mistakes" in picture.info["Description"]) == (count == 40 and not accuracy)


@pytest.mark.parametrize("count", [1, 8])
def test_one_image_beside_its_most_likely_classes(
    tmp_path: Path, digits: tuple[Dataset, metrics.Floats], count: int
) -> None:
    part, probabilities = digits[0].subset(range(count)), digits[1][:count]
    plots.prediction_sample(part, probabilities, tmp_path / "a.png")
    assert f" of {count} image" in title(tmp_path / "a.png")


def test_fewer_classes_than_bars(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    part = Dataset(pixels, np.array([0, 1, 1]), np.array(["a/1.png", "a/2.png", "a" * 200]), ("cat", "dog"))
    plots.prediction_sample(part, answers(part.labels, 2), tmp_path / "a.png")
    assert title(tmp_path / "a.png")


# ---- names ---------------------------------------------------------------------------------------------------------


def draw_matrix(part: Dataset, probabilities: metrics.Floats, path: Path) -> None:
    plots.confusion_matrix(metrics.evaluate(probabilities, part.labels, part.class_names), path)


def draw_bars(part: Dataset, probabilities: metrics.Floats, path: Path) -> None:
    plots.class_accuracy(metrics.evaluate(probabilities, part.labels, part.class_names), path)


@pytest.mark.parametrize(
    "draw", [draw_matrix, draw_bars, plots.prediction_samples, plots.mistakes, plots.prediction_sample]
)
def test_no_name_is_too_strange(tmp_path: Path, draw: Callable[[Dataset, metrics.Floats, Path], None]) -> None:
    """Markup, formulas, scripts that no font has, emoji, control characters: no error, and no warning."""
    labels = np.arange(16) % len(HOSTILE)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 9, 9, 3), np.uint8)
    part = Dataset(pixels, labels, np.array(HOSTILE)[labels], HOSTILE)
    draw(part, answers(labels, len(HOSTILE), accuracy=0.3), tmp_path / "a.png")
    assert title(tmp_path / "a.png")


def test_a_picture_is_a_png() -> None:
    plots.check_name(Path("a.PNG"))
    for name in ("a", "a.jpg", "a.png.pdf"):
        with pytest.raises(UsageError, match=r"a picture is a \.png file; got a"):
            plots.check_name(Path(name))


def test_pictures_need_no_window_system_and_no_pyplot() -> None:
    code = "import sys; from peregrine.stages import plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
