"""The split as a table that people and spreadsheets can read, and that knows its data.

``case,split,patient,cluster,sha256``; a file of several folds has a column ``fold`` besides.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.data.case import SPLITS, Case, Split
from medseg.data.survey import Survey
from medseg.errors import DataError, plural
from medseg.files import write_text

_COLUMNS = ("case", "split", "patient")
_FOLDS = frozenset(map(str, range(1000)))
_HASH_DIGITS = 16


@dataclass(frozen=True, slots=True)
class SplitFile:
    """What a split file says.

    Attributes:
        path: the file.
        parts: case id to part. In a file of several folds, what is not for testing trains.
        folds: in a file of several folds, the part of each of its cases for each fold.
        hashes: case id to the hash of its image and mask; empty for a file that has none.
    """

    path: Path
    parts: Mapping[str, Split]
    folds: tuple[Mapping[str, Split], ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    def place(self, cases: Iterable[Case]) -> tuple[Case, ...]:
        """The cases with the parts of this file and no others; those of folds have none yet.

        Raises:
            DataError: the file lists a case that is not among them.
        """
        cases = tuple(cases)
        _check_known(self.path, self.parts, {case.id for case in cases})
        in_folds = set().union(*self.folds)
        return tuple(
            replace(case, split=None if case.id in in_folds else self.parts.get(case.id))
            for case in cases
        )

    def check(self, hashes: Mapping[str, str], remedy: str) -> None:
        """Make sure that the file was written for these data.

        Args:
            hashes: of :func:`case_hashes`.
            remedy: what to do when it was not.

        Raises:
            DataError: cases have changed, are new or are missing; they are named.
        """
        if not self.hashes:
            return
        changed = [c for c in self.hashes if c in hashes and hashes[c] != self.hashes[c]]
        found = {
            "changed": changed,
            "new": [case for case in hashes if case not in self.parts],
            "missing": [case for case in self.parts if case not in hashes],
        }
        if not any(found.values()):
            return
        said = [f"{len(ids)} {what} ({_some(ids)})" for what, ids in found.items() if ids]
        raise DataError(
            self.path, f"the data has changed since it was written: {', '.join(said)}", remedy
        )


def case_hashes(survey: Survey) -> dict[str, str]:
    """The start of a SHA-256 over the image and the mask of every usable case, by id."""
    usable = {case.id for case in survey.usable}
    return {
        facts.id: _digest(facts.image_sha256, facts.mask_sha256 or "")
        for facts in survey.cases
        if facts.id in usable
    }


def data_hash(hashes: Mapping[str, str]) -> str:
    """One hash over the ids and hashes of all cases."""
    return _digest(*(f"{case} {digest}" for case, digest in sorted(hashes.items())))


def write_split(
    path: Path,
    split: Mapping[str, Split],
    cases: Sequence[Case],
    *,
    clusters: Mapping[str, str] | None = None,
    hashes: Mapping[str, str] | None = None,
    folds: Mapping[str, int] | None = None,
) -> None:
    """Write a split as CSV, atomically, sorted by case id.

    Args:
        path: the file.
        split: case id to part.
        cases: of the dataset.
        clusters: case id to what alike images share; those that stand alone are left blank.
        hashes: of :func:`case_hashes`.
        folds: case id to the fold in which it validates, for a file of several folds.

    Raises:
        DataError: a case of ``split`` is not among ``cases``.
        MedsegError: the folder cannot be written.
    """
    _check_known(path, split, {case.id for case in cases})
    write_text(path, split_table(split, cases, clusters=clusters, hashes=hashes, folds=folds))


def split_table(
    split: Mapping[str, Split],
    cases: Sequence[Case],
    *,
    clusters: Mapping[str, str] | None = None,
    hashes: Mapping[str, str] | None = None,
    folds: Mapping[str, int] | None = None,
) -> str:
    """What :func:`write_split` writes."""
    patients = {case.id: case.patient for case in cases}
    columns: dict[str, Mapping[str, object]] = {"split": split}
    if folds is not None:
        columns["fold"] = folds
    columns["patient"] = patients
    columns["cluster"] = _numbered({case: (clusters or {}).get(case) for case in sorted(split)})
    columns["sha256"] = hashes or {}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["case", *columns])
    for case in sorted(split):
        cells = [column.get(case) for column in columns.values()]
        writer.writerow([case, *("" if cell is None else cell for cell in cells)])
    return table.getvalue()


def read_split(path: Path) -> SplitFile:
    """Read what :func:`write_split` wrote, or a person: only ``case`` and ``split`` are needed.

    Raises:
        DataError: not such a file, a bad row, or a case listed twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = ";" if text.startswith("case;") else ","
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"cannot be read ({error})", "Name a split file") from error
    if not rows or rows[0][:2] != list(_COLUMNS[:2]):
        raise DataError(path, "is not a split file", f"Its first line must be {','.join(_COLUMNS)}")
    header = rows[0]
    parts: dict[str, Split] = {}
    folds: dict[str, int] = {}
    hashes: dict[str, str] = {}
    allowed = {name: name for name in SPLITS}
    for number, row in enumerate(rows[1:], start=2):
        if not any(row):
            continue
        cells = dict(zip(header, row, strict=False))
        case, part, fold = cells["case"], cells.get("split", ""), cells.get("fold", "")
        if not case or part not in allowed or not (fold == "" or fold in _FOLDS):
            raise DataError(
                path,
                f"row {number} is '{delimiter.join(row)}'",
                f"Write a case id and one of {', '.join(SPLITS)}; a fold is a number from 0",
            )
        if case in parts:
            raise DataError(path, f"row {number} lists '{case}' again", "List each case once")
        parts[case] = allowed[part]
        if fold:
            folds[case] = int(fold)
        if cells.get("sha256"):
            hashes[case] = cells["sha256"]
    return SplitFile(path, parts, _folds(path, parts, folds), hashes)


def _folds(
    path: Path, parts: Mapping[str, Split], folds: Mapping[str, int]
) -> tuple[dict[str, Split], ...]:
    numbers = sorted(set(folds.values()))
    if numbers and (numbers != list(range(len(numbers))) or len(numbers) < 2):
        raise DataError(
            path,
            f"its folds are {_some([str(number) for number in numbers])}",
            "Number them 0, 1, 2 ... without a gap",
        )
    for case in folds:
        if parts[case] != "train":
            raise DataError(
                path,
                f"'{case}' has a fold and is in {parts[case]}",
                "A case with a fold is in train; for testing, leave its fold blank",
            )
    return tuple(
        {case: "val" if fold == number else "train" for case, fold in folds.items()}
        for number in numbers
    )


def _check_known(path: Path, listed: Iterable[str], known: Iterable[str]) -> None:
    strangers = sorted(set(listed).difference(known))
    if strangers:
        raise DataError(
            path,
            f"{plural(len(strangers), 'case')} not in the dataset: {_some(strangers)}",
            "Use the split file of this dataset",
        )


def _numbered(clusters: Mapping[str, str | None]) -> dict[str, int]:
    """Clusters of two and more, counted from 1 in the order of their first case."""
    sizes = Counter(clusters.values())
    numbers: dict[str, int] = {}
    return {
        case: numbers.setdefault(cluster, len(numbers) + 1)
        for case, cluster in clusters.items()
        if cluster is not None and sizes[cluster] > 1
    }


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:_HASH_DIGITS]


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")
