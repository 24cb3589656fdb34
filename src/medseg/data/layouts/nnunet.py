"""nnU-Net v2's raw datasets.

``dataset.json`` names channels (``channel_names``) and classes (``labels``); ``imagesTr/`` holds
``CASE_0000.ext``, ``CASE_0001.ext`` ... for the channels of each case, ``labelsTr/`` its
``CASE.ext``. ``imagesTs/`` and ``labelsTs/`` are the test part. ``splits_final.json`` beside it, or
in ``nnUNet_preprocessed/`` beside ``nnUNet_raw/``, publishes folds.

Source: https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.data.case import Dataset, LabelMap, Problem, Split
from medseg.data.expand import Subject
from medseg.data.layouts.declared import (
    Faults,
    Object,
    expand_all,
    find_file,
    first,
    is_id,
    is_text,
    is_whole,
    load_json,
    load_object,
    nothing_usable,
    peek,
    read_labels,
    read_table,
    show,
)
from medseg.data.layouts.names import nfc
from medseg.errors import DataError, plural

NAME = "nnunet"
DECLARED = True
FILE_NAME = "dataset.json"
SPLITS_FILE = "splits_final.json"

# One such file may hold all channels: nnU-Net's reader of natural images takes RGB pictures whole.
_PICTURES = (".png", ".bmp", ".tif", ".tiff")
_CHANNELS_REMEDY = 'Write the channels in order, e.g. {"0": "T1", "1": "T2"}'


@dataclass(frozen=True, slots=True)
class _Declared:
    """What ``dataset.json`` says.

    Attributes:
        channels: their names, in order.
        ending: of all files, with its dot.
        labels: the classes, or None when they cannot be read.
        cases: how many training cases there should be, or None when it does not say.
        listed: images and mask of each training case, as paths; None when the folders say so.
        patients: case to patient.
        attributes: case to attributes.
        ids: case to the id that it had before `medseg data convert` gave it a plain name.
    """

    channels: tuple[str, ...]
    ending: str
    labels: LabelMap | None
    cases: int | None
    listed: Object | None
    patients: Mapping[str, str]
    attributes: Mapping[str, Mapping[str, str]]
    ids: Mapping[str, str]


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    path = _declaration(root)
    if path is None:
        return None
    content = peek(path)
    if "channel_names" in content or "file_ending" in content:
        return f"{path.name} names the channels and labels of an nnU-Net dataset"
    others = {"modality", "training"} & content.keys()
    if path.name == FILE_NAME and not others and os.path.isdir(path.parent / "imagesTr"):
        return f"imagesTr/ beside a {FILE_NAME}, as in nnU-Net"
    return None


def read(root: Path) -> Dataset:
    """Pair images and masks by case; what is missing or left over becomes a problem.

    With several published folds, the cases that are not for testing have no split.

    Raises:
        DataError: no dataset.json, one without channels or file ending, or no usable case.
    """
    path = _declaration(root)
    if path is None:
        raise DataError(root, f"holds no {FILE_NAME}", f"Name the folder of an nnU-Net {FILE_NAME}")
    faults = Faults(path)
    declared = _read_declaration(faults, load_object(path))
    if declared.listed is None:
        subjects, named = _from_folders(path.parent, "Tr", declared, faults)
    else:
        subjects, named = _from_list(path.parent, declared.listed, declared, faults)
    tests, named_tests = _from_folders(path.parent, "Ts", declared, faults)
    _check_names(faults, declared, named, named_tests)
    tests = [subject for subject in tests if subject.id not in named]
    ids = {case: declared.ids.get(case, case) for case in (*named, *named_tests)}
    if len(set(ids.values())) < len(ids):
        faults.add("json-key", "'medseg.ids' gives two cases one id", "Use different ids")
        ids = dict(zip(ids, ids, strict=True))
    cases, members, wrong = expand_all(
        replace(
            subject,
            id=ids[subject.id],
            patient=declared.patients.get(subject.id) or None,
            attributes=declared.attributes.get(subject.id, {}),
        )
        for subject in (*subjects, *tests)
    )
    if not cases:
        raise nothing_usable(path, "no case can be used", [*faults.problems, *wrong])
    training = {subject.id: members[ids[subject.id]] for subject in subjects}
    folds, published = _read_folds(path.parent, named, training)
    reason = recognise(root) or ""
    if folds:
        reason += f"; {plural(len(folds), 'published fold')}"
        if len(folds) == 1:
            cases = [replace(case, split=folds[0].get(case.id, case.split)) for case in cases]
    problems = (*faults.problems, *published, *wrong)
    return Dataset(root, NAME, reason, tuple(cases), declared.labels, problems, folds)


def _declaration(root: Path) -> Path | None:
    """The dataset.json, whether the user named it or its folder."""
    if os.path.isfile(root):
        return root if root.suffix.lower() == ".json" else None
    path = root / FILE_NAME
    return path if os.path.isfile(path) else None


def _read_declaration(faults: Faults, content: Object) -> _Declared:
    """Check every key.

    Raises:
        DataError: without channels and a file ending nothing can be found.
    """
    # Datasets from nnU-Net's first version keep "modality", which the second accepts.
    key = "modality" if "modality" in content and "channel_names" not in content else None
    channels = _read_channels(faults, key or "channel_names", content)
    ending = content.get("file_ending")
    if not is_text(ending) or not str(ending).startswith(".") or "/" in str(ending):
        faults.key("file_ending", ending, "a suffix with its dot", 'Write e.g. ".nii.gz"')
    usable = not faults.problems
    labels = read_labels(faults, content.get("labels"))
    if labels is not None and sorted(labels.values) != list(range(len(labels.values))):
        found = f"the labels have the values {', '.join(map(str, sorted(labels.values)))}"
        faults.add("labels", found, "nnU-Net wants consecutive ones", warning=True)
    cases = content.get("numTraining")
    if cases is not None and not (is_whole(cases) and cases >= 0):
        faults.key("numTraining", cases, "a whole number", "Write how many cases imagesTr/ holds")
        cases = None
    order = content.get("regions_class_order", [])
    if not isinstance(order, list) or not all(is_whole(value) for value in order):
        faults.key("regions_class_order", order, "a list of whole numbers", "Correct it")
    listed = content.get("dataset")
    if listed is not None and not isinstance(listed, dict):
        remedy = 'Write {"CASE": {"images": [...], "label": ...}}, or remove it'
        faults.key("dataset", listed, "an object", remedy)
        listed = None
    patients, attributes, ids = _read_ours(faults, content.get("medseg", {}))
    if not usable:
        raise faults.raised()
    return _Declared(tuple(channels), str(ending), labels, cases, listed, patients, attributes, ids)


def _read_channels(faults: Faults, key: str, content: Object) -> list[str]:
    names = content.get(key)
    if not isinstance(names, dict) or not names:
        faults.key(key, names, "an object of channel numbers and names", _CHANNELS_REMEDY)
        return []
    numbers = [str(index) for index in range(len(names))]
    if set(names) != set(numbers) or not all(is_text(name) for name in names.values()):
        shown = first(f"{number}: {name}" for number, name in names.items())
        found = f"'{key}' holds {shown}; the numbers must be {first(numbers)}, each with a name"
        faults.add("json-key", found, _CHANNELS_REMEDY)
        return []
    return [str(names[number]).strip() for number in numbers]


def _read_ours(
    faults: Faults, ours: object
) -> tuple[Mapping[str, str], Mapping[str, Mapping[str, str]], Mapping[str, str]]:
    """Patients, attributes and ids, which `medseg data convert` adds as nnU-Net has no place for
    them."""
    if not isinstance(ours, dict):
        faults.key("medseg", ours, "an object", "Correct or remove it")
        return {}, {}, {}
    patients = read_table(faults, "medseg.patients", ours.get("patients", {}))
    ids = read_table(faults, "medseg.ids", ours.get("ids", {}))
    wrong = [case for case in ids.values() if not is_id(case)]
    if wrong:
        found = f"'medseg.ids' holds {first(map(show, wrong))}"
        faults.add("json-key", found, "Use text without a leading / and without ..")
        ids = {}
    given = ours.get("attributes", {})
    if not isinstance(given, dict):
        faults.key("medseg.attributes", given, "an object", "Correct or remove it")
        return patients, {}, ids
    attributes = {
        nfc(case): read_table(faults, f"medseg.attributes.{case}", table)
        for case, table in given.items()
    }
    return patients, attributes, ids


def _from_folders(
    root: Path, part: str, declared: _Declared, faults: Faults
) -> tuple[list[Subject], set[str]]:
    """The usable cases of imagesTr/ and labelsTr/, or of imagesTs/ and labelsTs/, and the names of
    all that have an image."""
    testing = part == "Ts"
    images, masks = root / f"images{part}", root / f"labels{part}"
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(declared.ending)}")
    channels: dict[str, dict[int, Path]] = defaultdict(dict)
    unused = []
    for file in _files(images):
        match = pattern.fullmatch(nfc(file.name))
        if match:
            channels[match[1]][int(match[2])] = file
        else:
            unused.append(file)
    if not channels and not testing:
        found = "does not exist" if not os.path.isdir(images) else "holds no image"
        remedy = f"It must hold files such as CASE_0000{declared.ending}"
        faults.problems.append(Problem("error", "no-images", str(images), found, remedy))
    labelled, spare = _masks(masks, declared.ending)
    whole = (
        declared.ending.lower() in _PICTURES
        and len(declared.channels) > 1
        and all(set(numbers) == {0} for numbers in channels.values())
    )
    names = declared.channels[:1] if whole else declared.channels
    subjects = []
    for case, numbers in sorted(channels.items()):
        unused += [file for number, file in numbers.items() if number >= len(names)]
        mask = labelled.pop(case, None)
        missing = [number for number in range(len(names)) if number not in numbers]
        for number in missing:
            absent = f"{case}_{number:04d}{declared.ending}"
            found = f"the case {case} has no channel {number:04d} ({declared.channels[number]})"
            problem = Problem("error", "missing-channel", str(images), found, f"Add {absent}")
            faults.problems.append(problem)
        if mask is None and not testing:
            found = f"the case {case} has no mask"
            remedy = f"Add {case}{declared.ending}, or move the image to imagesTs/"
            faults.problems.append(Problem("error", "missing-mask", str(masks), found, remedy))
        elif not missing:
            files = [numbers[number] for number in range(len(names))]
            split: Split | None = "test" if testing else None
            subjects.append(Subject(case, files, [mask] if mask else [], split=split))
    for case, file in sorted(labelled.items()):
        found = f"no image in {images.name}/ is called {case}_0000{declared.ending}"
        remedy = "Add the image or remove the mask"
        faults.problems.append(Problem("error", "mask-without-image", str(file), found, remedy))
    faults.problems += _unused(images, unused, channels, declared)
    faults.problems += _unused(masks, spare, channels, declared)
    bare = [subject.id for subject in subjects if not subject.masks]
    if 0 < len(bare) < len(subjects):
        found = f"{len(bare)} of {len(subjects)} images have no mask: {first(bare)}"
        remedy = f"They are not scored; add masks to {masks.name}/ if there should be any"
        faults.problems.append(Problem("warning", "unpaired-image", str(images), found, remedy))
    return subjects, set(channels)


def _masks(folder: Path, ending: str) -> tuple[dict[str, Path], list[Path]]:
    """Masks by case, and the files that are none."""
    found, spare = {}, []
    for file in _files(folder):
        name = nfc(file.name)
        if name.endswith(ending) and len(name) > len(ending):
            found[name[: -len(ending)]] = file
        else:
            spare.append(file)
    return found, spare


def _unused(
    folder: Path, files: list[Path], cases: Iterable[str], declared: _Declared
) -> list[Problem]:
    """Warn of files that belong to no case. ``CASE.json`` holds the spacing of a 3D TIFF."""
    spacings = {f"{case}.json" for case in cases}
    names = sorted(file.name for file in files if nfc(file.name) not in spacings)
    if not names:
        return []
    return [
        Problem(
            "warning",
            "extra-file",
            str(folder),
            f"{plural(len(names), 'file')} not used: {first(names)}",
            f"Files end in {declared.ending}, after _0000 to _{len(declared.channels) - 1:04d} in "
            f"images of {plural(len(declared.channels), 'channel')}",
        )
    ]


def _files(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [entry for entry in entries if not entry.name.startswith(".") and os.path.isfile(entry)]


def _from_list(
    root: Path, listed: Object, declared: _Declared, faults: Faults
) -> tuple[list[Subject], set[str]]:
    """The usable training cases that dataset.json lists under ``dataset``, and the names of all."""
    subjects = []
    for name, entry in listed.items():
        case, before = nfc(name), len(faults.problems)
        where = f"dataset, {name}"
        entry = entry if isinstance(entry, dict) else {}
        images, label = entry.get("images"), entry.get("label")
        if not is_id(case):
            faults.add("json-key", "is no name for a case", "Use the name of a file", where=where)
        if not isinstance(images, list) or not images or not all(map(is_text, images)):
            faults.key("images", images, "a list of files", "List its channels", where=where)
            images = []
        elif len(images) not in (1, len(declared.channels)):
            wanted = plural(len(declared.channels), "channel")
            found = f"lists {plural(len(images), 'file')} for {wanted}"
            faults.add("missing-channel", found, "List one file a channel", where=where)
        if not is_text(label):
            faults.key("label", label, "a file", "Name the mask", where=where)
        files = []
        for file in (*images, *([label] if is_text(label) else [])):
            found_file = find_file(root, os.path.expandvars(file))
            if found_file is None:
                remedy = f"Paths are relative to {root}"
                faults.add("missing-file", f"{file} does not exist", remedy, where=where)
            else:
                files.append(found_file)
        if len(faults.problems) == before:
            subjects.append(Subject(case, files[:-1], files[-1:]))
    return subjects, {nfc(name) for name in listed}


def _check_names(
    faults: Faults, declared: _Declared, named: set[str], named_tests: set[str]
) -> None:
    if declared.cases is not None and declared.cases != len(named):
        found = f"numTraining is {declared.cases}, but there are {plural(len(named), 'case')}"
        remedy = "Look whether files are missing, or correct the number"
        faults.add("case-count", found, remedy, warning=True)
    both = sorted(named & named_tests)
    if both:
        found = f"{plural(len(both), 'case')} for testing named like training cases: {first(both)}"
        faults.add("duplicate-case", found, "Rename or remove them in imagesTs/ and labelsTs/")
    known = named | named_tests
    for key, table in (("patients", declared.patients), ("attributes", declared.attributes)):
        unknown = [case for case in table if case not in known]
        if unknown:
            found = f"medseg.{key} names {plural(len(unknown), 'unknown case')}: {first(unknown)}"
            faults.add("unknown-case", found, "Correct or remove them", warning=True)


def _read_folds(
    root: Path, named: set[str], training: Mapping[str, list[str]]
) -> tuple[tuple[Mapping[str, Split], ...], list[Problem]]:
    """The published folds over the cases, and what is wrong with them (then there are none)."""
    path = root / SPLITS_FILE
    if not os.path.isfile(path) and root.parent.name == "nnUNet_raw":
        path = root.parent.parent / "nnUNet_preprocessed" / root.name / SPLITS_FILE
    if not os.path.isfile(path):
        return (), []
    faults = Faults(path)
    try:
        content = load_json(path)
    except DataError as error:
        return (), [Problem("error", "json-key", error.where, error.found, error.remedy)]
    remedy = 'It must be a list of {"train": [...], "val": [...]}'
    if not isinstance(content, list) or not content:
        faults.add("json-key", f"holds {'an empty list' if content == [] else 'no list'}", remedy)
        return (), faults.problems
    folds = []
    for number, fold in enumerate(content):
        parts: dict[str, Split] = {}
        for part in ("train", "val"):
            names = fold.get(part) if isinstance(fold, dict) else None
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                faults.key(part, names, "a list of cases", remedy, where=f"fold {number}")
                continue
            _place(faults, [nfc(name) for name in names], part, parts, number, named)
        left = sorted(training.keys() - parts.keys())
        if left and not faults.problems:
            found = f"{plural(len(left), 'case')} of imagesTr/ in neither part: {first(left)}"
            remedy = "List every case in train or val"
            faults.add("not-in-published-split", found, remedy, where=f"fold {number}")
        folds.append({case: parts[name] for name in parts for case in training.get(name, ())})
    return (() if faults.problems else tuple(folds)), faults.problems


def _place(
    faults: Faults,
    names: list[str],
    part: Split,
    parts: dict[str, Split],
    number: int,
    known: set[str],
) -> None:
    where = f"fold {number}"
    unknown = [name for name in names if name not in known]
    twice = [name for name in names if parts.get(name, part) != part]
    parts |= dict.fromkeys(names, part)
    if unknown:
        found = f"{plural(len(unknown), 'unknown case')}: {first(unknown)}"
        remedy = "Correct the names, or add the images and masks"
        faults.add("split-unknown-case", found, remedy, where=where)
    if twice:
        found = f"{plural(len(twice), 'case')} in both train and val: {first(twice)}"
        faults.add("case-in-two-splits", found, "List each case once", where=where)
