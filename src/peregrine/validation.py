"""Tables of settings that are checked once, with errors of one line: the rule, what was found, and a near guess."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from peregrine.errors import RecipeError, suggestion

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Table(BaseModel):
    """Base of every table of settings: frozen, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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


def _keys(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in kind.model_fields.items():
        key = prefix + (info.alias or name)
        yield key
        for table in _tables(info):
            yield from _keys(table, key + ".")


def _tables(info: FieldInfo) -> Iterator[type[BaseModel]]:
    for candidate in (info.annotation, *get_args(info.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            yield candidate
