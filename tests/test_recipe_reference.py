"""docs/recipe.md says what the recipe's models say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from medseg.recipe import known_keys

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location(
    "recipe_reference", ROOT / "tools" / "recipe_reference.py"
)
assert spec is not None
assert spec.loader is not None
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def test_the_page_is_what_the_tool_prints() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    assert page == tool.reference(), "run: python tools/recipe_reference.py > docs/recipe.md"


def test_every_key_has_a_row() -> None:
    page = tool.reference()
    assert [key for key in known_keys() if f"| `{key}` |" not in page] == []
