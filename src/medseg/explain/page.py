"""One HTML page of all explanations in a folder. It loads nothing and runs offline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.files import write_text
from medseg.report.html import png
from medseg.report.pages import load_page

MOST_PICTURES = 100
"""Those beyond are in the table only, or a browser could not open the page."""

COLUMNS = {
    "case": "Image",
    "class": "Class",
    "deletion": "Deletion",
    "deletion_shuffled": "shuffled",
    "insertion": "Insertion",
    "insertion_shuffled": "shuffled",
    "energy": "Energy inside",
    "area": "Area",
    "pointing": "Hit",
    "truth_energy": "Energy in truth",
    "truth_pointing": "Hit of truth",
    "random_correlation": "Random weights",
    "sanity_check": "Sanity check",
}


def write_page(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, Path],
    *,
    title: str,
    facts: Mapping[str, str],
) -> None:
    """Write the page, atomically.

    Args:
        path: the HTML file.
        rows: of ``explanations.csv``, as written; failed checks are shown first.
        pictures: PNG by case.
        title: of the page.
        facts: what else to know, name to value.

    Raises:
        MedsegError: the file cannot be written.
    """

    template = load_page("explanations.html")
    explained = [row for row in rows if row["status"] == "ok"]
    failed = [row for row in explained if row["sanity_check"] == "failed"]
    ordered = failed + [row for row in explained if row not in failed]
    shown = [row for row in ordered if row["case"] in pictures][:MOST_PICTURES]
    columns = {
        name: heading
        for name, heading in COLUMNS.items()
        if any(row[name] not in (None, "") for row in explained)
    }
    page = template.render(
        title=title,
        facts=facts,
        columns=list(columns.values()),
        rows=[[_cell(row[name]) for name in columns] for row in explained],
        failed=len(failed),
        explained=len(explained),
        empty=sum(row["sanity_check"] == "undefined" for row in explained),
        nothing=[row for row in rows if row["status"] != "ok"],
        pictures=[(row["case"], png(pictures[row["case"]].read_bytes())) for row in shown],
    )
    write_text(path, page)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
