"""The network with random weights, and with weights from files in the official layout."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peregrine.engines.tensorflow.library", reason="needs the extra tensorflow", exc_type=ImportError)
import h5py

import making
from peregrine.engines.tensorflow import pretrained
from peregrine.engines.tensorflow.checkpoint import save_model
from peregrine.engines.tensorflow.library import keras
from peregrine.engines.tensorflow.models import efficientnet
from peregrine.engines.tensorflow.models.base import ALWAYS, Phase
from peregrine.engines.tensorflow.models.efficientnet import Options
from peregrine.engines.tensorflow.pretrained import Published
from peregrine.errors import DamagedFile, MachineError, RecipeError

pytestmark = pytest.mark.tensorflow
SIDE = 32
IMAGES = making.images(3, 20)
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet's pixels


def whole() -> Any:
    return keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(SIDE, SIDE, 3), pooling="avg"
    )


def build(**options: Any) -> Any:
    image = keras.Input((20, 20, 3), name="images")
    return keras.Model(image, efficientnet.build(Options(resolution=SIDE, **options), image, 4))


def write(path: Path, layers: dict[str, dict[str, Any]], under: str = "") -> Path:
    """In the official layout, as TensorFlow 2.3 wrote it."""
    with h5py.File(path, "w") as file:
        root = file.create_group(under) if under else file
        root.attrs["layer_names"] = [name.encode() for name in layers]
        root.attrs["backend"], root.attrs["keras_version"] = b"tensorflow", b"2.4.0"
        for layer, weights in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in weights]
            for name, value in weights.items():
                group[f"{layer}/{name}:0"] = value
    return path


@pytest.fixture(scope="module")
def layers() -> dict[str, dict[str, Any]]:
    """Random weights for each layer of EfficientNetB0, in the file's order, with the official statistics of pixels."""
    generator = np.random.default_rng(0)
    found: dict[str, dict[str, Any]] = {}
    for layer in whole().layers:
        if isinstance(layer, keras.layers.Normalization):
            found["normalization"] = {"mean": MEAN, "variance": DEVIATION, "count": np.int64(0)}
            continue
        found[layer.name] = {
            weight.name: weight.numpy() if len(weight.shape) > 1 else generator.uniform(0.5, 1, weight.shape)
            for weight in layer.weights
        }
    assert {"stem_conv", "block1a_dwconv", "block7a_project_bn", "top_conv"} < set(found)
    return found


@pytest.fixture(scope="module")
def official(layers: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("keras") / "efficientnetb0_notop.h5", layers)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keras' cache, with nothing in it."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def publish(monkeypatch: pytest.MonkeyPatch, path: Path, url: str) -> None:
    """Make a file the official one."""
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(efficientnet, "OFFICIAL", Published(url, md5))


def test_has_the_weights_of_efficientnet_b0_and_a_head() -> None:
    """4,049,571 by keras.applications, of which seven are the statistics of pixels."""
    model = build()
    assert model.get_layer("base").count_params() == 4_049_571 - 7
    assert model.count_params() == 4_049_571 - 7 + 1280 * 4 + 4
    assert model(IMAGES.astype(np.float32)).shape == (3, 4)
    assert efficientnet.TAKES_PIXELS
    assert efficientnet.smallest_input(Options()) == 1


def test_a_copy_and_a_file_have_the_weights_in_the_same_order(tmp_path: Path) -> None:
    """As `network` copies them, one by one, and fuses norms within the base."""
    model = build()

    def copy(layer: Any) -> Any:
        return type(layer).from_config(layer.get_config())

    copied = keras.models.clone_model(model, clone_function=copy, recursive=True)
    save_model(model, tmp_path / "model.keras")
    for other in (copied, keras.models.load_model(tmp_path / "model.keras"), build()):
        assert [weight.path for weight in other.weights] == [weight.path for weight in model.weights]
        assert all(one is same for one, same in zip(other.get_layer("base").weights, other.weights, strict=False))


def test_a_resting_base_keeps_its_weights_and_its_statistics() -> None:
    model = build()
    model.get_layer("base").trainable = False
    before = [weight.numpy() for weight in model.get_layer("base").weights]
    model(IMAGES.astype(np.float32), training=True)
    assert len(model.trainable_weights) == 2
    for weight, value in zip(model.get_layer("base").weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_answers_the_same_twice_however_it_is_called(tmp_path: Path) -> None:
    """Dropout rests when nobody says anything of training."""
    model, pixels = build(dropout=0.5), IMAGES.astype(np.float32)
    expected = model(pixels, training=False).numpy()
    save_model(model, tmp_path / "model.keras")
    for same in (model, keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_array_equal(same(pixels).numpy(), expected)
    assert not np.array_equal(model(pixels, training=True).numpy(), expected)


def test_the_head_learns_first_then_everything() -> None:
    head, everything = Phase(until=0.2, resting=("base",)), Phase(rate=0.1)
    assert efficientnet.phases(Options()) == (head, everything)
    assert efficientnet.phases(Options(head_share=0.0)) == (everything,)
    assert efficientnet.phases(Options(head_share=1.0)) == (Phase(until=1.0, resting=("base",)),)
    assert efficientnet.phases(Options(weights="none")) == ALWAYS


def test_random_weights_need_no_file(home: Path) -> None:
    resolved = efficientnet.resolve(Options(weights="none"), IMAGES)
    assert resolved == Options(weights="none", pixels="imagenet")
    model = build()
    before = model.get_layer("base").weights[0].numpy()
    efficientnet.fit(resolved, model, IMAGES)
    np.testing.assert_array_equal(model.get_layer("base").weights[0].numpy(), before)
    assert not home.exists()


def test_the_official_file_gives_what_keras_makes_of_it(
    official: Path, layers: dict[str, dict[str, Any]], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each weight, and the features of Keras' own network with `weights="imagenet"`, which reads the file by itself."""
    publish(monkeypatch, official, "http://localhost/efficientnetb0_notop.h5")
    (home / "models").mkdir(parents=True)
    (home / "models" / official.name).write_bytes(official.read_bytes())
    options = efficientnet.resolve(Options(resolution=SIDE), IMAGES)
    assert options.pixels == "imagenet"
    model = build(pixels=options.pixels)
    efficientnet.fit(options, model, IMAGES)
    base = model.get_layer("base")
    for layer in base.layers:
        for weight in layer.weights:
            np.testing.assert_array_equal(weight.numpy(), layers[layer.name][weight.name].astype(np.float32))

    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(home))
    monkeypatch.setattr("keras.src.applications.efficientnet.WEIGHTS_HASHES", {"b0": ("", efficientnet.OFFICIAL.md5)})
    keras_own = keras.applications.EfficientNetB0(
        include_top=False, weights="imagenet", input_shape=(SIDE, SIDE, 3), pooling="avg"
    )
    features = keras.Model(model.input, model.get_layer("dropout").input)
    resized = keras.layers.Resizing(SIDE, SIDE)(IMAGES.astype(np.float32))
    np.testing.assert_allclose(features(IMAGES), keras_own(resized), rtol=1e-3, atol=1e-5)


def test_a_file_with_a_top_or_of_a_whole_model_fits(layers: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    top = {"predictions": {"kernel": np.zeros((1280, 7)), "bias": np.zeros(7)}}
    with_top = write(tmp_path / "top.h5", {**layers, **top}, under="model_weights")
    assert efficientnet.resolve(Options(weights=str(with_top)), IMAGES).pixels == "imagenet"
    model = whole()
    save_model(model, tmp_path / "whole.h5")  # by Keras 3, and never adapted to any pixels
    options = efficientnet.resolve(Options(weights=str(tmp_path / "whole.h5"), resolution=SIDE), IMAGES)
    assert options.pixels == "unit"
    mine = build(pixels="unit")
    efficientnet.fit(options, mine, IMAGES)
    pixels = making.images(2, SIDE).astype(np.float32)
    np.testing.assert_allclose(mine.get_layer("base")(pixels / 255), model(pixels), rtol=1e-4, atol=1e-6)


def test_a_layer_that_does_not_fit_is_named(layers: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    def refusal(**changed: dict[str, Any]) -> str:
        path = write(tmp_path / "weights.h5", {**layers, **changed})
        with pytest.raises(RecipeError) as caught:
            efficientnet.resolve(Options(weights=str(path)), IMAGES)
        return str(caught.value).removeprefix(f"{path} does not fit the model: its layer ")

    fix = "; give model.weights another file"
    wide = {"kernel": np.zeros((3, 3, 3, 40))}
    assert refusal(stem_conv=wide, top_conv=wide) == f"stem_conv needs weights 3×3×3×32; got 3×3×3×40{fix}"
    assert refusal(top_conv={}) == f"top_conv needs weights 1×1×320×1280; it is not there{fix}"
    rule = "normalization needs ImageNet's mean and deviation, or 0 and 1"
    assert refusal(normalization={}) == f"{rule}; got none{fix}"
    other = {"mean": np.ones(3), "variance": np.ones(3)}
    assert refusal(normalization=other) == f"{rule}; got [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]{fix}"


def test_pixels_that_the_weights_do_not_know_are_refused(official: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.pixels must be imagenet with the weights of .*\.h5; got unit"):
        efficientnet.resolve(Options(weights=str(official), pixels="unit"), IMAGES)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.weights is imagenet, none or the path .*; got .*a\.h5, which is no"):
        efficientnet.resolve(Options(weights=str(tmp_path / "a.h5")), IMAGES)
    (tmp_path / "b.h5").write_bytes(b"no HDF5")
    with pytest.raises(DamagedFile, match=r"b\.h5 is not a whole HDF5 file of weights \(.*\); fetch or save it again"):
        efficientnet.resolve(Options(weights=str(tmp_path / "b.h5")), IMAGES)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["layers"] = 1
    with pytest.raises(
        RecipeError, match=r"takes the layout of keras\.applications, .* got .*c\.h5 without them; load"
    ):
        efficientnet.resolve(Options(weights=str(tmp_path / "c.h5")), IMAGES)


def test_without_a_network_the_error_says_where_to_put_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "OFFICIAL", Published("http://localhost:9/efficientnetb0_notop.h5", "0"))
    with pytest.raises(MachineError) as caught:
        efficientnet.resolve(Options(), IMAGES)
    path = home / "models" / "efficientnetb0_notop.h5"
    message = str(caught.value)
    assert message.startswith("cannot download http://localhost:9/efficientnetb0_notop.h5: Connection refused; ")
    assert message.endswith(f"put the file at {path} by hand, or train without it: --set model.weights=none")
    assert list(path.parent.iterdir()) == []


def test_another_file_in_the_cache_is_refused_and_stays(home: Path) -> None:
    path = home / "models" / "efficientnetb0_notop.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(
        DamagedFile, match=r"notop\.h5 is not the published file: expected md5 50bc.*, got .*; delete it"
    ):
        efficientnet.resolve(Options(), IMAGES)
    assert path.read_bytes() == b"mine"


@pytest.fixture
def server(official: Path) -> Iterator[str]:
    """Serves the folder of the official file."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(official.parent))

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://localhost:{running.server_port}/{official.name}"
        running.shutdown()
        thread.join()


def test_the_official_file_is_downloaded_once_and_verified(
    official: Path, server: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "models" / official.name
    with pytest.raises(DamagedFile, match=rf"{server} is not the published file: .* put the right file at {path} by"):
        pretrained.fetch(Published(server, "0"))
    assert not path.exists()
    publish(monkeypatch, official, server)
    assert pretrained.fetch(efficientnet.OFFICIAL) == path
    assert path.read_bytes() == official.read_bytes()
    publish(monkeypatch, official, f"http://localhost:9/{official.name}")
    assert pretrained.fetch(efficientnet.OFFICIAL) == path
