"""Pages, each with the Content-Security-Policy it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape

from medseg.serve.served import Served

_META = re.compile(
    r"""<meta\s+http-equiv=["']Content-Security-Policy["']\s+content="([^"]*)"\s*/?>""", re.I
)


@dataclass(frozen=True)
class Page:
    """HTML and what it may load."""

    html: str
    policy: str


def browser_page(models: Mapping[str, Served], *, with_cards: bool) -> Page | None:
    """The page that computes on the service; None where this installation has none.

    Args:
        models: by name.
        with_cards: whether whoever may load the page may read the models' cards.
    """
    try:
        from medseg.export.web import render_page
    except ImportError:
        return None
    html = render_page(
        {name: each.model.manifest for name, each in models.items()},
        cards={name: each.card for name, each in models.items()} if with_cards else None,
    )
    declared = _META.search(html)
    policy = unescape(declared[1]) if declared else "default-src 'none'"
    return Page(html, f"{policy}; frame-ancestors 'none'")
