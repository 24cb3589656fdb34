"""The Markdown of model cards as HTML: headings, lists, tables, paragraphs; nothing else of it."""

from __future__ import annotations

import html
import re
from itertools import groupby

_ITEM = re.compile(r"\s*[-*] +")
_RULE = re.compile(r"[\s|:-]+")


def to_html(text: str) -> str:
    """HTML in which everything that the text brings is escaped; headings start at ``h3``."""
    parts = []
    for kind, group in groupby(text.splitlines(), _kind):
        lines = list(group)
        if kind == "heading":
            parts += [_heading(line) for line in lines]
        elif kind == "list":
            items = "".join(f"<li>{_inline(_ITEM.sub('', line, count=1))}</li>" for line in lines)
            parts.append(f"<ul>{items}</ul>")
        elif kind == "table":
            parts.append(_table(lines))
        elif kind == "text":
            parts.append(f"<p>{_inline(' '.join(line.strip() for line in lines))}</p>")
    return "\n".join(parts)


def _kind(line: str) -> str:
    if not line.strip():
        return "gap"
    if line.startswith("#"):
        return "heading"
    if _ITEM.match(line):
        return "list"
    return "table" if line.startswith("|") else "text"


def _heading(line: str) -> str:
    level = min(6, len(line) - len(line.lstrip("#")) + 2)
    return f"<h{level}>{_inline(line.lstrip('#').strip())}</h{level}>"


def _table(lines: list[str]) -> str:
    rows = [
        [_inline(cell.strip()) for cell in line.strip().strip("|").split("|")]
        for line in lines
        if not _RULE.fullmatch(line)
    ]
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows[1:]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _inline(text: str) -> str:
    escaped = html.escape(text)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)
