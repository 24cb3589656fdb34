"""Conventions for dataset files on disk. Files are read where they are, never copied.

A layout is a module with two functions, :class:`Layout`. A new one is a file beside this one and
a line in ``LAYOUTS``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from medseg.data import registry
from medseg.data.case import Case, Dataset
from medseg.data.layouts import (
    bids,
    coco,
    datalist,
    dicom,
    folders,
    h5,
    h5_scribble,
    manifest,
    msd,
    nnunet,
    npz,
    yolo,
)
from medseg.data.layouts.declared import first, load_object, printable
from medseg.errors import DataError, nearest

__all__ = ["LAYOUTS", "Layout", "is_dataset", "open_dataset", "patients_in"]


class Layout(Protocol):
    """What a layout's module provides.

    Attributes:
        DECLARED: whether a file in the dataset says what it holds. Such a layout is preferred to
            one that goes by the names of files and folders.
    """

    DECLARED: bool

    def recognise(self, root: Path) -> str | None:
        """Why ``root`` follows this layout, in words, or None when it does not."""

    def read(self, root: Path) -> Dataset:
        """List the cases below ``root``.

        Raises:
            DataError: there is nothing to read.
        """


LAYOUTS: Mapping[str, Layout] = {
    "manifest": manifest,
    "folders": folders,
    "coco": coco,
    "yolo": yolo,
    "npz": npz,
    "h5": h5,
    "h5-scribble": h5_scribble,
    "nnunet": nnunet,
    "msd": msd,
    "datalist": datalist,
    "bids": bids,
    "dicom": dicom,
}

_HELP = (
    "Give a folder with images/ and masks/ (optionally inside train/, val/ and test/), a folder "
    "where masks are named like their image plus _mask, a CSV file with the columns image and "
    "mask, or a dataset in another layout, such as nnU-Net, MSD, BIDS or COCO"
)
# How many folders inside an unknown one are looked at.
_MOST_FOLDERS = 20


def is_dataset(path: Path) -> bool:
    """Whether some layout recognises ``path``, or it is a registered name; reading it may still
    fail."""
    return registry.find(path) is not None or any(
        layout.recognise(path) for layout in LAYOUTS.values()
    )


def open_dataset(path: Path, *, layout: str = "auto", group_pattern: str | None = None) -> Dataset:
    """List the cases of a dataset without reading any image.

    Args:
        path: a folder, a manifest file, or the name of a registered dataset.
        layout: a name in ``LAYOUTS``, or ``auto`` for the one that recognises ``path``, or that a
            registered dataset was registered with.
        group_pattern: a regular expression searched in each case id. Its first group, or else the
            whole match, becomes the patient id.

    Raises:
        DataError: nothing there, no layout or several recognise it, or a case id lacks the
            pattern.
    """
    if layout not in ("auto", *LAYOUTS):
        raise DataError("layout", f"there is no '{layout}'", nearest(layout, ("auto", *LAYOUTS)))
    known = registry.find(path)
    if known is not None:
        path = known.folder
        layout = known.layout if layout == "auto" else layout
        group_pattern = group_pattern or known.group_pattern
    elif not path.exists():
        raise registry.not_found(path)
    chosen = layout if layout != "auto" else _recognised(path)
    dataset = LAYOUTS[chosen].read(path)
    if known is not None:
        dataset = registry.apply(known, dataset)
    if group_pattern is None:
        return dataset
    return replace(dataset, cases=_with_patients(dataset.cases, group_pattern))


def _recognised(path: Path) -> str:
    reasons = {name: layout.recognise(path) for name, layout in LAYOUTS.items()}
    found = {name: reason for name, reason in reasons.items() if reason is not None}
    candidates = {n: r for n, r in found.items() if LAYOUTS[n].DECLARED} or found
    if len(candidates) > 1:
        raise DataError(
            path,
            "may be read in several ways: "
            + "; ".join(f"{name} ({reason})" for name, reason in candidates.items()),
            f"Say which with --layout, e.g. --layout {next(iter(candidates))}",
        )
    if candidates:
        return next(iter(candidates))
    raise DataError(path, f"is not a dataset that medseg knows: {_describe(path)}", _HELP)


def _describe(path: Path) -> str:
    if path.suffix.lower() == ".json" and path.is_file():
        return _describe_json(path)
    if not path.is_dir():
        return f"it is a {path.suffix or 'nameless'} file"
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if not entries:
        return "the folder is empty"
    inside = [f"{entry.name}/" for entry in entries if entry.is_dir()]
    kinds = Counter(entry.suffix.lower() or "no suffix" for entry in entries if entry.is_file())
    shown = ", ".join(inside[:8]) + (" ..." if len(inside) > 8 else "")
    files = ", ".join(f"{count} files ({suffix})" for suffix, count in kinds.most_common(4))
    held = f"it holds {' and '.join(filter(None, [shown, files]))}"
    folders = [entry for entry in entries if entry.is_dir()][:_MOST_FOLDERS]
    known = [f"{f.name}/" for f in folders if any(x.recognise(f) for x in LAYOUTS.values())]
    return f"{held}; a dataset by itself: {', '.join(known)}" if known else held


def _describe_json(path: Path) -> str:
    try:
        content = load_object(path)
    except DataError as error:
        return f"it {error.found}"
    keys = first(map(printable, content), most=8)
    return f"it is a JSON file with the keys {keys}" if keys else "it is an empty JSON file"


def _with_patients(cases: tuple[Case, ...], group_pattern: str) -> tuple[Case, ...]:
    patients = patients_in([case.id for case in cases], group_pattern)
    return tuple(
        replace(case, patient=patient) for case, patient in zip(cases, patients, strict=True)
    )


def patients_in(ids: Iterable[str], group_pattern: str) -> list[str]:
    """The patient in each case id, as :func:`open_dataset` finds it.

    Raises:
        DataError: not a regular expression, or an id without it.
    """
    try:
        pattern = re.compile(group_pattern)
    except re.error as error:
        raise DataError(
            "group pattern",
            f"'{group_pattern}' is not a regular expression ({error})",
            "Correct it",
        ) from error
    patients = []
    for case in ids:
        match = pattern.search(case)
        patient = match and (match.group(1) if pattern.groups else match.group(0))
        if not patient:
            raise DataError(
                "group pattern",
                f"'{group_pattern}' is not found in the case '{case}'",
                r"Every case id must contain it, e.g. 'patient\d+'",
            )
        patients.append(patient)
    return patients
