"""Folders of images and masks whose file names say which belong together.

Understood, names in any case:

- ``images/`` and ``masks/`` (or another of ``IMAGE_FOLDERS`` and ``MASK_FOLDERS``), with nested
  folders if both sides have them, and a folder of fields of view (``VIEW_FOLDERS``);
- ``masks/0/``, ``masks/1/`` ...: a folder for each class, from 1 on;
- ``train/``, ``val/``, ``test/``, each holding such a pair: a published split. Beside top-level
  ``images/`` and ``masks/``, which are then the training part, ``test/`` alone is enough. A part
  may hold several sets, each with its pair, as PraNet's ``TestDataset/`` does;
- the folders of ISIC 2016 to 2018 under their published names;
- images and masks together in one folder, the masks named like the image plus one of
  ``MASK_SUFFIXES``;
- in the root, ``train.txt``, ``val.txt``, ``test.txt``: a published split, one case a line; and
  ``patients.csv``: the patient of each case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medseg.data.case import SPLITS, Dataset, Label, LabelMap, Problem, Split
from medseg.data.expand import Subject
from medseg.data.layouts.declared import expand_all
from medseg.data.layouts.names import SPLIT_NAMES, labels_beside, nfc
from medseg.data.layouts.pairs import (
    MASK_SUFFIXES,
    Part,
    class_folders,
    entries,
    has_pair_together,
    image_files,
    pair,
    shorten,
)
from medseg.data.layouts.tables import with_patients, with_split_files
from medseg.errors import DataError

__all__ = ["DECLARED", "IMAGE_FOLDERS", "MASK_FOLDERS", "MASK_SUFFIXES", "read", "recognise"]

NAME = "folders"
DECLARED = False
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "original", "input", "img_dir", "volumes")
# DRIVE and HRF have both vessels and mask/ (field of view), so the rarer names come first.
_VESSEL_FOLDERS = ("1st_manual", "manual1")
MASK_FOLDERS = (
    *_VESSEL_FOLDERS,
    "masks",
    "mask",
    "ground truth",
    "groundtruth",
    "gt",
    "annotations",
    "labels",
    "label",
    "ann_dir",
)
VIEW_FOLDERS = ("fov", "field_of_view")
_SETS = "testdataset"
_PART_NAMES: dict[str, Split] = {**SPLIT_NAMES, "traindataset": "train", _SETS: "test"}

_ISIC_IMAGES = re.compile(
    r"(isbi2016_isic_part1|isic-2017|isic2018_task1-2)_(training|validation|test)(_v\d)?"
    r"_(data|input)"
)
_ISIC_MASKS = re.compile(
    r"(isbi2016_isic_part1|isic-2017|isic2018_task1)_(training|validation|test)(_v\d)?"
    r"(_part1)?_groundtruth"
)


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    parts = _parts(root)
    if not parts:
        return None
    first = parts[0]
    if first.images == first.masks:
        told = f"masks beside their images in {first.images.name}/, told apart by suffix"
    else:
        told = f"{_below(root, first.images)}/ with images and {_below(root, first.masks)}/ with "
        classes = class_folders(first)
        told += f"a folder of masks for each of {len(classes)} classes" if classes else "masks"
    if first.views is not None:
        told += f"; field of view in {_below(root, first.views)}/"
    splits = dict.fromkeys(part.split for part in parts if part.split is not None)
    if splits:
        told += f"; published split: {', '.join(splits)}"
    sets = [part.attributes["set"] for part in parts if "set" in part.attributes]
    return f"{told}; sets: {', '.join(sets)}" if sets else told


def read(root: Path) -> Dataset:
    """Pair images with masks by name.

    Images without a mask stay as unlabelled cases. Masks without an image and stems that occur
    twice are error problems.

    Raises:
        DataError: no such folders, or not a single pair.
    """
    reason = recognise(root)
    parts = _parts(root)
    if reason is None:
        raise DataError(
            root,
            "holds no image folder with a mask folder beside it",
            f"Image folders may be called {', '.join(IMAGE_FOLDERS)}; mask folders "
            f"{', '.join(MASK_FOLDERS)}",
        )
    subjects: list[Subject] = []
    problems: list[Problem] = []
    for part in parts:
        problems += _spare_mask_folders(part)
        found, wrong = pair(part)
        subjects += found
        problems += wrong
    if not any(subject.masks for subject in subjects):
        raise _no_pairs(root, parts)
    subjects, wrong = with_patients(root, _with_split_folders(subjects))
    problems += wrong
    subjects, wrong = with_split_files(root, subjects)
    problems += wrong + _unlabelled(root, subjects)
    cases, _, wrong = expand_all(subjects)
    labels = labels_beside(root) or _labels(parts)
    return Dataset(root, NAME, reason, tuple(cases), labels, (*problems, *wrong))


def _parts(root: Path) -> list[Part]:
    """The pairs of folders below ``root``, those of a published split in its order."""
    if not root.is_dir():
        return []
    found = _isic_parts(root)
    if found:
        return found
    folders = {
        _PART_NAMES[entry.name.lower()]: entry
        for entry in entries(root)
        if entry.name.lower() in _PART_NAMES and entry.is_dir()
    }
    for split in SPLITS:
        if split in folders:
            found += _part(folders[split], f"{nfc(folders[split].name)}/", split)
    whole = _pair_of_folders(root)
    if whole is not None:
        found.insert(0, replace(whole, split="train" if found else None))
    if not found and root.resolve().name.lower() == _SETS:
        found = _sets(root)
    if not found and has_pair_together(root):
        found = [Part(root, root)]
    return found


def _part(folder: Path, prefix: str, split: Split) -> list[Part]:
    """The pair, or else the sets, of one part of a published split."""
    inside = _pair_of_folders(folder)
    found = [inside] if inside is not None else _sets(folder)
    return [replace(part, prefix=prefix + part.prefix, split=split) for part in found]


def _sets(folder: Path) -> list[Part]:
    """The subfolders that hold a pair each."""
    return [
        replace(part, prefix=f"{nfc(entry.name)}/", attributes={"set": nfc(entry.name)})
        for entry in entries(folder)
        if entry.is_dir() and (part := _pair_of_folders(entry)) is not None
    ]


def _isic_parts(root: Path) -> list[Part]:
    """The training, validation and test folders of ISIC's segmentation tasks."""
    images: dict[tuple[str, str], Path] = {}
    masks: dict[tuple[str, str], Path] = {}
    for entry in entries(root):
        for pattern, folders in ((_ISIC_IMAGES, images), (_ISIC_MASKS, masks)):
            match = pattern.fullmatch(entry.name.lower())
            if match is not None and entry.is_dir():
                # Archives unpacked into a folder of their own name hold it once more.
                twice = entry / entry.name
                year = match[1].removesuffix("-2")
                folders[year, match[2]] = twice if twice.is_dir() else entry
    found = {key: Part(images[key], masks[key]) for key in images if key in masks}
    return [
        replace(
            found[key],
            prefix=f"{nfc(found[key].images.name)}/",
            split=SPLIT_NAMES[key[1]] if len(found) > 1 else None,
        )
        for key in sorted(found, key=lambda key: (key[0], SPLITS.index(SPLIT_NAMES[key[1]])))
    ]


def _pair_of_folders(folder: Path) -> Part | None:
    images = _subfolders(folder, IMAGE_FOLDERS)
    masks = _subfolders(folder, MASK_FOLDERS)
    if not images or not masks:
        return None
    views = _subfolders(folder, VIEW_FOLDERS)
    if masks[0].name.lower() in _VESSEL_FOLDERS:
        views += _subfolders(folder, ("mask",))
    return Part(images[0], masks[0], views=views[0] if views else None)


def _subfolders(folder: Path, names: Sequence[str]) -> list[Path]:
    """The subfolders with these names that hold an image, in the order of ``names``."""
    by_name = {
        entry.name.lower(): entry
        for entry in entries(folder)
        if entry.name.lower() in names and entry.is_dir()
    }
    named = [by_name[name] for name in names if name in by_name]
    return [entry for entry in named if next(image_files(entry), None) is not None]


def _labels(parts: list[Part]) -> LabelMap | None:
    """The classes of folders that hold one each, or None when masks must be looked at."""
    count = max(len(class_folders(part)) for part in parts)
    if count < 2:
        return None
    classes = [Label(f"class_{value}", value) for value in range(1, count + 1)]
    return LabelMap((Label("background", 0), *classes))


def _spare_mask_folders(part: Part) -> list[Problem]:
    """Warn when a second folder could have been meant."""
    if part.images == part.masks:
        return []
    spare = [
        folder.name
        for folder in _subfolders(part.masks.parent, MASK_FOLDERS)
        if folder not in (part.masks, part.views)
    ]
    if not spare:
        return []
    return [
        Problem(
            "warning",
            "several-mask-folders",
            str(part.masks),
            f"is read as the masks; {', '.join(spare)} could be masks, too, and is ignored",
            "Rename the folder that is not meant, or list the files in a manifest.csv",
        )
    ]


def _no_pairs(root: Path, parts: list[Part]) -> DataError:
    images = [file.name for part in parts for file in image_files(part.images)][:2]
    masks = [file.name for part in parts for file in image_files(part.masks)][:2]
    return DataError(
        root,
        f"no image has a mask of the same name: images such as {', '.join(images)}; masks such as "
        f"{', '.join(masks)}",
        f"Give masks the name of their image, optionally with {', '.join(MASK_SUFFIXES)}, or list "
        f"the pairs in a manifest.csv",
    )


def _unlabelled(root: Path, subjects: list[Subject]) -> list[Problem]:
    names = [subject.id for subject in subjects if not subject.masks]
    if not names:
        return []
    return [
        Problem(
            "warning",
            "unpaired-image",
            str(root),
            f"{len(names)} of {len(subjects)} images have no mask: {shorten(names)}",
            "They are not used for supervised training; add masks if there should be any",
        )
    ]


def _with_split_folders(subjects: list[Subject]) -> list[Subject]:
    """Read ``images/train/0001.png`` as a published split when every case lies in such a folder."""
    tops = [SPLIT_NAMES.get(each.id.split("/")[0].lower()) for each in subjects if "/" in each.id]
    if len(tops) < len(subjects) or None in tops or any(each.split for each in subjects):
        return subjects
    return [replace(each, split=top) for each, top in zip(subjects, tops, strict=True)]


def _below(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()
