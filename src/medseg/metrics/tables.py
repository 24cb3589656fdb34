"""Reading the tables of scores that `Evaluation.to_csv` writes, and others with such columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import DataError, nearest, plural

_KNOWN = ("case", "patient", "class", "status", "truth_pixels", "predicted_pixels")

# Beyond, sums of cubes overflow.
_MOST = 1e50


@dataclass(frozen=True)
class ScoreTable:
    """One metric of one set of predictions.

    Attributes:
        path: the file.
        values: case id to the mean of the metric over the classes of the case, or that of the
            chosen class; NaN where undefined.
        patients: case id to patient, for the cases where it is known.
        classes: the classes whose values were read, in the file's order; ``("",)`` in a table
            without classes.
        failed: the cases without a usable prediction.
        truth_pixels: (case, class) to the size of the true region, where the table tells it.
    """

    path: Path
    values: Mapping[str, float]
    patients: Mapping[str, str]
    classes: tuple[str, ...]
    failed: frozenset[str]
    truth_pixels: Mapping[tuple[str, str], str]

    @property
    def failures(self) -> int:
        """How many cases had no usable prediction."""
        return len(self.failed)


def read_table(path: Path, metric: str, label: str | None = None) -> ScoreTable:
    """Read one metric of a per-case table.

    Args:
        path: a CSV file with the columns ``case`` and ``metric``, and any of ``patient``,
            ``class``, ``status``, ``truth_pixels``. A blank or ``nan`` value is undefined.
        metric: which column.
        label: the class to read, or None for the mean over all classes of a case.

    Raises:
        DataError: the file is not such a table; the metric or class is not in it.
    """
    header, rows = _read(path)
    if metric not in header or metric in _KNOWN:
        known = [name for name in header if name not in _KNOWN]
        raise DataError(
            path,
            f"it has no metric {metric!r}",
            nearest(metric, known) if known else "Give a table of `medseg evaluate -o scores.csv`",
        )
    if not rows:
        raise DataError(path, "it lists no cases", "Evaluate again")
    classes = tuple(dict.fromkeys(row.get("class", "") for _, row in rows))
    if label is not None:
        if "class" not in header:
            raise DataError(path, "it has no column 'class'", "Leave out --class")
        if label not in classes:
            raise DataError(path, f"it has no class {label!r}", nearest(label, classes))
        rows = [(line, row) for line, row in rows if row.get("class", "") == label]
        classes = (label,)
    values: dict[tuple[str, str], float] = {}
    patients: dict[str, str] = {}
    failed: set[str] = set()
    pixels: dict[tuple[str, str], str] = {}
    for line, row in rows:
        case, key = row["case"], (row["case"], row.get("class", ""))
        if not case:
            raise DataError(f"{path}, line {line}", "the case has no id", "Name every case")
        if key in values:
            named = f"case {case!r}" + (f", class {key[1]!r}" if key[1] else "")
            raise DataError(
                f"{path}, line {line}", f"{named} is there twice", "Keep one line for each"
            )
        values[key] = _number(row[metric], metric, path, line)
        patient = row.get("patient")
        if patient and patients.setdefault(case, patient) != patient:
            raise DataError(
                f"{path}, line {line}",
                f"case {case!r} has two patients, {patients[case]!r} and {patient!r}",
                "Name one",
            )
        if row.get("status", "ok") not in ("ok", ""):
            failed.add(case)
        if row.get("truth_pixels"):
            pixels[key] = row["truth_pixels"]
    return ScoreTable(path, _case_means(values), patients, classes, frozenset(failed), pixels)


def _read(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header, and each row with its line number."""
    if path.is_dir():
        raise DataError(path, "it is a folder", "Give the CSV file of its scores")
    try:
        # Spreadsheets put a byte-order mark first.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(
            path, f"it cannot be read as a table ({reason})", "Give per-case tables as CSV"
        ) from error
    if "case" not in header:
        raise DataError(
            path,
            f"it has no column 'case' (found: {', '.join(header) or 'nothing'})",
            "Give per-case tables as CSV, as `medseg evaluate -o scores.csv` writes them",
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(path, f"it has the column {twice!r} twice", "Keep one")
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}",
                f"{plural(len(row), 'value')} below {plural(len(header), 'column')}",
                "The file may have been cut off: evaluate again",
            )
    return header, [(line, dict(zip(header, row, strict=True))) for line, row in rows]


def _number(text: str, metric: str, path: Path, line: int) -> float:
    try:
        value = float(text) if text.strip() else math.nan
    except ValueError:
        raise DataError(
            f"{path}, line {line}",
            f"{metric} is {text!r}, which is no number",
            "Write numbers with a point, and leave undefined ones blank",
        ) from None
    if abs(value) > _MOST:
        raise DataError(
            f"{path}, line {line}",
            f"{metric} is {text}, which has no mean",
            "Evaluate with a convention that gives missed structures a finite distance",
        )
    return value


def _case_means(values: Mapping[tuple[str, str], float]) -> dict[str, float]:
    of_case: dict[str, list[float]] = {}
    for (case, _), value in values.items():
        of_case.setdefault(case, []).append(value)
    means = {}
    for case, found in of_case.items():
        defined = [value for value in found if not math.isnan(value)]
        means[case] = sum(defined) / len(defined) if defined else math.nan
    return means
