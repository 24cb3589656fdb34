"""What the parts of a split hold, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from medseg.data.case import SPLITS, Split
from medseg.data.survey import Survey


def split_table(
    survey: Survey, parts: Mapping[str, Split], folds: Mapping[str, int] | None = None
) -> Table:
    """A column for each part, or each fold, and one for the whole.

    Rows: cases; patients, or different images; and for each foreground class the share of cases
    that show it and the mean share of their pixels that it takes.

    Args:
        survey: of the dataset.
        parts: case id to part.
        folds: case id to the fold in which it validates, for a split of several folds.
    """
    columns = _columns(parts, folds)
    patients = {case.id: case.patient for case in survey.usable}
    known = any(patient is not None for patient in patients.values())
    owner = patients if known else survey.clusters
    pixels = {facts.id: facts.pixels for facts in survey.cases}
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    table.add_row("cases", *(f"{len(cases):,}" for cases in columns.values()))
    different = [{owner.get(case) or (case,) for case in cases} for cases in columns.values()]
    table.add_row(
        "patients" if known else "different images", *(f"{len(each):,}" for each in different)
    )
    labels = survey.labels.foreground if survey.labels is not None else ()
    for index, label in enumerate(labels, start=1):
        shown = [[pixels[case] for case in cases] for cases in columns.values()]
        table.add_row(f"with {escape(label.name)}", *(_presence(each, index) for each in shown))
        table.add_row("  its mean size", *(_size(each, index) for each in shown))
    return table


def _columns(parts: Mapping[str, Split], folds: Mapping[str, int] | None) -> dict[str, list[str]]:
    placed: dict[str, str] = dict(parts)
    names: list[str] = list(SPLITS)
    if folds is not None:
        placed |= {case: f"fold {fold}" for case, fold in folds.items()}
        names = [*(f"fold {fold}" for fold in sorted(set(folds.values()))), *SPLITS]
    columns = {name: [case for case in placed if placed[case] == name] for name in names}
    return {name: cases for name, cases in columns.items() if cases} | {"all": list(placed)}


def _presence(cases: list[tuple[int, ...]], index: int) -> str:
    return f"{100 * sum(pixels[index] > 0 for pixels in cases) / len(cases):.0f} %"


def _size(cases: list[tuple[int, ...]], index: int) -> str:
    shares = [pixels[index] / sum(pixels) for pixels in cases if pixels[index]]
    if not shares:
        return "-"
    percent = 100 * sum(shares) / len(shares)
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"
