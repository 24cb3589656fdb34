"""The pages of docs/systems are what the cards say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("system_pages", ROOT / "tools/system_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_what_its_card_says() -> None:
    folder = ROOT / "docs" / "systems"
    kept = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.md")}
    made = _tool().pages()
    stale = {name for name in kept.keys() | made.keys() if kept.get(name) != made.get(name)}
    assert not stale, "run `python tools/system_pages.py`"
