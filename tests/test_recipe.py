"""Recipes are checked once, at the door; each refusal is one line with the key, the rule and what was found."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrine import catalog
from peregrine.errors import RecipeError, UsageError
from peregrine.recipe import Recipe, load_recipe, parse_setting, recipe_names, write_recipe
from peregrine.validation import validate

BASE: dict[str, Any] = {
    "name": "mine",
    "engine": "tensorflow",
    "model": {"name": "cnn"},
    "epochs": 3,
    "batch_size": 8,
}

RISING = "input.growth has stages [until, size] with shares of the run above 0, each larger than the one before"


def recipe(**changes: Any) -> Recipe:
    return validate(Recipe, {**BASE, **changes}, "recipe mine")


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_load_and_come_back_from_toml(name: str, tmp_path: Path) -> None:
    shipped = load_recipe(name)
    assert shipped.name == name
    write_recipe(shipped, tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml") == shipped


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epocs": 3}, "unknown key 'epocs'; did you mean 'epochs'?"),
        ({"learning_rate": 0.1}, "unknown key 'learning_rate'; did you mean 'optimizer.learning_rate'?"),
        ({"augmentation": {"rotaton": 3}}, "unknown key 'augmentation.rotaton'; did you mean 'rotation'?"),
        ({"callbacks": {"seed": 3}}, "unknown key 'callbacks.seed'; did you mean 'seed'?"),
        (
            {"optimizer": {"name": "adam", "learnin_rate": 3}},
            "unknown key 'optimizer.learnin_rate'; did you mean 'learning_rate'?",
        ),
        (
            {"optimizer": {"name": "adam", "momentum": 0.9}},
            "unknown key 'optimizer.momentum'; it belongs to another optimizer.name",
        ),
        ({"qqqq": 3}, "unknown key 'qqqq'"),
        ({"epochs": 0}, "epochs must be greater than or equal to 1; got 0"),
        ({"epochs": 2.5}, "epochs must be a valid integer; got 2.5"),
        ({"epochs": "3"}, "epochs must be a valid integer; got '3'"),
        ({"epochs": True}, "epochs must be a valid integer; got True"),
        ({"batch_size": -1}, "batch_size must be greater than or equal to 1; got -1"),
        ({"seed": 2**32}, "seed must be less than 4294967296; got 4294967296"),
        (
            {"optimizer": {"name": "adam", "learning_rate": -0.1}},
            "optimizer.learning_rate must be greater than 0; got -0.1",
        ),
        (
            {"optimizer": {"name": "adam", "learning_rate": float("nan")}},
            "optimizer.learning_rate must be a finite number; got nan",
        ),
        (
            {"optimizer": {"name": "adam", "learning_rate": float("inf")}},
            "optimizer.learning_rate must be a finite number; got inf",
        ),
        (
            {"optimizer": {"name": "addam"}},
            "optimizer.name must be one of 'adam', 'adamw', 'sgd', 'muon'; got 'addam'; did you mean 'adam'?",
        ),
        ({"optimizer": {"learning_rate": 0.1}}, "the key 'optimizer.name' is required and was not given"),
        ({"optimizer": "adam"}, "optimizer must be a table; got 'adam'"),
        ({"model": "cnn"}, "model must be a table; got 'cnn'"),
        ({"model": {}}, "the key 'model.name' is required and was not given"),
        (
            {"model": {"name": "cn"}},
            "model.name of engine tensorflow is one of cnn, resnet, efficientnet, sprint; got 'cn'; did you mean "
            "'cnn'?",
        ),
        ({"engine": "pytoch"}, "engine must be 'tensorflow' or 'pytorch'; got 'pytoch'"),
        (
            {"schedule": {"name": "cosin"}},
            "schedule.name must be one of 'constant', 'linear', 'cosine', 'step', 'one-cycle'; got 'cosin'; did you "
            "mean 'cosine'?",
        ),
        ({"validation": 0}, "validation must be greater than 0 or be 'none' or 'test'; got 0"),
        ({"validation": "tset"}, "validation must be a valid number or be 'none' or 'test'; got 'tset'"),
        ({"input": {"size": 4}}, "input.size must be greater than or equal to 8 or be 'auto'; got 4"),
        ({"input": {"growth": [[0.5]]}}, "the key 'input.growth.0.1' is required and was not given"),
        ({"input": {"growth": [[2.0, 24]]}}, "input.growth.0.0 must be less than or equal to 1; got 2.0"),
        ({"input": {"growth": [[0.7, 24], [0.3, 16]]}}, f"{RISING}; got [[0.7, 24], [0.3, 16]]"),
        ({"input": {"growth": [[0.5, 8], [0.5, 10]]}}, f"{RISING}; got [[0.5, 8], [0.5, 10]]"),
        ({"input": {"growth": [[0.0, 24]]}}, f"{RISING}; got [[0.0, 24]]"),
        ({"schema": 2}, "schema must be 1; got 2"),
    ],
)
def test_what_breaks_a_rule_is_told_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(**changes)
    assert str(caught.value) == f"recipe mine: {message}"


@pytest.mark.parametrize("key", ["engine", "model", "epochs", "batch_size"])
def test_required_keys(key: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    lines = {"engine": 'engine = "tensorflow"', "epochs": "epochs = 3", "batch_size": "batch_size = 8"}
    lines["model"] = '[model]\nname = "cnn"'
    path.write_text("\n".join(text for name, text in lines.items() if name != key))
    with pytest.raises(RecipeError, match=f"^recipe {path}: the key '{key}' is required and was not given$"):
        load_recipe(path)


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = = 3")
    with pytest.raises(RecipeError, match=r"mine\.toml is not valid TOML: .*line 1") as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(b'name = "caf\xe9"')
    with pytest.raises(RecipeError, match=r"mine\.toml is not a text file in UTF-8: .* at byte 11"):
        load_recipe(path)


def test_an_unknown_name_gets_the_known_ones() -> None:
    name = recipe_names()[0]
    with pytest.raises(
        UsageError, match=f"a recipe is a .toml file or one of .*; got '{name}x'; did you mean '{name}'"
    ):
        load_recipe(f"{name}x")


def test_a_file_is_named_after_itself_unless_it_says_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('engine = "tensorflow"\nepochs = 3\nbatch_size = 8\n[model]\nname = "cnn"\n')
    assert load_recipe(path).name == "mine"
    assert load_recipe(
        path, {"epochs": 5, "optimizer": {"name": "adam"}, "optimizer.learning_rate": 0.5}
    ).optimizer == (recipe(optimizer={"name": "adam", "learning_rate": 0.5}).optimizer)


def test_changed_checks_again_and_leaves_the_original_alone() -> None:
    before = recipe()
    after = before.changed({"optimizer.learning_rate": 0.1, "model.widths": [8, 8], "input.growth": [[0.5, 16]]})
    assert after.optimizer.learning_rate == 0.1
    assert after.model.options == {"widths": [8, 8]}
    assert after.input.growth == ((0.5, 16),)
    assert before == recipe()
    with pytest.raises(RecipeError, match=r"^recipe mine: epochs must be greater than or equal to 1; got 0$"):
        before.changed({"epochs": 0})
    with pytest.raises(RecipeError, match=r"^recipe key 'epochs\.x': 'epochs' is a value, not a table$"):
        before.changed({"epochs.x": 0})
    with pytest.raises(
        RecipeError, match=r"^recipe key 'optimizer' is a table; set one of its keys, optimizer\.name=…$"
    ):
        before.changed({"optimizer": 3})


def test_changed_leaves_a_table_that_it_is_given_alone() -> None:
    model = {"name": "sprint", "widths": [8, 8]}
    after = load_recipe("sprint-quick").changed({"model": model, "model.depth": 3})
    assert after.model.options["depth"] == 3
    assert model == {"name": "sprint", "widths": [8, 8]}


def test_an_empty_table_is_a_table_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[input]\n")
    with pytest.raises(RecipeError, match=r"^recipe key 'input' is a table; set one of its keys, input.…=…$"):
        load_recipe(path, {"input": 3})


def test_recipes_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        recipe().epochs = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("epochs=8", ("epochs", 8)),
        (" optimizer.learning_rate = 1e-3 ", ("optimizer.learning_rate", 0.001)),
        ("validation=none", ("validation", "none")),
        ('name="a=b"', ("name", "a=b")),
        ("name=a=b", ("name", "a=b")),
        ("callbacks.tensorboard=false", ("callbacks.tensorboard", False)),
        ("input.growth=[[0.5, 24]]", ("input.growth", [[0.5, 24]])),
        ("seed=", ("seed", "")),
        ("x=1\ny=2", ("x", "1\ny=2")),
    ],
)
def test_settings_are_read_as_toml_else_as_text(setting: str, expected: tuple[str, Any]) -> None:
    assert parse_setting(setting) == expected


@pytest.mark.parametrize("setting", ["epochs", "=3", ""])
def test_a_setting_without_its_form(setting: str) -> None:
    with pytest.raises(UsageError, match=f"--set takes key=value, as in .*; got '{setting}'$"):
        parse_setting(setting)


def numbers(low: float, high: float, **settings: Any) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, **settings)


fractions = numbers(0, 1, exclude_max=True)
rates = numbers(0, 1e6, exclude_min=True)
text = st.text(max_size=20)
sizes = st.integers(8, 512)
stages = st.lists(st.tuples(numbers(0, 1, exclude_min=True), sizes), max_size=3, unique_by=lambda stage: stage[0])
optimizers = st.one_of(
    st.fixed_dictionaries({"name": st.just("adam"), "learning_rate": rates}),
    st.fixed_dictionaries(
        {"name": st.just("muon")}, optional={"learning_rate": rates, "momentum": fractions, "weight_decay": rates}
    ),
)
models = st.sampled_from([tuple(key.split("/")) for key in catalog.CATALOG["model"]])
recipes = st.fixed_dictionaries(
    {"name": text, "epochs": st.integers(1, 100_000), "batch_size": st.integers(1, 1_000_000), "model": models},
    optional={
        "schema": st.just(1),
        "summary": text,
        "input": st.fixed_dictionaries(
            {},
            optional={"size": st.just("auto") | sizes, "growth": stages.map(sorted)},
        ),
        "augmentation": st.fixed_dictionaries({}, optional={"zoom": fractions, "rotation": numbers(0, 180)}),
        "optimizer": optimizers,
        "schedule": st.fixed_dictionaries({"name": st.sampled_from(["constant", "linear"]), "warmup": fractions}),
        "validation": numbers(0, 1, exclude_min=True, exclude_max=True) | st.sampled_from(["none", "test"]),
        "seed": st.integers(0, 2**32 - 1),
        "callbacks": st.fixed_dictionaries({"tensorboard": st.booleans(), "early_stopping_patience": st.integers(0)}),
    },
)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(content=recipes, options=st.dictionaries(st.sampled_from(["a", "é b", "c.d"]), st.integers() | text, max_size=2))
def test_toml_and_back_is_the_identity(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any], options: dict[str, Any]
) -> None:
    engine, model = content["model"]
    written = validate(Recipe, {**content, "engine": engine, "model": {**options, "name": model}}, "recipe")
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    path.write_bytes(written.to_toml().encode())
    assert load_recipe(path) == written
    assert validate(Recipe, written.to_dict(), "recipe") == written
    assert tomllib.loads(path.read_text("utf-8")) == written.to_dict()
