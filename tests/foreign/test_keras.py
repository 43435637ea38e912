"""Somebody's Keras file: what is made of it, and what is refused before Keras sees it."""

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import h5py

import foreign_making
import tiny
from peregrine.engines.tensorflow.library import keras
from peregrine.errors import DamagedFile, UsageError
from peregrine.export import keras_to_onnx
from peregrine.foreign.base import as_probabilities, kind_of_outputs
from peregrine.foreign.keras import open_model
from peregrine.foreign.pixels import Pixels

pytestmark = pytest.mark.tensorflow
BGR = Pixels("bgr", 1 / 255, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
layers = keras.layers


def network(last: str | None = "softmax") -> Any:
    """Sequential, with a norm that has statistics."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((8, 8, 3)),
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.5),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, activation=last),
    ])  # fmt: skip
    model.layers[1].set_weights([np.random.default_rng(i).uniform(0.5, 2, 4) for i in range(4)])
    return model


def save(model: Any, path: Path) -> Path:
    model.compile("adam", "categorical_crossentropy")  # as people's files are
    return foreign_making.save_keras(model, path)


def imported(path: Path, pixels: Pixels = BGR, outputs: str | None = None, **settings: Any) -> tuple[Any, Any]:
    model = open_model(path)
    model.settle(settings.get("layout"), settings.get("size"), settings.get("classes"))
    noise = np.random.default_rng(0).integers(0, 256, (7, model.size, model.size, 3), np.uint8)
    kind = outputs or kind_of_outputs(model.ask(pixels.apply(noise)))
    folder = path.parent / "made"
    folder.mkdir(exist_ok=True)
    model.write(folder, pixels, kind)
    return model.reopen(folder), model


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
@pytest.mark.parametrize("last", ["softmax", None])
@pytest.mark.parametrize("pixels", [BGR, Pixels(scale=1 / 255)])
def test_answers_as_the_file_does(tmp_path: Path, suffix: str, last: str | None, pixels: Pixels) -> None:
    model = network(last)
    answer, opened = imported(save(model, tmp_path / f"somebody{suffix}"), pixels)
    made = keras.models.load_model(tmp_path / "made" / "model.keras", compile=False)
    assert all(isinstance(each, keras.layers.Layer) for each in made.operations), "which .h5 files cannot hold"
    images = tiny.images(7)
    given = model(pixels.apply(images), training=False).numpy()
    kind = "probabilities" if last else "logits"
    assert (opened.layout, opened.size, kind_of_outputs(given)) == ("NHWC", 8, kind)
    np.testing.assert_allclose(opened.ask(pixels.apply(images)), given, atol=1e-5)
    np.testing.assert_allclose(answer(images), as_probabilities(given, kind), atol=1e-6)


def test_what_is_made_is_an_ancestor_as_any_other(tmp_path: Path) -> None:
    """With the layers that the Runtime asks, in safe mode; and it becomes ONNX, with the cast first."""
    import onnx
    import onnxruntime

    from peregrine.artifact import ANCESTOR, Artifact, Golden

    answer, _ = imported(save(network(), tmp_path / "somebody.keras"))
    images = tiny.images(9)
    expected = answer(images)
    with Artifact.write(
        tmp_path / "keras", format="keras", like=tiny.like(), golden=Golden(images, {ANCESTOR: expected})
    ) as folder:
        (folder / "model.keras").write_bytes((tmp_path / "made" / "model.keras").read_bytes())
    from peregrine.candidate import default_candidate

    artifact = Artifact.open(tmp_path / "keras")
    with default_candidate(artifact).open() as runtime:
        runtime.verify()
        logits = runtime.logits(images)
    np.testing.assert_allclose(as_probabilities(logits, "logits"), expected, atol=1e-6)
    (tmp_path / "onnx").mkdir()
    keras_to_onnx.convert(artifact, tmp_path / "onnx")
    model = onnx.load(tmp_path / "onnx" / "model.onnx")
    assert model.graph.node[0].op_type == "Cast"
    session: Any = onnxruntime.InferenceSession(model.SerializeToString())
    np.testing.assert_allclose(session.run(None, {"images": images})[0], expected, atol=1e-5)


@pytest.mark.parametrize("end", ["activation", "layer", "neither"])
def test_probabilities_by_other_ways_than_a_dense_layers(end: str, tmp_path: Path) -> None:
    images = keras.Input((8, 8, 3))
    x = layers.Dense(3)(layers.Flatten()(images))
    if end == "neither":
        x = layers.Rescaling(1.0)(layers.Softmax()(x))
    else:
        x = (layers.Activation("softmax") if end == "activation" else layers.Softmax())(x)
    model = keras.Model(images, x)
    answer, opened = imported(save(model, tmp_path / "somebody.keras"))
    pixels = tiny.images(7)
    expected = model(BGR.apply(pixels)).numpy()
    np.testing.assert_allclose(opened.ask(BGR.apply(pixels)), expected, atol=1e-6)
    np.testing.assert_allclose(answer(pixels), expected, atol=1e-6)


def test_mixed_precision_is_computed_in_float32(tmp_path: Path) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        path = save(network(), tmp_path / "somebody.keras")
    finally:
        keras.config.set_dtype_policy(before)
    plain = network()
    answer, opened = imported(path)
    images = tiny.images(7)
    np.testing.assert_allclose(opened.ask(BGR.apply(images)), plain(BGR.apply(images)).numpy(), atol=1e-5)
    np.testing.assert_allclose(answer(images), plain(BGR.apply(images)).numpy(), atol=1e-5)


def test_a_functional_model_with_operations_and_a_fixed_batch(tmp_path: Path) -> None:
    images = keras.Input(batch_shape=(1, 8, 8, 3))
    x = layers.Conv2D(4, 3)(images)
    x = keras.ops.relu(x) + 0.5
    answers = layers.Dense(3)(layers.Flatten()(layers.MaxPooling2D()(x)))
    path = save(keras.Model(images, answers), tmp_path / "somebody.keras")
    answer, opened = imported(path)
    assert opened.batch == 1
    pixels = tiny.images(5)
    np.testing.assert_allclose(answer(pixels), as_probabilities(opened.ask(BGR.apply(pixels)), "logits"), atol=1e-6)


def test_keras_applications_are_no_strangers(tmp_path: Path) -> None:
    """A network as people have it: nested, with norms, of any size."""
    base = keras.applications.MobileNetV2((None, None, 3), alpha=0.35, include_top=False, weights=None)
    images = keras.Input((None, None, 3))
    answers = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(base(images)))
    path = save(keras.Model(images, answers), tmp_path / "somebody.keras")
    with pytest.raises(UsageError, match=r"takes images of any size; give the side in pixels"):
        open_model(path).settle(None, None, None)
    answer, opened = imported(path, Pixels(scale=1 / 127.5, mean=(1.0, 1.0, 1.0)), size=32)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    given = opened.ask((pixels / 127.5 - 1).astype(np.float32))
    np.testing.assert_allclose(answer(pixels), given, atol=1e-6)


def lambda_layer() -> Any:
    return layers.Lambda(lambda x: x * 2)


def own_layer() -> Any:
    class Doubler(layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 2 * x

    return Doubler()


def registered_layer() -> Any:
    @keras.saving.register_keras_serializable("somebody", "Tripler")
    class Tripler(layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 3 * x

    return Tripler()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("make", "name"), [(lambda_layer, "Lambda"), (own_layer, "Doubler"), (registered_layer, "Tripler")]
)
def test_code_is_refused(make: Callable[[], Any], name: str, suffix: str, tmp_path: Path) -> None:
    images = keras.Input((8, 8, 3))
    answers = layers.Dense(3)(layers.Flatten()(make()(images)))
    path = save(keras.Model(images, answers), tmp_path / f"somebody{suffix}")
    with pytest.raises(
        UsageError, match=rf"({name}.*, which is a program of its own|cannot build .*'{name}')"
    ) as caught:
        open_model(path)
    assert "\n" not in str(caught.value)


def change_config(path: Path, change: Callable[[str], str]) -> Path:
    """The same file with another configuration."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["config.json"] = change(content["config.json"].decode()).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def test_a_module_that_would_be_imported_by_name(tmp_path: Path) -> None:
    path = save(network(), tmp_path / "somebody.keras")
    change_config(path, lambda text: text.replace('"module": "keras.layers", "class_name": "Dense"',
                                                  '"module": "antigravity", "class_name": "Dense"'))  # fmt: skip
    with pytest.raises(UsageError, match=r"has Dense \('dense\w*'\), which is a program of its own"):
        open_model(path)


def test_a_function_that_would_download(tmp_path: Path) -> None:
    path = save(network(), tmp_path / "somebody.keras")
    part = {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "get_file"}
    change_config(path, lambda text: text.replace('"activation": "softmax"', f'"activation": {json.dumps(part)}'))
    with pytest.raises(UsageError, match=r"has get_file, which is a program of its own"):
        open_model(path)


def test_an_archive_with_more_in_it(tmp_path: Path) -> None:
    path = save(network(), tmp_path / "somebody.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../.bashrc", "echo owned")
    with pytest.raises(UsageError, match=r"also has '\.\./\.\./\.bashrc'; save the model without what needs it$"):
        open_model(path)


def test_a_bomb(tmp_path: Path) -> None:
    path = save(network(), tmp_path / "somebody.h5")
    with h5py.File(path, "a") as file:
        file.create_dataset("zeros", (2**20, 2**20), "f4", chunks=(2**10, 2**10), compression="gzip")
    assert path.stat().st_size < 2**20
    with pytest.raises(UsageError, match=r"has up to 2 GiB; .* has 4096\.0 GiB$"):
        open_model(path)


def by_link(file: Any) -> None:
    file["more"] = h5py.ExternalLink("/etc/passwd", "/")


def by_storage(file: Any) -> None:
    file.create_dataset("more", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def by_view(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "data", (4,))
    file.create_virtual_dataset("more", layout)


@pytest.mark.parametrize("reach", [by_link, by_storage, by_view])
def test_weights_in_another_file(reach: Callable[[Any], None], tmp_path: Path) -> None:
    path = save(network(), tmp_path / "somebody.h5")
    with h5py.File(path, "a") as file:
        reach(file)
    with pytest.raises(UsageError, match=r"holds its weights itself; .* takes some from another file$"):
        open_model(path)


def test_weights_alone(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network().save_weights(tmp_path / "somebody.weights.h5")
    with pytest.raises(UsageError, match=r"has no network; save it with model\.save$"):
        open_model(tmp_path / "somebody.weights.h5")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_any_truncation_and_any_noise_is_refused_in_one_line(suffix: str, tmp_path: Path) -> None:
    path = save(network(), tmp_path / f"somebody{suffix}")
    whole = path.read_bytes()
    pieces = [whole[: len(whole) * part // 10] for part in range(10)] + [np.random.default_rng(0).bytes(3000)]
    for content in pieces:
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match="is no whole Keras file") as caught:
            open_model(path)
        assert "\n" not in str(caught.value)


def test_a_layer_that_keras_3_does_not_know_any_more(tmp_path: Path) -> None:
    path = save(network(), tmp_path / "somebody.h5")
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][-1] = {"class_name": "ThresholdedDense", "config": {"name": "dense"}}
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(
        UsageError, match=r"Keras 3\.\d+\.\d+ cannot build .*somebody\.h5 \(.*ThresholdedDense.*\); save it"
    ):
        open_model(path)


def test_a_file_of_keras_2(tmp_path: Path) -> None:
    """As Keras 2 wrote it: no modules in the configuration, `batch_input_shape`, another name for functional models."""
    model = network()
    path = save(model, tmp_path / "somebody.h5")
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = "2.4.0"
        file.attrs["model_config"] = json.dumps({
            "class_name": "Sequential",
            "config": {
                "name": "sequential",
                "layers": [
                    {
                        "class_name": "InputLayer",
                        "config": {"batch_input_shape": [None, 8, 8, 3], "dtype": "float32", "sparse": False,
                                   "ragged": False, "name": "input_1"},
                    },
                    *({"class_name": type(each).__name__, "config": old(each.get_config())} for each in model.layers),
                ],
            },
        })  # fmt: skip
    answer, _ = imported(path)
    images = tiny.images(7)
    np.testing.assert_allclose(answer(images), model(BGR.apply(images), training=False).numpy(), atol=1e-6)


def old(config: dict[str, Any]) -> dict[str, Any]:
    """A layer's configuration as Keras 2 had it: names for all that is nested."""

    def simple(value: Any) -> Any:
        if isinstance(value, dict) and "class_name" in value:
            return {"class_name": value["class_name"], "config": value["config"]}
        return value

    dropped = ("quantization_config", "dtype", "renorm", "synchronized")
    return {**{key: simple(value) for key, value in config.items() if key not in dropped}, "dtype": "float32"}
