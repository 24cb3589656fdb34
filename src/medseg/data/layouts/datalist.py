"""MONAI's datalists: a JSON file that lists the images and masks of each part.

``training``, ``validation`` and ``testing`` (or ``test``) are lists of
``{"image": "a.nii.gz", "label": "b.nii.gz"}`` with paths relative to the file. An image may be a
list of files or the fourth axis of a volume: its channels. It may be the folder of a DICOM series.
A label may be missing; a case for testing may be its image alone.
``fold`` in each entry for training publishes folds. ``id``, ``patient`` and ``field_of_view`` are
understood, and all other texts and numbers become attributes.

Source: https://github.com/Project-MONAI/MONAI, monai/data/decathlon_datalist.py and
monai/apps/auto3dseg.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data.case import Dataset, LabelMap, Split
from medseg.data.expand import Subject
from medseg.data.layouts.declared import (
    Faults,
    Object,
    as_text,
    expand_all,
    find_file,
    first,
    is_id,
    is_text,
    is_whole,
    load_object,
    nothing_usable,
    peek,
    read_labels,
    safe_id,
    show,
)
from medseg.data.layouts.names import SPLIT_NAMES, labels_beside, nfc
from medseg.errors import DataError, plural

NAME = "datalist"
DECLARED = True
_USUAL_NAMES = ("datalist.json", "dataset.json")
_PATIENTS = ("patient", "patient_id", "subject", "subject_id")
_KNOWN = frozenset({"image", "label", "id", "fold", "field_of_view", *_PATIENTS})

# Keys of nnU-Net's and of the Medical Segmentation Decathlon's dataset.json.
_OTHERS = frozenset({"channel_names", "file_ending", "modality"})

# A folder with more JSON files holds something else, such as one annotation file an image.
_MOST_FILES = 20

Locate = Callable[[str], Sequence[Path] | None]
"""The files that a listed image stands for, or None when one is missing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A usable entry of a list.

    Attributes:
        subject: without a split.
        part: what its list is for.
        fold: in which it validates, or None.
    """

    subject: Subject
    part: Split
    fold: int | None


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    if os.path.isfile(root):
        content = _peek(root)
        listed = any(isinstance(content[key], list) for key in _parts(content))
        return _reason(root, content) if listed and not _OTHERS & content.keys() else None
    found = _lists(root)
    if len(found) > 1:
        return f"{', '.join(found)} list images and labels"
    return next((_reason(root / name, content) for name, content in found.items()), None)


def read(root: Path) -> Dataset:
    """Read the listed cases; entries that cannot be used become error problems.

    Without a list for validation, cases for training have no split.

    Raises:
        DataError: no such file or several, or no entry can be used.
    """
    path = root
    if os.path.isdir(root):
        found = _lists(root)
        if len(found) != 1:
            raise DataError(
                root,
                f"holds several lists: {', '.join(found)}" if found else "holds no list of images",
                "Name the JSON file that is meant",
            )
        path = root / next(iter(found))
    content = load_object(path)
    faults = Faults(path)
    locate = _beside(path.parent, series=True)
    entries = read_entries(faults, content, locate, identify=safe_id, channels_in_file=True)
    labels = read_label_map(faults, content) or labels_beside(path.parent)
    return as_dataset(root, NAME, _reason(path, content), faults, entries, labels)


def read_entries(
    faults: Faults,
    content: Object,
    locate: Locate,
    *,
    identify: Callable[[str], str],
    channels_in_file: bool,
) -> list[Entry]:
    """The usable entries of all lists; what is wrong with the others is noted.

    Args:
        faults: of the file.
        content: of the file.
        locate: finds a listed image.
        identify: the id of a case from the path of its first image.
        channels_in_file: whether the fourth axis of an image holds its channels.
    """
    lists = _parts(content)
    if not lists:
        remedy = 'Write {"training": [{"image": ..., "label": ...}, ...]}'
        found = f"lists nothing; its keys are {first(content) or 'none'}"
        faults.add("json-key", f"{found}, not training, validation or testing", remedy)
    entries = []
    places: dict[object, str] = {}
    for key in lists:
        if not isinstance(content[key], list):
            faults.key(key, content[key], "a list", "List the cases")
            continue
        for number, given in enumerate(content[key]):
            where = f"{key}[{number}]"
            entry = _read_entry(faults, given, SPLIT_NAMES[key], locate, identify, where)
            if entry is None:
                continue
            subject = replace(entry.subject, channels_in_file=channels_in_file)
            image = tuple(os.path.abspath(file) for file in subject.images)
            for what, name in ((image, "the image"), (subject.id, f"the id '{subject.id}'")):
                if what in places:
                    found = f"{name} is also that of {places[what]}"
                    remedy = 'Remove one, or tell them apart with an "id"'
                    faults.add("duplicate-case", found, remedy, where=where)
                    break
            else:
                entries.append(replace(entry, subject=subject))
                places[image] = places[subject.id] = where
    return entries


def read_label_map(faults: Faults, content: Object) -> LabelMap | None:
    """The map under ``labels``, whichever way round it is; None without one."""
    labels = content.get("labels")
    if labels is None:
        return None
    if isinstance(labels, dict) and labels and all(key.isdecimal() for key in labels):
        turned: dict[str, Any] = {}
        for value, name in labels.items():
            if not is_text(name):
                faults.key(f"labels.{value}", name, "a name", "Name every label")
            elif name.strip() in turned:
                faults.add("labels", f"'{name}' is declared twice", "Give each label its own name")
            else:
                turned[name.strip()] = int(value) if len(value) <= 9 else -1
        return read_labels(faults, turned) if len(turned) == len(labels) else None
    return read_labels(faults, labels)


def as_dataset(
    root: Path,
    layout: str,
    reason: str,
    faults: Faults,
    entries: Sequence[Entry],
    labels: LabelMap | None,
) -> Dataset:
    """The cases of the entries, with their published split or folds.

    Raises:
        DataError: no entry can be used.
    """
    parts = {entry.part for entry in entries}
    subjects = [
        entry.subject
        if entry.part == "train" and "val" not in parts
        else replace(entry.subject, split=entry.part)
        for entry in entries
    ]
    cases, members, wrong = expand_all(subjects)
    if not cases:
        raise nothing_usable(faults.file, "no entry can be used", [*faults.problems, *wrong])
    bare = [
        entry.subject.id for entry in entries if not entry.subject.masks and entry.part != "test"
    ]
    if bare:
        found = f"{len(bare)} of {len(entries)} images have no label: {first(sorted(bare))}"
        remedy = "They are not used for supervised training; add labels if there should be any"
        faults.add("unpaired-image", found, remedy, warning=True)
    folds = _folds(faults, entries, members)
    if folds:
        reason += f"; {plural(len(folds), 'published fold')}"
    problems = (*faults.problems, *wrong)
    return Dataset(root, layout, reason, tuple(cases), labels, problems, folds)


def _folds(
    faults: Faults, entries: Sequence[Entry], members: Mapping[str, Sequence[str]]
) -> tuple[Mapping[str, Split], ...]:
    """In the k-th, cases whose fold is the k-th smallest validate and the others train."""
    training = [entry for entry in entries if entry.part == "train"]
    numbers = sorted({entry.fold for entry in training if entry.fold is not None})
    if not numbers:
        return ()
    if any(entry.part == "val" for entry in entries):
        found = "has both a list for validation and folds"
        faults.add("fold", found, "The folds are not used; remove either", warning=True)
        return ()
    without = [entry.subject.id for entry in training if entry.fold is None]
    if without:
        found = f"{plural(len(without), 'case')} for training without a fold: {first(without)}"
        faults.add("fold", found, "Give every one a fold, or none")
        return ()
    if len(numbers) == 1:
        found = f"all cases for training are in fold {numbers[0]}"
        faults.add("fold", found, "The fold is not used; there must be at least two", warning=True)
        return ()
    return tuple(
        {
            case: "val" if entry.fold == number else "train"
            for entry in training
            for case in members[entry.subject.id]
        }
        for number in numbers
    )


def _read_entry(
    faults: Faults,
    given: object,
    part: Split,
    locate: Locate,
    identify: Callable[[str], str],
    where: str,
) -> Entry | None:
    if part == "test" and isinstance(given, str):
        given = {"image": given}
    if not isinstance(given, dict):
        remedy = 'Write {"image": ..., "label": ...}'
        faults.add("json-key", f"is {show(given)}, not an object", remedy, where=where)
        return None
    before = len(faults.problems)
    names = _names(faults, "image", given.get("image"), where)
    if not names and len(faults.problems) == before:
        faults.key("image", given.get("image"), "a file or a list of files", "Name it", where=where)
    images = _found(faults, names, locate, where)
    beside = _beside(faults.file.parent)
    masks = _names(faults, "label", given.get("label"), where)
    if len(masks) > 1:
        found = f"'label' lists {plural(len(masks), 'file')}"
        remedy = "Name one mask that holds all classes"
        faults.add("json-key", found, remedy, where=where)
    views = _names(faults, "field_of_view", given.get("field_of_view"), where)
    files = {
        "label": _found(faults, masks, beside, where),
        "field_of_view": _found(faults, views, beside, where),
    }
    fold = given.get("fold")
    if fold is not None and not (is_whole(fold) and 0 <= fold < 1000):
        faults.key("fold", fold, "a whole number from 0", "Correct it", where=where)
    case = given.get("id")
    if case is not None and not is_id(case):
        remedy = "Use text without a leading / and without .."
        faults.key("id", case, "the name of a case", remedy, where=where)
    patient = next((given[key] for key in _PATIENTS if given.get(key) is not None), None)
    if isinstance(patient, dict | list | bool):
        faults.key("patient", patient, "text or a number", "Correct it", where=where)
    if len(faults.problems) > before:
        return None
    case = nfc(case) if case is not None else identify(names[0])
    if not is_id(case):
        found = "the image's name cannot name a case"
        faults.add("json-key", found, 'Add an "id"', where=where)
        return None
    subject = Subject(
        id=case,
        images=images,
        masks=files["label"],
        patient=as_text(patient) or None,
        attributes={
            nfc(key): as_text(value)
            for key, value in given.items()
            if key not in _KNOWN and not isinstance(value, dict | list)
        },
        field_of_view=next(iter(files["field_of_view"]), None),
    )
    return Entry(subject, part, fold)


def _names(faults: Faults, key: str, value: object, where: str) -> list[str]:
    """The files that a key names; none when it is missing or empty."""
    if value is None or value == "" or value == []:
        return []
    names = value if isinstance(value, list) else [value]
    texts = [name for name in names if isinstance(name, str) and name.strip()]
    if len(texts) == len(names):
        return texts
    faults.key(key, value, "a file", "Name a file, relative to this one", where=where)
    return []


def _found(faults: Faults, names: Sequence[str], locate: Locate, where: str) -> list[Path]:
    files: list[Path] = []
    for name in names:
        located = locate(name)
        if located is None:
            remedy = f"Paths are relative to {faults.file.parent}"
            faults.add("missing-file", f"{name} does not exist", remedy, where=where)
        else:
            files += located
    return files


def _beside(folder: Path, *, series: bool = False) -> Locate:
    """Finds files, or also folders of DICOM series, by their paths relative to ``folder``."""

    def locate(name: str) -> Sequence[Path] | None:
        file = find_file(folder, name, series=series)
        return None if file is None else [file]

    return locate


def _parts(content: Object) -> list[str]:
    return [key for key in content if key in SPLIT_NAMES]


def _lists(folder: Path) -> dict[str, Object]:
    """The JSON files of a folder that list images, by name; one of the usual names goes first."""
    try:
        names = sorted(entry.name for entry in folder.glob("*.json"))
    except OSError:
        return {}
    usual = [name for name in _USUAL_NAMES if name in names]
    found = {}
    for name in usual if len(names) > _MOST_FILES else names:
        content = _peek(folder / name)
        if name == "dataset.json" and _OTHERS & content.keys():
            continue
        lists = [content[key] for key in _parts(content) if isinstance(content[key], list)]
        if any(entry for some in lists for entry in some[:1] if _is_entry(entry)):
            found[name] = content
    preferred = next((name for name in usual if name in found), None)
    return found if preferred is None else {preferred: found[preferred]}


def _is_entry(value: object) -> bool:
    return isinstance(value, dict) and "image" in value


def _peek(path: Path) -> Object:
    """The content of a JSON file that may be a list of images; empty when it is none.

    Other JSON files, which may be huge, are not parsed.
    """
    if path.suffix.lower() != ".json":
        return {}
    try:
        text = path.read_bytes()
    except OSError:
        return {}
    return peek(path) if any(f'"{key}"'.encode() in text for key in SPLIT_NAMES) else {}


def _reason(path: Path, content: Object) -> str:
    lists = [key for key in _parts(content) if isinstance(content[key], list)]
    counts = ", ".join(f"{len(content[key])} for {key}" for key in lists)
    return f"{path.name} lists images and labels: {counts}"
