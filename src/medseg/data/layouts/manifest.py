"""A CSV file that lists images and masks.

Columns, in any order: ``image``; ``mask`` (empty for an unlabelled case); optionally ``patient``,
``split`` and ``id``; all others become attributes. Paths are relative to the file's folder. The
separator is a comma or a semicolon, the encoding UTF-8.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from medseg.data.case import Case, Dataset, Problem
from medseg.data.expand import Subject, expand
from medseg.data.layouts.names import SPLIT_NAMES, labels_beside, nfc
from medseg.errors import DataError

NAME = "manifest"
DECLARED = True
FILE_NAME = "manifest.csv"
_REQUIRED = ("image", "mask")
_KNOWN = (*_REQUIRED, "patient", "split", "id")


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
    cases: dict[str, Case] = {}
    lines: dict[str, int] = {}
    images: dict[Path, int] = {}
    problems: list[Problem] = []
    for number, row in rows:
        where = f"{path}, line {number}"
        subject, wrong = _subject(path.parent, row, where)
        problems += wrong
        if subject is None:
            continue
        image = subject.images[0]
        if image in images:
            problems.append(_twice(where, f"the image {row['image']}", images[image]))
        elif subject.id in lines:
            problems.append(_twice(where, f"the id '{subject.id}'", lines[subject.id]))
        else:
            expanded, wrong = expand(subject)
            problems += wrong
            cases |= {case.id: case for case in expanded}
            lines[subject.id] = images[image] = number
    if not cases:
        first = f"; first: {problems[0].where}: {problems[0].found}" if problems else ""
        raise DataError(
            path, f"none of its {len(rows)} rows can be used{first}", "Correct the rows"
        )
    ordered = tuple(cases[key] for key in sorted(cases))
    reason = recognise(root) or ""
    return Dataset(root, NAME, reason, ordered, labels_beside(path.parent), tuple(problems))


def _manifest(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix.lower() == ".csv" else None
    path = root / FILE_NAME
    return path if path.is_file() else None


def _rows(path: Path) -> list[tuple[int, Mapping[str, str]]]:
    """Line numbers and rows, with trimmed cells and lower-case column names."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read ({error})", "Save it as CSV in UTF-8") from error
    heading = text.split("\n", 1)[0]
    delimiter = ";" if heading.count(";") > heading.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = [cell.strip().lower() for cell in next(reader, [])]
    for column in _REQUIRED:
        if column not in columns:
            raise DataError(
                path,
                f"has no column '{column}', only: {', '.join(columns) or 'nothing'}",
                "The first line must name the columns image and mask; patient, split and id are "
                "optional",
            )
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise DataError(path, f"the column '{repeated[0]}' occurs twice", "Keep one of them")
    rows: list[tuple[int, Mapping[str, str]]] = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(columns):
            raise DataError(
                path,
                f"line {reader.line_num} has {len(cells)} cells for {len(columns)} columns",
                "Put cells that hold the separator in quotes",
            )
        trimmed = [cell.strip() for cell in cells] + [""] * (len(columns) - len(cells))
        rows.append((reader.line_num, dict(zip(columns, trimmed, strict=True))))
    return rows


def _subject(
    folder: Path, row: Mapping[str, str], where: str
) -> tuple[Subject | None, list[Problem]]:
    problems = []
    if not row["image"]:
        problems.append(
            Problem("error", "manifest-row", where, "names no image", "Fill the column image")
        )
    files: dict[str, Path | None] = {}
    for column in _REQUIRED:
        files[column] = _find(folder, row[column])
        if row[column] and files[column] is None:
            problems.append(
                Problem(
                    "error",
                    "missing-file",
                    where,
                    f"the {column} {row[column]} does not exist",
                    f"Paths are relative to {folder}",
                )
            )
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
                f"the split is '{row['split']}'",
                "Allowed: train, val, test or nothing",
            )
        )
    image = files["image"]
    if problems or image is None:
        return None, problems
    mask = files["mask"]
    subject = Subject(
        id=nfc(row.get("id") or _id_from_path(row["image"])),
        images=[image],
        masks=[mask] if mask is not None else [],
        patient=row.get("patient") or None,
        split=split,
        attributes={column: cell for column, cell in row.items() if column not in _KNOWN},
    )
    return subject, []


def _id_from_path(image: str) -> str:
    """The path without suffix, drive, leading ``/`` and ``..``: masks are written under this name,
    which must not leave their folder."""
    parts = PurePosixPath(image.replace("\\", "/")).with_suffix("").parts
    return "/".join(part for part in parts if part not in ("/", "//", "..") and ":" not in part)


def _find(folder: Path, name: str) -> Path | None:
    """The listed file, also when the disk spells its name in another Unicode form."""
    if not name:
        return None
    path = folder / name.replace("\\", "/")
    if path.is_file():
        return path
    if not path.parent.is_dir():
        return None
    return next(
        (entry for entry in path.parent.iterdir() if nfc(entry.name) == nfc(path.name)), None
    )


def _twice(where: str, what: str, line: int) -> Problem:
    return Problem(
        "error", "duplicate-row", where, f"{what} is also on line {line}", "Keep one of the rows"
    )
