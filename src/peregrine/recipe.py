"""How to train: one frozen `Recipe`, read from TOML, written back resolved into every run.

    recipe = load_recipe("sprint-quick", {"epochs": 8, "optimizer.learning_rate": 0.2})

A recipe is checked once, here. An unknown key is an error with a suggestion, never ignored. What depends on a model
(`[model]` beyond its name) is checked by the model's own `Options` when the engine resolves the recipe.
"""

import copy
import itertools
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from peregrine import catalog, files
from peregrine.augmentation import Augmentation
from peregrine.errors import RecipeError, UsageError, suggestion
from peregrine.schedule import Constant, Schedule
from peregrine.validation import Fraction, Positive, Probability, Table, validate

MIN_SIZE, MAX_SIZE = 8, 512  # of images, in pixels
Side = Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE)]
Growth = tuple[tuple[Probability, Side], ...]


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

    size: Side | Literal["auto"] = "auto"
    resize: Literal["crop", "pad"] = "crop"
    growth: Growth = ()

    @field_validator("growth")
    @classmethod
    def _rises(cls, growth: Growth) -> Growth:
        shares = [0.0, *(until for until, _ in growth)]
        if any(until <= before for before, until in itertools.pairwise(shares)):
            raise ValueError("has stages [until, size] with shares of the run above 0, each larger than the one before")
        return growth


class Adam(Table):
    """Adam (Kingma and Ba 2015), with the field's default moments."""

    name: Literal["adam"] = "adam"
    learning_rate: Positive = 1e-3


class AdamW(Table):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Attributes:
        weight_decay: of weights with two axes or more, times the learning rate, at each step.
    """

    name: Literal["adamw"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class SGD(Table):
    """Stochastic gradient descent with Nesterov momentum.

    Attributes:
        weight_decay: share of a weight with two axes or more that joins its gradient.
    """

    name: Literal["sgd"] = "sgd"
    learning_rate: Positive = 0.1
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


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


Optimizer = Annotated[Adam | AdamW | SGD | Muon, Field(discriminator="name")]


class Callbacks(Table):
    """What happens at the end of an epoch.

    Attributes:
        early_stopping_patience: epochs without a better validation loss after which training ends; 0 never ends it.
        plateau_patience: epochs without a better validation loss after which the learning rate falls; 0 leaves it.
        plateau_factor: what the rate is multiplied with then, on top of the schedule.
        plateau_minimum: smallest learning rate that a plateau leads to.
        tensorboard: write event files into the run's `logs/tensorboard`.
        histograms: of weights and gradients, in the event files, each epoch.
        checkpoint_format: of the best and the latest checkpoint; `auto` is the engine's own.
    """

    early_stopping_patience: Annotated[int, Field(ge=0)] = 0
    plateau_patience: Annotated[int, Field(ge=0)] = 0
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    plateau_minimum: Annotated[float, Field(ge=0)] = 1e-6
    tensorboard: bool = True
    histograms: bool = True
    checkpoint_format: Literal["auto", "keras", "h5", "safetensors"] = "auto"


class Strategy(Table):
    """How the work is spread over devices and machines; batch size and learning rate are those of all together.

    Attributes:
        name: `mirrored` has a replica on every device of this machine, `multiworker` one on every machine that
            TF_CONFIG names; `auto` is multiworker where TF_CONFIG is set, mirrored where there are two GPUs or more.
        devices: `auto`, or kind and number: `gpu:2` takes the first two GPUs, `cpu:2` makes two logical CPU devices.
    """

    name: Literal["auto", "none", "mirrored", "multiworker"] = "auto"
    devices: Annotated[str, Field(pattern=r"^(auto|(cpu|gpu):[1-9]\d?)$")] = "auto"


class Recipe(Table):
    """How to train one model. `docs/recipes.md` explains each key with its default.

    Attributes:
        class_weights: `balanced` weighs each class by the inverse of its frequency in the loss.
        precision: `auto` measures at the start what is faster here and writes the choice back.
        compile: whole training steps, by the engine's compiler; `auto` likewise.
        validation: fraction of the training images that every choice is made on. With `none` and `test` nothing is
            chosen or fitted and the last epoch is kept; `test` also shows the test split's curve while training.
        load_model: a checkpoint or Artifact of Peregrine's to start from instead of fresh weights.
    """

    schema_: Literal[1] = Field(1, alias="schema")
    name: str
    summary: str = ""
    engine: Literal["tensorflow", "pytorch"]
    model: ModelChoice
    input: Input = Input()
    augmentation: Augmentation = Augmentation()
    optimizer: Optimizer = Adam()
    schedule: Schedule = Constant()
    label_smoothing: Fraction = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    validation: Annotated[float, Field(gt=0, lt=1)] | Literal["none", "test"] = 0.1
    callbacks: Callbacks = Callbacks()
    strategy: Strategy = Strategy()
    load_model: str = ""
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
            _assign(content, key, copy.deepcopy(value))  # later keys may go into a table that is the caller's
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


def _assign(content: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    table = content
    for part in path:
        if last == "preset" and part == path[-1]:
            table[part] = {}  # a preset is a whole table: what stood there would win over it
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RecipeError(f"recipe key {key!r}: {part!r} is a value, not a table")
    if last in table and isinstance(table[last], dict) and not isinstance(value, dict):
        raise RecipeError(f"recipe key {key!r} is a table; set one of its keys, {key}.{next(iter(table[last]), '…')}=…")
    table[last] = value
