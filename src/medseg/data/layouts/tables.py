"""CSV files that list cases, and the lists of a published split."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.data.case import SPLITS, Problem, Split
from medseg.data.expand import Subject
from medseg.data.io import stem as without_suffix
from medseg.data.layouts.declared import printable
from medseg.data.layouts.names import nfc
from medseg.errors import DataError

PATIENTS_FILE = "patients.csv"


@dataclass(frozen=True, slots=True)
class Table:
    """What a CSV file holds.

    Attributes:
        columns: their names, lower-case and trimmed; none occurs twice.
        rows: the line each ends on, and its trimmed cells by column; empty lines are left out.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]


def read_table(path: Path) -> Table:
    """Read a CSV file in UTF-8 whose first line names the columns.

    The separator is a comma or a semicolon, whichever the first line has more of. Columns without
    a name, as pandas writes its index, are left out.

    Raises:
        DataError: it cannot be read, a column occurs twice or a row has too many cells.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read ({error})", "Save it as CSV in UTF-8") from error
    heading = text.split("\n", 1)[0]
    delimiter = ";" if heading.count(";") > heading.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise DataError(
            path, f"is not CSV: line {reader.line_num}: {error}", "Save it as CSV in UTF-8"
        ) from error
    columns = [printable(cell.strip().lower()) for cell in lines[0][1]] if lines else []
    named = [column for column in columns if column]
    repeated = sorted({column for column in named if named.count(column) > 1})
    if repeated:
        raise DataError(path, f"the column '{repeated[0]}' occurs twice", "Keep one of them")
    rows = []
    for number, cells in lines[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(columns):
            raise DataError(
                path,
                f"line {number} has {len(cells)} cells for {len(columns)} columns",
                "Put cells that hold the separator in quotes",
            )
        trimmed = [cell.strip() for cell in cells] + [""] * (len(columns) - len(cells))
        row = dict(zip(columns, trimmed, strict=True))
        row.pop("", None)
        rows.append((number, row))
    return Table(tuple(named), tuple(rows))


def with_patients(root: Path, subjects: Sequence[Subject]) -> tuple[list[Subject], list[Problem]]:
    """Apply ``patients.csv``: the columns ``case`` and ``patient``, all others attributes.

    A case is named by its id. Cases that are not listed keep what they have.
    """
    path = root / PATIENTS_FILE
    if not path.is_file():
        return list(subjects), []
    try:
        table = read_table(path)
    except DataError as error:
        problem = Problem("error", "patients-file", error.where, error.found, error.remedy)
        return list(subjects), [problem]
    missing = [column for column in ("case", "patient") if column not in table.columns]
    if missing:
        found = f"is not used: it has no column '{missing[0]}'"
        remedy = "Name the columns case and patient, or rename the file if it is something else"
        return list(subjects), [Problem("warning", "patients-file", str(path), found, remedy)]
    known = {subject.id: index for index, subject in enumerate(subjects)}
    named = list(subjects)
    lines: dict[int, int] = {}
    problems = []
    for number, row in table.rows:
        index = known.get(nfc(row["case"]))
        where = f"{path}, line {number}"
        if index is None:
            found = f"there is no case '{printable(row['case'])}'"
            remedy = "Correct the name or remove the line"
        elif index in lines:
            found = f"the case '{row['case']}' is also on line {lines[index]}"
            remedy = "List each case once"
        else:
            lines[index] = number
            attributes = {k: v for k, v in row.items() if k not in ("case", "patient")}
            named[index] = replace(
                named[index],
                patient=row["patient"] or None,
                attributes={**named[index].attributes, **attributes},
            )
            continue
        problems.append(Problem("error", "patients-file", where, found, remedy))
    unlisted = len(named) - len(lines)
    if unlisted:
        problems.append(
            Problem(
                "warning",
                "patients-file",
                str(path),
                f"does not list {unlisted} of {len(named)} cases",
                "Nothing keeps them on one side of a split; add them with their patient",
            )
        )
    return named, problems


def with_split_files(
    root: Path, subjects: Sequence[Subject]
) -> tuple[list[Subject], list[Problem]]:
    """Apply ``train.txt``, ``val.txt`` and ``test.txt``, or files ``.list`` of these names.

    Cases that no file lists are training cases; when there is a ``train.txt`` they are also
    reported.
    """
    files = {
        split: path
        for split in SPLITS
        for path in (root / f"{split}.list", root / f"{split}.txt")
        if path.is_file()
    }
    if not files:
        return list(subjects), []
    ids = {
        name: subject.id
        for subject in subjects
        for name in (nfc(subject.images[0].name), subject.id)
    }
    listed: dict[str, Split] = {}
    problems = []
    for split, path in files.items():
        for number, name in read_lines(path):
            where = f"{path}, line {number}"
            case_id = ids.get(name) or ids.get(without_suffix(name.replace("\\", "/")))
            if case_id is None:
                problems.append(
                    Problem(
                        "error",
                        "split-unknown-case",
                        where,
                        f"there is no image '{printable(name)}'",
                        "Correct the name or remove the line",
                    )
                )
            elif listed.setdefault(case_id, split) != split:
                problems.append(
                    Problem(
                        "error",
                        "case-in-two-splits",
                        where,
                        f"'{name}' is also in {files[listed[case_id]].name}",
                        "List each case once",
                    )
                )
    unlisted = sum(subject.id not in listed for subject in subjects)
    if unlisted and "train" in files:
        names = ", ".join(path.name for path in files.values())
        problems.append(
            Problem(
                "warning",
                "not-in-published-split",
                str(root),
                f"{unlisted} cases are in none of {names}",
                "They are used for training; list them if they should not be",
            )
        )
    return [replace(each, split=listed.get(each.id, "train")) for each in subjects], problems


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers and names of a list; empty lines and those that start with ``#`` are left out.

    Raises:
        DataError: it is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read ({error})", "Save it as UTF-8 text") from error
    for number, line in enumerate(text.splitlines(), start=1):
        name = nfc(line.strip())
        if name and not name.startswith("#"):
            yield number, name
