"""How to train: one frozen `Recipe`, read from TOML, written back resolved into every run.

    recipe = load_recipe("sprint-quick", {"epochs": 8, "optimizer.learning_rate": 0.2})

A recipe is checked once, here. An unknown key is an error with a suggestion, never ignored. What depends on a model
(`[model]` beyond its name) is checked by the model's own `Options` when the engine resolves the recipe.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from peregrine import catalog, files
from peregrine.errors import RecipeError, UsageError, suggestion

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Table(BaseModel):
    """Base of every table of a recipe: frozen, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelChoice(Table):
    """Which network. The other keys of `[model]` are the network's own `Options`."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The keys beyond `name`, unchecked until the engine resolves the recipe."""
        return dict(self.__pydantic_extra__ or {})


class Input(Table):
    """What the network sees.

    Attributes:
        size: side of the square input in pixels; `auto` takes the data's own.
        resize: how other shapes become square: `crop` the centre or `pad` with black.
        growth: smaller images first: `[[0.7, 24]]` trains the first 70% of the steps at 24 pixels.
    """

    size: Annotated[int, Field(ge=8, le=512)] | Literal["auto"] = "auto"
    resize: Literal["crop", "pad"] = "crop"
    growth: tuple[tuple[Probability, Annotated[int, Field(ge=8, le=512)]], ...] = ()


class Augmentation(Table):
    """Random changes of the training images. Geometric ones are one resampling.

    Attributes:
        flip: horizontal; `alternating` flips a random half in epoch 0 and then every image in every second epoch
            (github.com/KellerJordan/cifar10-airbench), so that two epochs in a row see both sides of each.
        translate: random shift in whole pixels, up to this many, the border reflected.
        rotation: degrees, ±.
        width_shift, height_shift: fraction of the side, ±.
        shear: degrees, ±.
        zoom: fraction, ±, both axes on their own.
        fill: what lies outside after a geometric change.
    """

    flip: Literal["none", "random", "alternating"] = "none"
    translate: Annotated[int, Field(ge=0)] = 0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    width_shift: Fraction = 0.0
    height_shift: Fraction = 0.0
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    zoom: Fraction = 0.0
    fill: Literal["nearest", "reflect", "constant"] = "nearest"


class Adam(Table):
    """Adam (Kingma and Ba 2015), with the field's default moments."""

    name: Literal["adam"] = "adam"
    learning_rate: Positive = 1e-3


class Muon(Table):
    """Muon on the convolutions, SGD with Nesterov momentum on everything else.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; defaults from KellerJordan/cifar10-airbench.

    Attributes:
        learning_rate, momentum: of the convolutions.
        bias_learning_rate, head_learning_rate: of the biases and the last layer, per image: they multiply the gradient
            of the loss summed over the batch, and so hold for batches of any size.
        sgd_momentum: of the biases and the last layer.
        weight_decay: share of the biases and the last layer that each image takes away.
    """

    name: Literal["muon"] = "muon"
    learning_rate: Positive = 0.24
    momentum: Fraction = 0.6
    bias_learning_rate: Positive = 0.053
    head_learning_rate: Positive = 0.67
    sgd_momentum: Fraction = 0.85
    weight_decay: Annotated[float, Field(ge=0)] = 2e-6


class Schedule(Table):
    """How the learning rate moves over the run.

    Attributes:
        name: `constant`, or `linear` to zero.
        warmup: fraction of the steps in which it first rises linearly from zero.
    """

    name: Literal["constant", "linear"] = "constant"
    warmup: Fraction = 0.0

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied with at `step` of `steps`, counted from 0."""
        warmup = self.warmup * steps
        rise = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
        return rise if self.name == "constant" else rise * (1 - step / steps)


class Callbacks(Table):
    """What happens at the end of an epoch.

    Attributes:
        early_stopping_patience: epochs without a better validation loss after which training ends; 0 never ends it.
        tensorboard: write event files into the run's `logs/tensorboard`.
    """

    early_stopping_patience: Annotated[int, Field(ge=0)] = 0
    tensorboard: bool = True


class Recipe(Table):
    """How to train one model. `docs/recipes.md` explains each key with its default.

    Attributes:
        class_weights: `balanced` weighs each class by the inverse of its frequency in the loss.
        precision: `auto` measures at the start what is faster here and writes the choice back.
        validation: fraction of the training images that every choice is made on. With `none` and `test` nothing is
            chosen or fitted and the last epoch is kept; `test` also shows the test split's curve while training.
    """

    schema_: Literal[1] = Field(1, alias="schema")
    name: str
    summary: str = ""
    engine: Literal["tensorflow", "pytorch"]
    model: ModelChoice
    input: Input = Input()
    augmentation: Augmentation = Augmentation()
    optimizer: Annotated[Adam | Muon, Field(discriminator="name")] = Adam()
    schedule: Schedule = Schedule()
    label_smoothing: Fraction = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    validation: Annotated[float, Field(gt=0, lt=1)] | Literal["none", "test"] = 0.1
    callbacks: Callbacks = Callbacks()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _known_model(self) -> Self:
        known = [key.partition("/")[2] for key in catalog.CATALOG["model"] if key.startswith(f"{self.engine}/")]
        if self.model.name not in known:
            near = suggestion(self.model.name, known)
            raise ValueError(
                f"model.name of engine {self.engine} is one of {', '.join(known)}; got {self.model.name!r}{near}"
            )
        return self

    def to_toml(self) -> str:
        """The recipe as TOML, every key written out, so that running it again is the same run."""
        import tomli_w  # here, because only writing needs it

        return tomli_w.dumps(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, as TOML and JSON hold them."""
        return self.model_dump(mode="json", by_alias=True)

    def changed(self, changes: Mapping[str, Any]) -> "Recipe":
        """A copy with dotted keys replaced, checked again: `recipe.changed({"optimizer.learning_rate": 0.1})`.

        Raises:
            RecipeError: a key is unknown or a value breaks its rule.
        """
        content = self.to_dict()
        for key, value in changes.items():
            _assign(content, key, value)
        return validate(Recipe, content, f"recipe {self.name}")


def recipe_names() -> list[str]:
    """The names of the recipes that come with the package."""
    folder = resources.files("peregrine") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_path: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a shipped recipe by name, or a TOML file by path, with dotted `changes` applied.

    Raises:
        RecipeError: the file breaks a rule; the message names the key and what was found.
        UsageError: there is no such recipe.
    """
    name = str(name_or_path)
    if name in recipe_names():
        text = (resources.files("peregrine") / "recipes" / f"{name}.toml").read_text("utf-8")
    elif Path(name).is_file():
        text = _read(Path(name))
    else:
        known = recipe_names()
        raise UsageError(
            f"a recipe is a .toml file or one of {', '.join(known)}; got {name!r}{suggestion(name, known)}"
        )
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {name} is not valid TOML: {error}") from None
    content.setdefault("name", Path(name).stem)
    for key, value in (changes or {}).items():
        _assign(content, key, value)
    return validate(Recipe, content, f"recipe {name}")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {path} is not a text file in UTF-8: {error.reason} at byte {error.start}") from None


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the recipe as TOML, atomically."""
    files.write_text(path, recipe.to_toml())


def parse_setting(setting: str) -> tuple[str, Any]:
    """Split `key=value` of `--set`; the value is read as TOML, and as a plain string where that fails.

    Raises:
        UsageError: there is no `=`.
    """
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set takes key=value, as in --set optimizer.learning_rate=0.1; got {setting!r}")
    try:
        content = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        content = {}
    return key.strip(), content["value"] if len(content) == 1 else value.strip()


T = TypeVar("T", bound=BaseModel)


def validate(kind: type[T], content: Mapping[str, Any], where: str) -> T:
    """Check `content` against a pydantic model and turn the first violation into one line.

    Raises:
        RecipeError: names the key, the rule and what was found; an unknown key gets a suggestion.
    """
    try:
        # Strict, because "3" is no number and true is not 1; as JSON, where a list may still stand for a tuple.
        return kind.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_explain(error.errors(), kind, content)}") from None


def _explain(violations: list[ErrorDetails], kind: type[BaseModel], content: Mapping[str, Any]) -> str:
    first = violations[0]
    key, found = _key(first, content), first["input"]
    match first["type"]:
        case "value_error":  # a rule of our own; one over several keys says what it found
            rule = first["msg"].removeprefix("Value error, ")
            return f"{key} {rule}; got {found!r}" if key else rule
        case "extra_forbidden":
            return f"unknown key {key!r}{_near(key, kind)}"
        case "missing":
            return f"the key {key!r} is required and was not given"
        case "union_tag_not_found":
            return f"the key '{key}.name' is required and was not given"
        case "union_tag_invalid":
            tag, tags = first["ctx"]["tag"], first["ctx"]["expected_tags"]
            return f"{key}.name must be one of {tags}; got {tag!r}{suggestion(tag, tags.split(chr(39)))}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{key} must be a table; got {found!r}"
    # A union has one violation for each of its branches.
    rules = [re.sub(r"^\w+ should ", "", each["msg"]) for each in violations if _key(each, content) == key]
    return f"{key} must {' or '.join(rules)}; got {found!r}"


def _key(violation: ErrorDetails, content: Mapping[str, Any]) -> str:
    """The dotted key; in its location pydantic also names the branch of a union, which is no key of the file."""
    here: Any = content
    key = []
    for part in violation["loc"]:
        known = here if isinstance(here, Mapping) else range(len(here)) if isinstance(here, list | tuple) else ()
        if part in known:
            here = here[part]
        elif violation["type"] != "missing" or part != violation["loc"][-1]:
            continue
        key.append(str(part))
    return ".".join(key)


def _near(key: str, kind: type[BaseModel]) -> str:
    """What an unknown key may have been meant for: the same name in another table, or a similar one."""
    known = list(dict.fromkeys(_keys(kind)))
    table, _, name = key.rpartition(".")
    if key in known:
        return f"; it belongs to another {table}.name"
    for path in known:
        if path.rpartition(".")[2] == name:
            return f"; did you mean {path!r}?"
    siblings = [path.rpartition(".")[2] for path in known if path.rpartition(".")[0] == table]
    return suggestion(name, siblings) or suggestion(key, known)


def _assign(content: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    table = content
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RecipeError(f"recipe key {key!r}: {part!r} is a value, not a table")
    if last in table and isinstance(table[last], dict) and not isinstance(value, dict):
        raise RecipeError(f"recipe key {key!r} is a table; set one of its keys, {key}.{next(iter(table[last]), '…')}=…")
    table[last] = value


def _keys(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in kind.model_fields.items():
        key = prefix + (info.alias or name)
        yield key
        for table in _tables(info):
            yield from _keys(table, key + ".")


def _tables(info: FieldInfo) -> Iterator[type[BaseModel]]:
    from typing import get_args

    for candidate in (info.annotation, *get_args(info.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            yield candidate
