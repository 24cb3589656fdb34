"""A table for readers and for programs, whatever it shows, and how it is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """What stands in one place of a table: the main thing, and the small print beneath it."""

    text: str
    small: tuple[str, ...] = ()
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table for readers, and the same without rounding for programs.

    Attributes:
        name: of its files, without suffix.
        caption: what it shows, in a sentence or two.
        head: the columns' titles.
        rows: as many entries each.
        names: how many columns, from the first, hold words; the others hold numbers.
        records: what the CSV file holds, one mapping a line, all with the same keys.
        columns: those keys.
    """

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    names: int
    columns: tuple[str, ...]
    records: tuple[Mapping[str, Any], ...]


def markdown(table: Table) -> str:
    """The table as Markdown, caption first."""
    rule = ["---" if place < table.names else "---:" for place in range(len(table.head))]
    rows = [list(map(_md, table.head)), rule]
    rows += [[_md_entry(entry) for entry in row] for row in table.rows]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{_md(table.caption)}\n\n{lines}\n"


def latex(table: Table) -> str:
    """The table as LaTeX, with nothing but a plain ``tabular`` that needs no package."""
    columns = "l" * table.names + "r" * (len(table.head) - table.names)
    rows = [" & ".join(map(_tex, table.head)) + r" \\", r"\hline"]
    rows += [" & ".join(_tex_entry(entry) for entry in row) + r" \\" for row in table.rows]
    lines = [
        r"\begin{table}",
        r"\caption{" + _tex(table.caption) + "}",
        rf"\begin{{tabular}}{{{columns}}}",
        *rows,
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def csv_text(table: Table) -> str:
    """The records as CSV; unknown values are blank."""
    text = io.StringIO()
    writer = csv.DictWriter(text, table.columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.records)
    return text.getvalue()


def as_files(tables: Sequence[Table]) -> dict[str, str]:
    """File name to content: each table as ``.md``, ``.csv`` and ``.tex``."""
    return {
        f"{table.name}.{suffix}": write(table)
        for table in tables
        for suffix, write in (("md", markdown), ("csv", csv_text), ("tex", latex))
    }


def _md(text: str) -> str:
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _md_entry(entry: Entry) -> str:
    text = f"**{_md(entry.text)}**" if entry.bold else _md(entry.text)
    return f"{text} {_md(', '.join(entry.small))}".strip()


_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in " ".join(text.split()))


def _tex_entry(entry: Entry) -> str:
    text = rf"\textbf{{{_tex(entry.text)}}}" if entry.bold else _tex(entry.text)
    return f"{text} {_tex(', '.join(entry.small))}".strip()
