"""YOLO segmentation: a ``data.yaml`` with the names of the classes, and a text file of polygons for
each image.

``data.yaml`` (or another YAML file, when the user names it or it is the only one) has ``names``, a
list or an object of numbers and names, and for each part of the published split (``train``,
``val``, ``test``) a folder of images, a text file that lists them, or a list of either. They are
relative to ``path`` if that folder exists, else to the YAML file.

The polygons of ``.../images/train/a.jpg`` lie in ``.../labels/train/a.txt``, one object a line:
the number of its class and ``x1 y1 x2 y2 ...`` as shares of the width and the height. An image
without such a file shows no object; a part without a single one is unlabelled. Where objects
overlap the smaller lies on top. (Ultralytics, "Instance Segmentation Datasets".)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.data.case import SPLITS, Case, Dataset, LabelMap, Problem, Split
from medseg.data.expand import Subject
from medseg.data.io import is_image_file, stem
from medseg.data.layouts.declared import (
    Faults,
    Object,
    as_text,
    find_file,
    first,
    nothing_usable,
    printable,
    safe_id,
    show,
)
from medseg.data.layouts.names import nfc
from medseg.data.layouts.outlines import label_map, leaves, with_mask, wrong_corners
from medseg.data.layouts.pairs import entries, image_files
from medseg.data.layouts.tables import read_lines
from medseg.data.shapes import Polygons, Shapes
from medseg.errors import DataError, plural

NAME = "yolo"
DECLARED = True

_SUFFIXES = (".yaml", ".yml")
_LARGEST_YAML = 1_000_000
_BOX = 5
# A corner may be off by rounding; beyond twice the image, coordinates are pixels.
_SLACK = 0.01
_FARTHEST = 2.0


@dataclass(frozen=True, slots=True)
class _Picture:
    """An image of a part, the name of its case and where its polygons should be."""

    file: Path
    case: str
    labels: Path


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    files = _files(root)
    if not files:
        return None
    if len(files) > 1:
        return f"{first(path.name for path in files)} describe YOLO datasets"
    parts = [split for split in SPLITS if _load(files[0]).get(split)]
    return f"{files[0].name} names classes and images (YOLO): {', '.join(parts)}"


def read(root: Path) -> Dataset:
    """List the images; files and lines that cannot be used become error problems.

    Raises:
        DataError: no such file, several, no names of classes, or no usable image.
    """
    files = _files(root)
    if not files:
        raise DataError(
            root,
            "is not a YAML file with names and train, or a folder with one",
            'Write a data.yaml, e.g. "train: images/train", "val: images/val", "names: [polyp]"',
        )
    if len(files) > 1:
        raise DataError(
            root,
            f"holds several YAML files of datasets: {first(path.name for path in files)}",
            "Name one of them",
        )
    content, faults = _load(files[0]), Faults(files[0])
    labels, values = _classes(faults, content)
    home = _home(files[0], content)
    parts = {split: content[split] for split in SPLITS if content.get(split)}
    cases: list[Case] = []
    problems: list[Problem] = []
    for split, entry in parts.items():
        pictures = _pictures(faults, home, split, entry)
        found, wrong = _part(faults, split, pictures, values, alone=len(parts) == 1)
        cases += found
        problems += wrong
    problems = [*faults.problems, *problems]
    if not cases:
        raise nothing_usable(files[0], "names no image that can be used", problems)
    cases.sort(key=lambda case: case.id)
    return Dataset(root, NAME, recognise(root) or "", tuple(cases), labels, tuple(problems))


def _part(
    faults: Faults,
    split: Split,
    pictures: Sequence[_Picture],
    values: Mapping[int, int],
    *,
    alone: bool,
) -> tuple[list[Case], list[Problem]]:
    """The cases of a part, whose name is left out when it is the only one."""
    is_labelled = any(picture.labels.is_file() for picture in pictures)
    if pictures and not is_labelled:
        found = f"none of its {plural(len(pictures), 'image')} has a file such as "
        remedy = "They are used as unlabelled images; add the files if there should be any"
        example = str(pictures[0].labels)
        faults.add("unpaired-image", found + example, remedy, where=split, warning=True)
    cases: list[Case] = []
    problems: list[Problem] = []
    seen: dict[str | Path, Path] = {}
    for picture in pictures:
        other = seen.get(picture.file) or seen.get(picture.case)
        seen |= {picture.file: picture.file, picture.case: picture.file}
        if other is not None:
            found = f"{picture.file} has the name of {other}"
            found = found if other != picture.file else f"{other} is listed twice"
            faults.add("duplicate-row", found, "Keep one image of each name", where=split)
            continue
        subject = Subject(
            picture.case if alone else f"{split}/{picture.case}",
            [picture.file],
            split=None if alone else split,
        )
        mask = _mask(problems, picture, values) if is_labelled else None
        expanded, wrong = with_mask(subject, mask)
        cases += expanded
        problems += wrong
    return cases, problems


def _files(root: Path) -> list[Path]:
    """The YAML files that are ``root`` or lie in it and describe a dataset."""
    candidates = [root] if root.is_file() else entries(root)
    found = [path for path in candidates if path.suffix.lower() in _SUFFIXES]
    found = [path for path in found if _is_dataset(_load(path))]
    return [path for path in found if path.name == "data.yaml"] or found


def _is_dataset(content: Object) -> bool:
    """Whether YAML describes a dataset; Ultralytics' semantic sets have masks, not polygons."""
    has_images = any(content.get(split) for split in SPLITS)
    return has_images and "names" in content and "masks_dir" not in content


def _load(path: Path) -> Object:
    """The object in a YAML file; empty when it holds anything else."""
    import yaml

    try:
        if path.stat().st_size > _LARGEST_YAML:
            return {}
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, ValueError, TypeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _classes(faults: Faults, content: Object) -> tuple[LabelMap, Mapping[int, int]]:
    """The classes, and the value of each number.

    Raises:
        DataError: ``names`` is not what it should be.
    """
    names = content["names"]
    numbered = dict(enumerate(names)) if isinstance(names, list) else names
    remedy = 'Write "names: [polyp, vessel]" or a name for each number from 0 on'
    if not isinstance(numbered, dict):
        faults.key("names", _plain(names), "a list of names", remedy)
        raise faults.raised()
    classes: dict[int, str] = {}
    for number, name in numbered.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            faults.key("names", _plain(number), "the number of a class", remedy)
        elif isinstance(name, bool) or not isinstance(name, str | int) or not as_text(name):
            found = f"{show(_plain(name))} (names such as no and on need quotes)"
            faults.add("json-key", f"the name of class {show(number)} is {found}", remedy)
        else:
            classes[number] = as_text(name)
    count = content.get("nc", len(numbered))
    if count != len(numbered):
        found = f"'nc' is {show(_plain(count))}, but there are {plural(len(numbered), 'name')}"
        faults.add("json-key", found, "Correct the one or the other")
    labels, values, wrong = label_map([classes[number] for number in sorted(classes)])
    if labels is None:
        faults.add("labels", wrong, remedy)
        raise faults.raised()
    return labels, dict(zip(sorted(classes), values, strict=True))


def _home(file: Path, content: Object) -> Path:
    """The folder that the parts are relative to."""
    path = content.get("path")
    home = os.path.join(file.parent, path) if isinstance(path, str) else ""
    return Path(home) if home and os.path.isdir(home) else file.parent


def _pictures(faults: Faults, home: Path, split: Split, entry: object) -> list[_Picture]:
    """The images of a part."""
    found: list[_Picture] = []
    for name in entry if isinstance(entry, list) else [entry]:
        if not isinstance(name, str) or not name.strip():
            faults.key(split, _plain(name), "a folder or a text file", "Name where its images lie")
            continue
        path = _resolve(faults.file.parent, home, name)
        if path is None:
            remedy = f"Paths are relative to {home}"
            faults.add("missing-file", f"'{split}' is {name}, which does not exist", remedy)
        elif path.is_dir():
            files = list(image_files(path))
            if not files:
                faults.add("missing-file", f"'{split}' is {path}, which holds no image", "Add some")
            for file in files:
                case = nfc(stem(file.relative_to(path).as_posix()))
                found.append(_Picture(file, case, _labels_of(file, home)))
        elif is_image_file(path):
            found.append(_Picture(path, safe_id(name), _labels_of(path, home)))
        else:
            found += _listed(faults, home, path)
    return found


def _resolve(folder: Path, home: Path, name: str) -> Path | None:
    """The folder or file of a part. Roboflow writes ``../train/images`` for ``train/images``."""
    spelling = name.strip().replace("\\", "/")
    tried = [
        os.path.join(home, spelling),
        os.path.join(folder, spelling),
        os.path.join(folder, spelling.removeprefix("../")),
    ]
    return next((Path(path) for path in tried if os.path.exists(path)), None)


def _listed(faults: Faults, home: Path, path: Path) -> Iterator[_Picture]:
    """The images that a text file lists."""
    try:
        lines = list(read_lines(path))
    except DataError as error:
        faults.problems.append(
            Problem("error", "missing-file", error.where, error.found, error.remedy)
        )
        return
    for number, name in lines:
        file = find_file(path.parent, name) or find_file(home, name)
        if file is None:
            found = f"line {number}: the image {name} does not exist"
            remedy = f"Paths are relative to {home}"
            faults.problems.append(
                Problem("error", "missing-file", str(path), printable(found), remedy)
            )
        else:
            yield _Picture(file, safe_id(name), _labels_of(file, home))


def _labels_of(image: Path, home: Path) -> Path:
    """The text file of an image: the last folder ``images`` becomes ``labels``."""
    parts = list(image.parts)
    start = len(home.parts) if image.is_relative_to(home) else 0
    places = [index for index in range(start, len(parts) - 1) if parts[index] == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_name(f"{stem(image.name)}.txt")


def _mask(problems: list[Problem], picture: _Picture, values: Mapping[int, int]) -> Shapes:
    if not picture.labels.is_file():
        return Shapes(picture.file, (), None, picture.file)
    faults = Faults(picture.labels)
    objects = tuple(_objects(faults, values))
    problems += faults.problems
    return Shapes(picture.labels, objects, None, picture.file)


def _objects(faults: Faults, values: Mapping[int, int]) -> Iterator[Polygons]:
    """The objects of a text file; lines that hold none are noted."""
    try:
        lines = list(read_lines(faults.file))
    except DataError as error:
        faults.add("annotation", error.found, error.remedy)
        return
    boxes, outside = [], []
    for number, line in lines:
        fields = line.split()
        corners = _numbers(fields[1:])
        if len(fields) == _BOX:
            boxes.append(f"line {number}")
        elif not re.fullmatch(r"\d{1,9}", fields[0]) or int(fields[0]) not in values:
            found = f"line {number}: '{printable(fields[0][:40])}' is not the number of a class"
            faults.add("annotation", found, f"Numbers are {_range(values)}")
        elif wrong := wrong_corners(corners):
            remedy = "Write the class and x1 y1 x2 y2 x3 y3 ..., shares of the width and height"
            faults.add("annotation", f"line {number}: {wrong}", remedy)
        elif leaves(corners, 1, 1, slack=_FARTHEST - 1):
            found = f"line {number}: coordinates go from {min(corners):g} to {max(corners):g}"
            faults.add("annotation", found, "Divide x by the image's width and y by its height")
        else:
            outside += [f"line {number}"] if leaves(corners, 1, 1, slack=_SLACK) else []
            yield Polygons.of(values[int(fields[0])], [corners])
    if boxes:
        found = f"holds boxes (5 numbers a line) instead of polygons: {first(boxes)}"
        faults.add("annotation", found, "Outline the objects: a box says too little to learn from")
    if outside:
        found = f"objects reach beyond the image: {first(outside)}"
        remedy = "What is outside is cut off; check that the image was not resized"
        faults.add("outside-image", found, remedy, warning=True)


def _plain(value: object) -> object:
    """A value of YAML as JSON could hold it: dates and the like become text."""
    is_plain = value is None or isinstance(value, str | int | float | list | dict)
    return value if is_plain else str(value)


def _numbers(fields: Sequence[str]) -> list[Any]:
    """The numbers of a line; a field that is none stays text."""
    try:
        return [float(each) for each in fields]
    except ValueError:
        return list(fields)


def _range(values: Mapping[int, int]) -> str:
    return f"{min(values)} to {max(values)}" if len(values) > 1 else f"{min(values)} only"
