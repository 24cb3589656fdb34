"""Folders of DICOM series, without masks: images to predict.

Each folder that holds DICOM files is a series, sliced as a volume. Where every series of a folder
is a single image, as in a folder of radiographs, each file is a case.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from medseg.data.case import Case, Dataset, Problem
from medseg.data.expand import Subject, expand
from medseg.data.io import dicom, is_image_file, stem
from medseg.data.io.volume import guarded
from medseg.data.layouts.names import nfc
from medseg.errors import DataError, plural

NAME = "dicom"
DECLARED = False

_LOOKED_AT = 32


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    try:
        folders = _folders(root) if root.is_dir() else []
    except OSError:
        return None
    return f"{plural(len(folders), 'folder')} of DICOM files" if folders else None


def read(root: Path) -> Dataset:
    """List the slices of each series; none is labelled.

    Raises:
        DataError: no DICOM files.
    """
    reason = recognise(root)
    if reason is None:
        raise DataError(
            root, "holds no DICOM files, or other images beside them", "Name a folder of series"
        )
    cases: list[Case] = []
    problems: list[Problem] = []
    for folder in _folders(root):
        for subject in _subjects(root, folder):
            found, wrong = expand(subject)
            cases += found
            problems += wrong
    cases.sort(key=lambda case: case.id)
    return Dataset(root, NAME, reason, tuple(cases), None, tuple(problems))


def _subjects(root: Path, folder: Path) -> list[Subject]:
    """One, or one a file when each is a series of its own; what is wrong shows in reading it."""
    below = "" if folder == root else nfc(folder.relative_to(root).as_posix())
    whole = [Subject(below or nfc(root.resolve().name), [folder])]
    try:
        found = guarded(folder, lambda: dicom.series_in(folder))
    except DataError:
        return whole
    if len(found) == 1 or any(len(images) > 1 for images in found.values()):
        return whole
    files = sorted(Path(images[0].filename) for images in found.values())
    names = [nfc(stem(file.name)) for file in files]
    return [
        Subject(f"{below}/{name}".lstrip("/"), [file])
        for name, file in zip(names, files, strict=True)
    ]


def _folders(root: Path) -> list[Path]:
    """The folders with DICOM files; none when there are images of other kinds as well."""
    found: set[Path] = set()
    looks = 0
    for path in _files(root):
        if path.suffix.lower() in dicom.SUFFIXES:
            if not found and not dicom.is_dicom(path):
                return []
            found.add(path.parent)
        elif is_image_file(path):
            return []
        elif path.parent not in found and looks < _LOOKED_AT:
            looks += 1
            if dicom.is_dicom(path):
                found.add(path.parent)
                looks = 0
    return sorted(found)


def _files(root: Path) -> Iterator[Path]:
    """All files that are not hidden, those of a folder together."""
    for folder, inside, names in os.walk(root):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)
