"""Print docs/recipe.md: every key of the recipe, from the models that validate it.

python tools/recipe_reference.py > docs/recipe.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medseg.recipe import FREE, Recipe

INTRODUCTION = """\
# The recipe

Every key of a run's `recipe.yaml`, written by `tools/recipe_reference.py` from the code that
validates it. Set one with `--set KEY=VALUE` (values are read as YAML), or with `settings=` in
Python. An unknown key or a value that is not allowed is an error before any data is read.
[What `auto` chooses](training.md#what-auto-chooses) is written into the run's recipe.

`network.*` are the options of the network: `medseg systems show NAME` lists them with their
defaults. `method_options.*` are those of the method."""

Schema = Mapping[str, Any]


def reference() -> str:
    """The page, as Markdown."""
    schema = Recipe.model_json_schema()
    top: list[tuple[str, FieldInfo, Schema]] = []
    sections: list[str] = []
    for name, field in Recipe.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            sections.append(_section(name, kind, schema["$defs"]))
        elif f"{name}." not in FREE:
            top.append((name, field, schema["properties"][name]))
    parts = [INTRODUCTION, f"## Top level\n\n{_table(top)}", *sections]
    return "\n\n".join(parts) + "\n"


def _section(name: str, kind: type[BaseModel], schemas: Mapping[str, Schema]) -> str:
    description = schemas[kind.__name__]["description"]
    return f"## {name}\n\n{description}\n\n{_table(_rows(name, kind, schemas))}"


def _rows(
    name: str, kind: type[BaseModel], schemas: Mapping[str, Schema]
) -> list[tuple[str, FieldInfo, Schema]]:
    rows: list[tuple[str, FieldInfo, Schema]] = []
    for key, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            rows += _rows(f"{name}.{key}", inner, schemas)
        else:
            rows.append((f"{name}.{key}", field, schemas[kind.__name__]["properties"][key]))
    return rows


def _table(rows: list[tuple[str, FieldInfo, Schema]]) -> str:
    lines = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    for key, field, schema in rows:
        meaning = " ".join((field.description or _probability_of(key)).split())
        cells = (f"`{key}`", f"`{_shown(field.default)}`", _allowed(schema), meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _probability_of(key: str) -> str:
    """The meaning of a key such as ``augment.blur_prob``, which needs no words of its own."""
    name = key.rpartition(".")[2]
    if not name.endswith("_prob"):
        raise ValueError(f"{key} has no docstring")
    return f"Probability of `{name.removesuffix('_prob')}`."


def _shown(value: Any) -> str:
    """A default as it is written in YAML."""
    return value if isinstance(value, str) and value else json.dumps(value)


def _allowed(schema: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(_allowed(each) for each in schema["anyOf"])
    if "const" in schema:
        return f"`{_shown(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{_shown(value)}`" for value in schema["enum"])
    if schema["type"] == "array":
        if schema.get("items") == {"type": "string"}:
            return "list of text"
        if "minItems" in schema:
            return f"{schema['minItems']} numbers"
        return f"list of {_allowed(schema['items'])}" if "minItems" in schema else "numbers"
    names = {
        "boolean": "`true`, `false`",
        "integer": "whole number",
        "null": "`null`",
        "number": "number",
        "string": "text",
    }
    bounds = [
        f"{sign} {schema[name]:g}"
        for name, sign in (
            ("minimum", ">="),
            ("exclusiveMinimum", ">"),
            ("maximum", "<="),
            ("exclusiveMaximum", "<"),
        )
        if name in schema
    ]
    return " ".join([names[schema["type"]], ", ".join(bounds)]).strip()


if __name__ == "__main__":
    print(reference(), end="")
