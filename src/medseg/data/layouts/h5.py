"""HDF5 files with ``image`` and ``label``, as SSL4MIS lays out ACDC and the left atrium (LA).

Understood, at any depth below the root:

- ``NAME.h5`` with a slice (H, W) or a volume (D, H, W), as in ACDC;
- ``NAME/mri_norm2.h5`` with a volume (W, H, D), as in LA;
- ``train_slices.list``, ``train.list``, ``val.list``, ``test.list`` in the root: a published split,
  one name a line; the name of a volume stands for its slices.

Where slices ``NAME_slice_K.h5`` and their volume ``NAME.h5`` are both there, as in ACDC, the slices
are read. Patients are ``patientNNN``, where names begin so, else the volume.

``h5-scribble`` is the same with ``scribble`` as the mask of training cases.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medseg.data.arrays import H5_SUFFIXES, array_names, read_headers, require_h5py
from medseg.data.case import Case, Dataset, Problem, Split
from medseg.data.layouts.names import labels_beside, nfc
from medseg.data.layouts.npz import nothing_usable, subject_cases
from medseg.errors import DataError

NAME = "h5"
DECLARED = False
LISTS: tuple[tuple[str, Split], ...] = (
    ("train_slices.list", "train"),
    ("train.list", "train"),
    ("val.list", "val"),
    ("test.list", "test"),
)
# SSL4MIS calls every volume of LA the same, in a folder of its own, and keeps NRRD's (W, H, D).
_LA = "mri_norm2"
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SLICE = re.compile(r"(.+)_slice_?\d+$")
_PATIENT = re.compile(r"patient\d+")


@dataclass(frozen=True, slots=True)
class _File:
    """A file with its name in the lists, and the volume it is a slice of, if it is one."""

    path: Path
    name: str
    volume: str | None


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    first = next(_files(root), None)
    if first is None or not _is_hdf5(first):
        return None
    names = array_names(first)
    # Without h5py there are no names, and reading says what to install.
    if names is None:
        return f"HDF5 files such as {first.name}"
    if "image" not in names:
        return None
    held = [name for name in ("image", "label", "scribble") if name in names]
    return f"HDF5 files such as {first.name} hold {' and '.join(held)}"


def read(root: Path) -> Dataset:
    """List slices and the slices of volumes; files that cannot be used become error problems.

    Raises:
        DataError: no such file, or none that can be used; h5py is missing.
    """
    return read_with(root, {None: "label", "train": "label", "val": "label", "test": "label"}, NAME)


def read_with(root: Path, masks: dict[Split | None, str], layout: str) -> Dataset:
    """As :func:`read`, with the name of the mask's array in each part."""
    files = _unique(root)
    if not files:
        raise DataError(root, "holds no .h5 file", "Name an .h5 file or a folder of them")
    require_h5py(files[0].path)
    splits, problems = _listed(root, files)
    cases: list[Case] = []
    for file in files:
        try:
            headers = read_headers(file.path)
        except DataError as error:
            problems.append(
                Problem("error", "unreadable-array", error.where, error.found, error.remedy)
            )
            continue
        patient = _PATIENT.match(file.name.rsplit("/", 1)[-1])
        split = splits.get(file.name)
        found, wrong = subject_cases(
            file.name,
            file.path,
            headers,
            (("image", masks[split]),),
            axis=2 if file.path.stem == _LA else 0,
            patient=patient.group() if patient else file.volume,
            split=split,
        )
        cases += found
        problems += wrong
    if not cases:
        raise nothing_usable(root, problems)
    cases.sort(key=lambda case: case.id)
    folder = root if root.is_dir() else root.parent
    reason = recognise(root) or f"{len(files)} .h5 files"
    return Dataset(root, layout, reason, tuple(cases), labels_beside(folder), tuple(problems))


def _files(root: Path) -> Iterator[Path]:
    """The files, lazily: three levels of folders are looked at, as SSL4MIS's data have."""
    if root.is_file():
        if root.suffix.lower() in H5_SUFFIXES:
            yield root
    elif root.is_dir():
        for depth in ("", "*/", "*/*/"):
            for suffix in H5_SUFFIXES:
                yield from sorted(
                    path
                    for path in root.glob(f"{depth}*{suffix}")
                    if not path.name.startswith(".") and path.is_file()
                )


def _is_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        return False


def _unique(root: Path) -> list[_File]:
    """The files by their shortest unique name, without the volumes whose slices are there."""
    paths = list(_files(root))
    folder = root if root.is_dir() else root.parent

    def below(path: Path) -> str:
        within = path.relative_to(folder)
        in_own_folder = within.stem == _LA and within.parent.name
        return nfc((within.parent if in_own_folder else within.with_suffix("")).as_posix())

    stems = Counter(below(path).rsplit("/", 1)[-1] for path in paths)
    files = []
    for path in paths:
        name = below(path)
        stem = name.rsplit("/", 1)[-1]
        match = _SLICE.fullmatch(stem)
        files.append(_File(path, stem if stems[stem] == 1 else name, match and match.group(1)))
    sliced = {file.volume for file in files if file.volume}
    return [file for file in files if file.name.rsplit("/", 1)[-1] not in sliced]


def _listed(root: Path, files: list[_File]) -> tuple[dict[str, Split], list[Problem]]:
    """The published part of each file that a list names, by its name."""
    known: dict[str, list[str]] = {}
    for file in files:
        for name in {file.name, file.name.rsplit("/", 1)[-1], file.volume}:
            if name:
                known.setdefault(name, []).append(file.name)
    splits: dict[str, Split] = {}
    problems: list[Problem] = []
    found = [(root / name, split) for name, split in LISTS if (root / name).is_file()]
    for path, split in found:
        for number, line in _lines(path):
            named = known.get(line) or known.get(Path(line).stem)
            if named is None:
                problems.append(
                    Problem(
                        "error",
                        "split-unknown-case",
                        f"{path}, line {number}",
                        f"there is no file '{line}'",
                        "Add the file or remove the line",
                    )
                )
                continue
            for name in named:
                if splits.setdefault(name, split) != split:
                    problems.append(
                        Problem(
                            "error",
                            "case-in-two-splits",
                            f"{path}, line {number}",
                            f"'{line}' is also in the list of {splits[name]}",
                            "List each case once",
                        )
                    )
                    break
    if splits and len(splits) < len(files):
        unlisted = [file.name for file in files if file.name not in splits]
        shown = ", ".join(unlisted[:5]) + (" ..." if len(unlisted) > 5 else "")
        problems.append(
            Problem(
                "warning",
                "not-in-published-split",
                str(root),
                f"{len(unlisted)} files are in none of the lists: {shown}",
                "They are used for training; list them if they should not be",
            )
        )
    return splits, problems


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read ({error})", "Save it as UTF-8 text") from error
    for number, line in enumerate(text.splitlines(), start=1):
        name = nfc(line.strip())
        if name:
            yield number, name
