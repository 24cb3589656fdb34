"""The tables of scores that `Evaluation.to_csv` writes, and others with such columns."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.data.groups import attribute_of, is_group_column
from medseg.errors import DataError, MedsegError, nearest, plural
from medseg.metrics.fairness import Equity, equity

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
        groups: attribute to case id to group, of the columns ``group`` and ``group:NAME``.
    """

    path: Path
    values: Mapping[str, float]
    patients: Mapping[str, str]
    classes: tuple[str, ...]
    failed: frozenset[str]
    truth_pixels: Mapping[tuple[str, str], str]
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

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
    if metric not in header or _told(metric):
        known = [name for name in header if not _told(name)]
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
    return ScoreTable(
        path,
        _case_means(values),
        patients,
        classes,
        frozenset(failed),
        pixels,
        _groups(header, [row for _, row in rows]),
    )


def _told(column: str) -> bool:
    """Whether a column is known and no metric."""
    return column in _KNOWN or is_group_column(column)


def _groups(header: Iterable[str], rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {
        attribute_of(column): {row["case"]: row[column] for row in rows if row[column]}
        for column in header
        if is_group_column(column)
    }


def shared_cases(tables: Sequence[ScoreTable], common: bool) -> list[str]:
    """The cases that all tables have, sorted.

    Args:
        tables: one or more.
        common: leave out the others, instead of refusing them.

    Raises:
        DataError: the tables have different classes, or no case in common.
    """
    first = tables[0]
    for table in tables[1:]:
        if table.classes != first.classes and set(table.classes) != set(first.classes):
            raise DataError(
                table.path,
                f"its classes ({', '.join(table.classes)}) are not those of {first.path} "
                f"({', '.join(first.classes)})",
                "Compare one class that both have, with --class",
            )
        missing = [case for case in first.values if case not in table.values]
        spare = [case for case in table.values if case not in first.values]
        if (missing or spare) and not common:
            said = [
                f"only in {where}: {_some(ids)}"
                for where, ids in ((first.path, missing), (table.path, spare))
                if ids
            ]
            raise DataError(
                table.path,
                f"its cases are not those of {first.path}: {'; '.join(said)}",
                "Score both on the same cases, or compare those in common with --common",
            )
    # Sorted, so that the resamples do not depend on the order of the files.
    cases = sorted(set(first.values).intersection(*(table.values for table in tables)))
    if not cases:
        raise DataError(
            tables[-1].path,
            f"it has no case in common with {first.path}",
            "Give tables of the same data",
        )
    return cases


def check_truth(tables: Sequence[ScoreTable], cases: Sequence[str]) -> None:
    """Make sure that all tables were scored against the same truth, as far as its size tells.

    Raises:
        DataError: the true region of a case differs in size.
    """
    wanted = set(cases)
    first: dict[tuple[str, str], tuple[str, Path]] = {}
    for table in tables:
        for key, pixels in table.truth_pixels.items():
            expected, where = first.setdefault(key, (pixels, table.path))
            if key[0] in wanted and pixels != expected:
                raise DataError(
                    table.path,
                    f"the truth of case {key[0]!r} has {pixels} pixels, and {expected} in {where}",
                    "Score all systems against the same truth",
                )


def patients_of(tables: Iterable[ScoreTable]) -> dict[str, str]:
    """Case id to patient, where any table knows it.

    Raises:
        DataError: two tables name different patients.
    """
    patients: dict[str, str] = {}
    for table in tables:
        for case, patient in table.patients.items():
            if patients.setdefault(case, patient) != patient:
                raise DataError(
                    table.path,
                    f"case {case!r} is of patient {patient!r}, elsewhere of {patients[case]!r}",
                    "Name the same patients in all tables",
                )
    return patients


def groups_in(tables: Iterable[ScoreTable]) -> dict[str, dict[str, str]]:
    """Attribute to case id to group, where any table knows it; sorted by attribute.

    Raises:
        DataError: two tables name different groups.
    """
    groups: dict[str, dict[str, str]] = {}
    for table in tables:
        for attribute, of_case in table.groups.items():
            known = groups.setdefault(attribute, {})
            for case, group in of_case.items():
                if known.setdefault(case, group) != group:
                    raise DataError(
                        table.path,
                        f"case {case!r} is of the {attribute} {group!r}, elsewhere {known[case]!r}",
                        "Name the same groups in all tables",
                    )
    return dict(sorted(groups.items()))


def equity_over_seeds(
    tables: Sequence[ScoreTable], groups: Mapping[str, Mapping[str, str]], metric: str
) -> list[Equity]:
    """How equally good a system is for the groups of each attribute that divides its cases.

    Args:
        tables: of one system, one for each seed, of the same cases; the mean over seeds of each
            case counts.
        groups: of :func:`groups_in`.
        metric: whose values the tables hold; higher is better.
    """
    cases = sorted(tables[0].values)
    values = [sum(table.values[case] for table in tables) / len(tables) for case in cases]
    patients = patients_of(tables)
    return [
        equity(
            values,
            [of_case.get(case) for case in cases],
            attribute=attribute,
            metric=metric,
            patients=[patients.get(case) for case in cases],
        )
        for attribute, of_case in groups.items()
        if len({of_case[case] for case in cases if case in of_case}) > 1
    ]


def systems_named(
    tables: Sequence[str], names: Sequence[str] | None = None
) -> dict[str, tuple[Path, ...]]:
    """Systems and their tables from ``TABLE``, ``NAME=TABLE`` or ``NAME=TABLE,TABLE,...``.

    A system without a name gets that of its first file, with as many of its folders as it takes
    to tell all apart. A file whose own name holds ``=`` or ``,`` is taken as it is.

    Args:
        tables: one for each system.
        names: their names instead.

    Raises:
        MedsegError: names that do not fit, or a table given twice.
    """
    given: list[str | None] = []
    files: list[tuple[Path, ...]] = []
    for table in tables:
        name, several = None, table
        # Unlike Path.exists, it takes what is too long for a path.
        if not os.path.exists(table) and "=" in table:
            name, several = table.split("=", 1)
        paths = [several] if os.path.exists(several) else several.split(",")
        if (name is not None and not name.strip()) or not all(path.strip() for path in paths):
            raise MedsegError(table, "a name or a file is missing", "Write NAME=TABLE,TABLE,...")
        given.append(name and name.strip())
        files.append(tuple(Path(path.strip()) for path in paths))
    every = [path.resolve() for of_system in files for path in of_system]
    for path in every:
        if every.count(path) > 1:
            raise MedsegError(path, "the table is given twice", "Give each table once")
    if names is not None:
        if len(names) != len(files):
            raise MedsegError(
                "--names", f"{len(names)} names for {len(files)} systems", "Give as many"
            )
        given = [name.strip() for name in names]
    told_apart = _file_names([of_system[0] for of_system in files])
    final = [name or short for name, short in zip(given, told_apart, strict=True)]
    for name in final:
        if final.count(name) > 1:
            raise MedsegError(name, "two systems have this name", "Name them apart with --names")
    return dict(zip(final, files, strict=True))


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


def _file_names(paths: Sequence[Path]) -> list[str]:
    parts = [path.absolute().with_suffix("").parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(of_path[-depth:]) for of_path in parts]
        if len(set(names)) == len(names):
            break
    return names


def _some(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
