"""A CSV file that lists images and masks.

Columns, in any order and any case: ``image``; optionally ``mask`` (an empty cell is an unlabelled
case), ``patient``, ``split``, ``id`` and ``field_of_view``; all others become attributes, of which
``group`` and ``group:NAME`` divide the cases into groups to be compared (`medseg.data.groups`). A
cell ``a.png|b.png`` names several files: the channels of an image, or masks that are united; an
image may be the folder of a DICOM series. Paths are relative to the file's folder. The separator is
a comma or a semicolon, the encoding UTF-8.

Other tools' columns are understood where the column of the first name is absent: ``ALIASES``, and
GaNDLF's ``SubjectID``, ``Channel_0``, ``Channel_1`` ... and ``Label``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medseg.data.case import Dataset, Problem
from medseg.data.expand import Subject
from medseg.data.io import is_image_file
from medseg.data.layouts.declared import expand_all, find_file, printable, safe_id
from medseg.data.layouts.names import SPLIT_NAMES, labels_beside, nfc
from medseg.data.layouts.tables import Table, read_table
from medseg.errors import DataError

NAME = "manifest"
DECLARED = True
FILE_NAME = "manifest.csv"
SEPARATOR = "|"
ALIASES: Mapping[str, tuple[str, ...]] = {
    "image": ("images", "img", "image_path", "img_path", "image_file", "filename"),
    "mask": ("masks", "mask_path", "mask_file", "segmentation", "seg", "label_path", "label"),
    "patient": ("patient_id", "patientid", "subject", "subject_id", "subjectid"),
    "split": ("subset",),
    "id": ("case", "case_id"),
    "field_of_view": ("fov",),
}
_CHANNEL = re.compile(r"channel_(\d+)")


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    path = _manifest(root)
    return None if path is None else f"{path.name} lists the images and masks"


def read(root: Path) -> Dataset:
    """Read the listed cases; rows that cannot be used become error problems.

    Raises:
        DataError: no such file, not CSV, a column is missing, or no row can be used.
    """
    path = _manifest(root)
    if path is None:
        raise DataError(
            root, "is not a CSV file or a folder with a manifest.csv", "Name the CSV file"
        )
    rows = _rows(path)
    subjects: dict[str, Subject] = {}
    lines: dict[str, int] = {}
    images: dict[tuple[Path, ...], int] = {}
    problems: list[Problem] = []
    for number, row in rows:
        where = f"{path}, line {number}"
        subject, wrong = _subject(path.parent, row, where)
        problems += wrong
        if subject is None:
            continue
        files = tuple(subject.images)
        if files in images:
            problems.append(_twice(where, f"the image {row['image']}", images[files]))
        elif subject.id in lines:
            problems.append(_twice(where, f"the id '{subject.id}'", lines[subject.id]))
        else:
            subjects[subject.id] = subject
            lines[subject.id] = images[files] = number
    cases, _, wrong = expand_all(subjects.values())
    problems += wrong
    if not cases:
        first = f"; first: {problems[0].where}: {problems[0].found}" if problems else ""
        raise DataError(
            path, f"none of its {len(rows)} rows can be used{first}", "Correct the rows"
        )
    reason = recognise(root) or ""
    return Dataset(root, NAME, reason, tuple(cases), labels_beside(path.parent), tuple(problems))


def _manifest(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix.lower() == ".csv" else None
    path = root / FILE_NAME
    return path if path.is_file() else None


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and rows, their columns under the names of this layout."""
    table = read_table(path)
    names = _column_names(table)
    channels = sorted(
        (int(match[1]), column)
        for column in table.columns
        if (match := _CHANNEL.fullmatch(column)) is not None
    )
    if "image" in names.values():
        channels = []
    elif not channels:
        raise DataError(
            path,
            f"has no column 'image', only: {', '.join(table.columns) or 'nothing'}",
            "The first line must name the column image; mask, patient, split, id and field_of_view "
            "are optional",
        )
    rows = []
    for number, cells in table.rows:
        row = {names.get(column, column): cell for column, cell in cells.items()}
        listed = [row.pop(column) for _, column in channels]
        if channels:
            row["image"] = SEPARATOR.join(filter(None, listed))
        rows.append((number, row))
    return _with_subject_ids(table, rows)


def _column_names(table: Table) -> dict[str, str]:
    """What each column is called here, where that differs or matters."""
    names = {}
    for name, aliases in ALIASES.items():
        known = [column for column in (name, *aliases) if column in table.columns]
        if name == "mask" and known[:1] == ["label"] and not _names_files(table, "label"):
            continue
        if known:
            names[known[0]] = name
    return names


def _names_files(table: Table, column: str) -> bool:
    """Whether a column holds files rather than, say, diagnoses."""
    return any(is_image_file(Path(row[column])) for _, row in table.rows)


def _with_subject_ids(
    table: Table, rows: list[tuple[int, dict[str, str]]]
) -> list[tuple[int, dict[str, str]]]:
    """GaNDLF's ``SubjectID`` names the case as long as no subject has two rows."""
    if "subjectid" not in table.columns or "id" in table.columns:
        return rows
    ids = [cells["subjectid"] for _, cells in table.rows]
    if len(set(ids)) < len(ids):
        return rows
    return [(number, {**row, "id": each}) for (number, row), each in zip(rows, ids, strict=True)]


def _subject(
    folder: Path, row: Mapping[str, str], where: str
) -> tuple[Subject | None, list[Problem]]:
    problems = []
    if not row["image"].strip(f"{SEPARATOR} "):
        problems.append(
            Problem("error", "manifest-row", where, "names no image", "Fill the column image")
        )
    files: dict[str, list[Path]] = {}
    for column in ("image", "mask", "field_of_view"):
        files[column], absent = _find(folder, row.get(column, ""), series=column == "image")
        problems += [
            Problem(
                "error",
                "missing-file",
                where,
                f"the {column.replace('_', ' ')} {printable(name)} does not exist",
                f"Paths are relative to {folder}",
            )
            for name in absent
        ]
    if len(files["field_of_view"]) > 1:
        found = "names several files as field of view"
        problems.append(Problem("error", "manifest-row", where, found, "Name one"))
    given = PurePosixPath(row.get("id", ""))
    if given.is_absolute() or ".." in given.parts:
        problems.append(
            Problem(
                "error",
                "manifest-row",
                where,
                f"the id '{given}' leaves the folder that masks are written to",
                "Use an id without a leading / and without ..",
            )
        )
    split = SPLIT_NAMES.get(row.get("split", "").lower())
    if row.get("split") and split is None:
        problems.append(
            Problem(
                "error",
                "unknown-split",
                where,
                f"the split is '{printable(row['split'])}'",
                "Allowed: train, val, test or nothing",
            )
        )
    if problems:
        return None, problems
    subject = Subject(
        id=nfc(row.get("id", "")) or safe_id(row["image"].split(SEPARATOR)[0]),
        images=files["image"],
        masks=files["mask"],
        patient=row.get("patient") or None,
        split=split,
        attributes={column: cell for column, cell in row.items() if column not in ALIASES},
    )
    view = files["field_of_view"]
    return replace(subject, field_of_view=view[0]) if view else subject, []


def _find(folder: Path, cell: str, *, series: bool) -> tuple[list[Path], list[str]]:
    """The files that a cell names, and the names that no file has; folders where they may hold a
    DICOM series."""
    if not cell:
        return [], []
    whole = find_file(folder, cell, series=series)
    if whole is not None:
        return [whole], []
    names = [name.strip() for name in cell.split(SEPARATOR) if name.strip()]
    found = [find_file(folder, name, series=series) for name in names]
    absent = [name for name, path in zip(names, found, strict=True) if path is None]
    return [path for path in found if path is not None], absent


def _twice(where: str, what: str, line: int) -> Problem:
    return Problem(
        "error", "duplicate-row", where, f"{what} is also on line {line}", "Keep one of the rows"
    )
