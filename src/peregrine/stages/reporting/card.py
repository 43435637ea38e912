"""The model card: Markdown with YAML before it, as the Hugging Face hub reads it.

Source: github.com/huggingface/hub-docs, modelcard.md and docs/hub/model-cards.md. Names may be hostile here too: what
is written into the text is escaped for Markdown and HTML, and what into the YAML is quoted.
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from peregrine.stages import wording
from peregrine.stages.reporting.templating import environment

HUB_NAMES = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]|~$])")  # in the middle of a line, where all names stand


def model_card(content: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        content: from `content.gather`, of a run with a model.
    """
    about, training, imported = content["about"], content["training"], content["imported"]
    data = about.get("data", {})
    told = training or imported
    formats = [row["format"] for row in (content["parity"] or {"rows": []})["rows"]]
    best = content["best"]
    artifact = best["artifact"] if best else f"artifacts/{content['trained_format']}"
    tags = ["image-classification", "peregrine", *([training["engine"]] if training else []), *formats]
    card = _environment().get_template("model_card.md.j2").render(
        content,
        tags=list(dict.fromkeys(tags)),
        data=data,
        dataset=_dataset(data.get("source", "")),
        host=about.get("host", {}),
        versions=about.get("versions", {}),
        class_names=told["class_names"],
        size=training["image_size"] if training else imported["size"],
        artifact=artifact,
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", card)


def _dataset(source: str) -> dict[str, str]:
    """The data by the hub's name, where it has one, by a type for the index, and for people."""
    found = source[len("hf://") :] if source.startswith("hf://") else HUB_NAMES.get(source, "")
    kind = found or re.sub(r"[^\w.-]+", "-", source).strip("-") or "images"
    return {"id": found, "type": kind, "name": source or "unnamed images"}


def _markdown(value: Any) -> Any:
    """What a template writes, harmless: of one line, and neither Markdown nor HTML."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    plain = _printable(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(_SPECIAL.sub(r"\\\1", plain))


def _code(text: str) -> Markup:
    """A code span, its fence longer than any run of backticks inside."""
    plain = _printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    edge = " " if plain.startswith("`") or plain.endswith("`") else ""
    return Markup(f"{fence}{edge}{plain}{edge}{fence}")


def _python(text: str) -> Markup:
    """A string literal in a code block."""
    return Markup(json.dumps(text, ensure_ascii=True).replace("`", "\\x60"))


def _yaml(text: str) -> Markup:
    """A double-quoted scalar of YAML 1.2."""
    escaped = "".join(
        f"\\{letter}" if letter in '"\\' else letter if letter.isprintable() else f"\\U{ord(letter):08x}"
        for letter in text
    )
    return Markup(f'"{escaped}"')


def _printable(text: str) -> str:
    """Line breaks become blanks, other control characters `�`."""
    return wording.short(re.sub(r"\s+", " ", text), len(text))


@functools.cache
def _environment() -> Environment:
    made = environment(finalize=_markdown)
    made.filters.update(code=_code, python=_python, yaml=_yaml)
    return made
