"""Groups of people between whom a model should be equally good, such as women and men.

An *attribute*, such as sex, divides the cases into *groups*. A manifest names attributes by columns
called ``group`` or ``group:NAME`` (``group:sex``), and so does any other layout that keeps further
columns. All other columns are only remembered: an age or a comment is no group. Patients, whose
cases stay together in a split, are something else and are called patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medseg.data.case import Case
from medseg.errors import DataError, nearest

COLUMN = "group"
PREFIX = f"{COLUMN}:"
UNKNOWN_CELLS = frozenset({"", "unknown", "n/a", "nan"})
"""What a cell holds, in lower case, where the group is not known."""

UNKNOWN = -1
"""The number of the group where it is not known."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """The groups of one attribute.

    Attributes:
        attribute: e.g. ``"sex"``.
        names: of the groups that the training cases belong to, sorted.
        numbers: case id, or that of a volume, to the place of its group in ``names``; cases of
            unknown or another group are not in it.
    """

    attribute: str
    names: tuple[str, ...]
    numbers: Mapping[str, int]


def marked_attributes(cases: Iterable[Case]) -> tuple[str, ...]:
    """The attributes that the data name as such, sorted: ``NAME`` of each column ``group:NAME``,
    and ``group`` of a column ``group``."""
    columns = {column for case in cases for column in case.attributes}
    return tuple(sorted({attribute_of(column) for column in columns if is_group_column(column)}))


def is_group_column(column: str) -> bool:
    """Whether a column is called ``group`` or ``group:NAME``."""
    return column == COLUMN or (column.startswith(PREFIX) and len(column) > len(PREFIX))


def column_of(attribute: str) -> str:
    """What the column of an attribute is called in tables of scores, and in a manifest."""
    return attribute if attribute == COLUMN else f"{PREFIX}{attribute}"


def attribute_of(column: str) -> str:
    """The attribute that a column tells: ``NAME`` of ``group:NAME``, of others their own name."""
    return column.removeprefix(PREFIX) if is_group_column(column) else column


def groups_by(cases: Iterable[Case], attribute: str) -> dict[str, str]:
    """Case id to its group; cases of unknown group are not in it.

    Args:
        cases: of a dataset.
        attribute: of :func:`marked_attributes`, or any other column.
    """
    return {case.id: group for case in cases if (group := group_of([case], attribute)) is not None}


def group_of(cases: Sequence[Case], attribute: str) -> str | None:
    """The group that ``cases`` have in common, such as the slices of a volume; None where it is
    not known or they differ."""
    cells = {_cell(case, attribute) for case in cases}
    if len(cells) != 1:
        return None
    (cell,) = cells
    return None if cell.lower() in UNKNOWN_CELLS else cell


def told_attributes(cases: Iterable[Case]) -> frozenset[str]:
    """What could be compared: :func:`marked_attributes`, and all other columns."""
    return frozenset(attribute_of(column) for case in cases for column in case.attributes)


def check_attribute(cases: Iterable[Case], attribute: str, where: object) -> None:
    """Make sure that the data tell the groups of an attribute.

    Raises:
        DataError: no case has such a column.
    """
    known = told_attributes(cases)
    if attribute not in known:
        remedy = nearest(attribute, sorted(known)) if known else "Add such a column to its manifest"
        raise DataError(where, f"it has no column 'group:{attribute}' or '{attribute}'", remedy)


def _cell(case: Case, attribute: str) -> str:
    marked = case.attributes.get(column_of(attribute))
    return (case.attributes.get(attribute, "") if marked is None else marked).strip()
