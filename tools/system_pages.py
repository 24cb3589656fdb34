"""Write docs/systems: a page for every system, and their index, from the cards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medseg import systems
from medseg.systems.card import LEVELS, Card, axes, taken

FOLDER = Path(__file__).parents[1] / "docs" / "systems"
HEAD = "<!-- Written by tools/system_pages.py from the cards in src/medseg/systems. -->"


def page(card: Card) -> str:
    """The page of a system, Markdown."""
    known = card.fidelity
    facts = {
        "kind": card.kind,
        "family": f"[{card.family}](README.md)",
        "takes": taken(card),
        "parameters": f"{known.parameters:,} (3 input channels, 1 class)",
        "published": known.official_parameters,
        "fidelity": f"**{known.level}**: {LEVELS[known.level]}",
        "parity": known.parity,
        "reproduced": known.reproduced,
    }
    parts = [
        f"{HEAD}\n# {card.name}\n",
        f"{card.title}. {card.authors} ({card.year}). <{card.reference}>\n",
        f"{card.summary}\n",
        f"```\nmedseg train DATA --system {card.name}\nmedseg systems show {card.name}\n```\n",
        table(("", ""), facts.items()),
    ]
    for title, lines in (
        ("From the authors", known.from_authors),
        ("Reconstructed here", known.reconstructed),
        ("Deviations", known.deviations),
    ):
        if lines:
            parts.append(f"## {title}\n\n" + "".join(f"- {line}\n" for line in lines))
    if card.measured:
        rows = [(data, f"[{at}](../../{at})") for data, at in card.measured.items()]
        parts.append("## Measured\n\n" + table(("dataset", "scores"), rows))
    parts += [
        f"## {title}\n\n" + table(("key", "value"), shown(prefix, values))
        for title, prefix, values in (
            ("Options of its network", "network.", card.options),
            ("Its recipe", "", card.recipe),
        )
        if values
    ]
    return "\n".join(parts)


def index(cards: Iterable[Card]) -> str:
    """All systems by family, Markdown."""
    rows = [
        (
            card.family,
            f"[{card.name}]({card.name}.md)",
            card.kind,
            axes(card),
            ", ".join(card.prompts),
            f"{card.fidelity.parameters:,}",
            card.fidelity.level,
            ", ".join(card.measured),
        )
        for card in sorted(cards, key=lambda card: (card.family, card.name))
    ]
    head = ("family", "system", "kind", "axes", "prompts", "parameters", "fidelity", "measured on")
    levels = "".join(f"- **{level}**: {meaning}\n" for level, meaning in LEVELS.items())
    text = (
        f"{HEAD}\n# Systems\n\n`medseg systems list` shows this table; its `--family` and `--dims` "
        "filter it. Parameters are for 3 input channels and 1 class.\n"
    )
    return "\n".join([text, table(head, rows), f"Levels of fidelity:\n\n{levels}"])


def shown(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys and values as `--set` takes them."""
    return [
        (f"`{prefix}{key}`", f"`{list(value) if isinstance(value, tuple) else value}`")
        for key, value in values.items()
    ]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def pages() -> dict[str, str]:
    """All pages by their file's name."""
    cards = [systems.load_card(name) for name in systems.names()]
    return {"README.md": index(cards), **{f"{card.name}.md": page(card) for card in cards}}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    written = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in written:
            old.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
