"""COCO's instance annotations: a JSON file with ``images``, ``annotations`` and ``categories``.

The JSON is named by the user, or lies in ``annotations/`` (``instances_*.json``), in the parts of
a Roboflow export (``train/_annotations.coco.json`` ...) or in the folder itself. Files for several
of train, val and test are a published split. Images are looked for beside the JSON and its
``annotations/`` folder, there also in ``train2017/`` (as the JSON's name ends), ``images/`` and
``data/``.

The objects of an image become one mask: a category is a class, in the order of their ids, and
where objects overlap the smaller lies on top (crowds, being large, lie below). An image without
annotations is a labelled, empty case. A category called ``background`` is class 0; one that only
serves as another's ``supercategory`` is no class.

Optional keys of an image: ``patient`` (or ``patient_id``) and ``split``; other text and numbers
are attributes. (T.-Y. Lin et al., Microsoft COCO, 2014, arXiv:1405.0312; "Data format" on
cocodataset.org.)
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.data.case import Case, Dataset, LabelMap, Problem, Split
from medseg.data.expand import Subject
from medseg.data.io import image_size
from medseg.data.layouts.declared import (
    Faults,
    Object,
    as_text,
    find_file,
    first,
    is_whole,
    load_object,
    nothing_usable,
    printable,
    safe_id,
    show,
)
from medseg.data.layouts.names import SPLIT_NAMES
from medseg.data.layouts.outlines import label_map, leaves, with_mask, wrong_corners
from medseg.data.layouts.pairs import entries
from medseg.data.shapes import Polygons, Runs, Shapes, parse_counts
from medseg.errors import DataError

NAME = "coco"
DECLARED = True

# How much of a file's beginning and end is looked at: files may have hundreds of megabytes.
_LOOK = 65_536
_MANY_FILES = 20
_KEYS = re.compile(rb'"(images|annotations|categories|file_name|image_id)"\s*:')
_STANDARD = frozenset(
    {"id", "file_name", "width", "height", "license", "flickr_url", "coco_url", "date_captured"}
)
_OWN = frozenset({"patient", "patient_id", "split"})
_LONGEST_SIDE = 1_000_000
# Tools differ by up to a pixel in where an image ends.
_SLACK = 1.0

_Id = int | str


@dataclass(frozen=True, slots=True)
class _Image:
    """One usable entry of ``images``."""

    id: _Id
    file: Path
    case: str
    size: tuple[int, int]
    entry: Object


@dataclass
class _Document:
    """One JSON file.

    Attributes:
        faults: what is wrong with it.
        split: the published part that it holds, or None.
        content: as it was read.
        images: its usable images.
        objects: of each image.
    """

    faults: Faults
    split: Split | None
    content: Object
    images: dict[_Id, _Image] = field(default_factory=dict)
    objects: dict[_Id, list[Polygons | Runs]] = field(default_factory=lambda: defaultdict(list))

    @property
    def file(self) -> Path:
        return self.faults.file

    @property
    def is_labelled(self) -> bool:
        """COCO publishes the images of its test part without the key ``annotations``."""
        return "annotations" in self.content


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    files = _files(root)
    if not files:
        return None
    parts = _splits(files)
    names = ", ".join(_below(root, path) for path in files)
    told = f"{names} {'outlines' if len(files) == 1 else 'outline'} objects (COCO)"
    return told if parts is None else f"{told}; published split: {', '.join(map(str, parts))}"


def read(root: Path) -> Dataset:
    """List the images; entries that cannot be used become error problems.

    Raises:
        DataError: no such file, not JSON, several files that are no split, or no usable image.
    """
    files = _files(root) or ([root] if root.is_file() else [])
    if not files:
        raise DataError(
            root,
            "is not a COCO file or a folder with one",
            "Name the JSON file, or put it into annotations/",
        )
    parts = _splits(files) if len(files) > 1 else {None: files[0]}
    if parts is None:
        raise DataError(
            root,
            f"holds several COCO files: {first(_below(root, path) for path in files)}",
            "Name one of them, or name them after the parts of a split, e.g. instances_train.json",
        )
    documents = [_Document(Faults(path), split, load_object(path)) for split, path in parts.items()]
    labels, values = _classes(documents)
    for document in documents:
        _read_images(document)
        _read_objects(document, values)
    cases: list[Case] = []
    problems: list[Problem] = []
    for document in documents:
        found, wrong = _cases(document, _prefix(document, documents))
        cases += found
        problems += document.faults.problems + wrong
    if not cases:
        listed = sum(len(_list(document.content.get("images"))) for document in documents)
        raise nothing_usable(files[0], f"none of its {listed} images can be used", problems)
    cases.sort(key=lambda case: case.id)
    return Dataset(root, NAME, recognise(root) or "", tuple(cases), labels, tuple(problems))


def _files(root: Path) -> list[Path]:
    """The COCO files that are ``root`` or belong to it."""
    if not root.is_dir():
        return [root] if _is_coco(root) else []
    annotated = [path for path in _json_files(root / "annotations") if _is_coco(path)]
    instances = [path for path in annotated if path.name.lower().startswith("instances")]
    parts = [
        entry / "_annotations.coco.json"
        for entry in entries(root)
        if entry.name.lower() in SPLIT_NAMES
    ]
    beside = _json_files(root)
    return (
        instances
        or annotated
        or [path for path in parts if _is_coco(path)]
        or [path for path in beside[:_MANY_FILES] if _is_coco(path)]
    )


def _json_files(folder: Path) -> list[Path]:
    found = [path for path in entries(folder) if path.suffix.lower() == ".json"]
    return [path for path in found if not path.name.startswith(".")]


def _is_coco(path: Path) -> bool:
    """Whether a JSON file looks like COCO's, by the keys at its beginning and its end."""
    if path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as file:
            text = file.read(_LOOK)
            if os.fstat(file.fileno()).st_size > _LOOK:
                file.seek(-_LOOK, os.SEEK_END)
                text += file.read()
    except OSError:
        return False
    return len(set(_KEYS.findall(text))) >= 2


def _splits(files: Sequence[Path]) -> Mapping[Split | None, Path] | None:
    """The part of a published split that each of several files holds, or None without a split."""
    parts: dict[Split | None, Path] = {}
    for path in files:
        words = [*re.findall("[a-z]+", path.stem.lower()), path.parent.name.lower()]
        split = next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
        if split is None or split in parts:
            return None
        parts[split] = path
    return parts if len(parts) > 1 else None


def _classes(documents: Sequence[_Document]) -> tuple[LabelMap | None, dict[int, int]]:
    """The classes of all files, and the value of each category's id.

    Raises:
        DataError: there are categories, but none can be used.
    """
    names: dict[int, str] = {}
    parents = set()
    for document in documents:
        faults, content = document.faults, document.content
        if "categories" not in content and not document.is_labelled:
            continue
        categories = content.get("categories")
        if not isinstance(categories, list):
            remedy = "List the classes, each with id and name"
            faults.key("categories", categories, "a list", remedy)
        for index, category in enumerate(_list(categories)):
            where = f"category {index + 1}"
            if not isinstance(category, dict):
                faults.key("categories", category, "an object", "Give it id and name", where=where)
                continue
            key, name, parent = map(category.get, ("id", "name", "supercategory"))
            if not isinstance(key, int) or isinstance(key, bool):
                faults.key("id", key, "a whole number", "Number the categories", where=where)
            elif not isinstance(name, str) or not name.strip():
                faults.key("name", name, "text", "Name the category", where=where)
            elif names.setdefault(key, printable(name.strip())) != printable(name.strip()):
                found = f"the id {show(key)} stands for '{names[key]}' and '{printable(name)}'"
                faults.add("category", found, "Give each category an id of its own", where=where)
            elif isinstance(parent, str) and parent != name:
                parents.add(printable(parent.strip()))
    used = {
        annotation["category_id"]
        for document in documents
        for annotation in _list(document.content.get("annotations"))
        if isinstance(annotation, dict) and is_whole(annotation.get("category_id"))
    }
    kept = {key: names[key] for key in sorted(names) if key in used or names[key] not in parents}
    if not kept and not any(document.is_labelled for document in documents):
        return None, {}
    labels, values, wrong = label_map(list(kept.values()))
    if labels is None:
        faults = documents[0].faults
        faults.add("category", wrong, "Give every class an id and a name of its own")
        raise faults.raised()
    # A category that is no class has no objects either, so that its value is never used.
    return labels, {**dict.fromkeys(names, 0), **dict(zip(kept, values, strict=True))}


def _read_images(document: _Document) -> None:
    faults = document.faults
    listed = document.content.get("images")
    if not isinstance(listed, list):
        faults.key("images", listed, "a list", "List the images, each with id and file_name")
    folders = _image_folders(document.file)
    cases: dict[str, _Id] = {}
    for index, entry in enumerate(_list(listed)):
        where = f"image {index + 1}"
        if not isinstance(entry, dict):
            faults.key("images", entry, "an object", "Write id and file_name", where=where)
            continue
        key, name = _id(entry.get("id")), entry.get("file_name")
        if key is None:
            faults.key("id", entry.get("id"), "a whole number", "Number the images", where=where)
            continue
        where = f"image {show(key)}"
        if not isinstance(name, str) or not name.strip():
            faults.key("file_name", name, "text", "Name the image's file", where=where)
        elif key in document.images:
            faults.add("duplicate-id", "its id is another's, too", "Number the images", where=where)
        elif (case := safe_id(name)) in cases:
            found = f"{name} is also image {show(cases[case])}"
            faults.add("duplicate-row", found, "List each image once", where=where)
        elif (path := _find(folders, name)) is None:
            faults.add(
                "missing-file",
                f"the image {name} does not exist",
                f"It is looked for in {first(map(str, folders), 8)}",
                where=where,
            )
        elif (size := _size(faults, entry, path, where)) is not None:
            cases[case] = key
            document.images[key] = _Image(key, path, case, size, entry)


def _image_folders(file: Path) -> list[Path]:
    """Where images may lie, the most particular first."""
    part = file.stem.rpartition("_")[2]
    homes = [file.parent]
    if file.parent.name.lower() == "annotations":
        homes.insert(0, file.parent.parent)
    folders = [
        folder
        for home in homes
        for folder in (
            home / part,
            home / "images" / part,
            home,
            home / "images",
            home / "data",
        )
    ]
    return [folder for folder in folders if folder.is_dir()]


def _find(folders: Sequence[Path], name: str) -> Path | None:
    spelling = name.replace("\\", "/")
    for folder in folders:
        if os.path.isfile(os.path.join(folder, spelling)):
            return folder / spelling
    return next((path for folder in folders if (path := find_file(folder, name))), None)


def _size(faults: Faults, entry: Object, path: Path, where: str) -> tuple[int, int] | None:
    """(height, width) as declared, or else as the image's header says."""
    if "height" not in entry and "width" not in entry:
        try:
            return image_size(path)
        except DataError as error:
            faults.add("unreadable-image", f"{path}: {error.found}", error.remedy, where=where)
            return None
    size = entry.get("height"), entry.get("width")
    for key, value in zip(("height", "width"), size, strict=True):
        if not is_whole(value) or not 1 <= value <= _LONGEST_SIDE:  # type: ignore[operator]
            faults.key(key, value, "a size in pixels", "Correct it or remove both", where=where)
            return None
    return size  # type: ignore[return-value]


def _read_objects(document: _Document, values: Mapping[int, int]) -> None:
    faults = document.faults
    annotations = document.content.get("annotations", [])
    if not isinstance(annotations, list):
        faults.key("annotations", annotations, "a list", "List the objects")
    known = {
        _id(entry.get("id"))
        for entry in _list(document.content.get("images"))
        if isinstance(entry, dict)
    }
    ids: Counter[_Id] = Counter()
    outside: list[str] = []
    for index, annotation in enumerate(_list(annotations)):
        where = f"annotation {index + 1} of the list"
        if not isinstance(annotation, dict):
            faults.key("annotations", annotation, "an object", "Correct it", where=where)
            continue
        key, image_id, category = map(_id, map(annotation.get, ("id", "image_id", "category_id")))
        if key is not None:
            ids[key] += 1
            where = f"annotation {show(key)}"
        if image_id is None or image_id not in known:
            found = f"its image_id {show(annotation.get('image_id'))} is no image's"
            faults.add("annotation", found, "Correct it or remove the annotation", where=where)
            continue
        if not isinstance(category, int) or category not in values:
            found = f"its category_id {show(annotation.get('category_id'))} is no category's"
            faults.add("annotation", found, "Add the category, or correct the number", where=where)
            continue
        image = document.images.get(image_id)
        if image is None:
            continue
        outline = _outline(annotation.get("segmentation"), values[category], image.size)
        if isinstance(outline, str):
            remedy = "Outline the object with polygons or RLE, or remove the annotation"
            faults.add("annotation", outline, remedy, where=where)
            continue
        document.objects[image_id].append(outline)
        if isinstance(outline, Polygons) and any(
            leaves(ring, *image.size, slack=_SLACK) for ring in annotation["segmentation"]
        ):
            outside.append(where)
    repeated = [show(key) for key, count in ids.items() if count > 1]
    if repeated:
        found = f"{len(repeated)} ids stand for several annotations: {first(repeated)}"
        faults.add("duplicate-id", found, "Check that none was merged twice", warning=True)
    if outside:
        found = f"objects reach beyond their image ({len(outside)} of {len(_list(annotations))})"
        remedy = "What is outside is cut off; check that the images were not resized or turned"
        faults.add("outside-image", f"{found}: {first(outside)}", remedy, warning=True)


def _outline(segmentation: object, value: int, size: tuple[int, int]) -> Polygons | Runs | str:
    """The object of a ``segmentation``, or what is wrong with it."""
    if isinstance(segmentation, list) and segmentation:
        for ring in segmentation:
            if not isinstance(ring, list):
                return f"its segmentation is a list of {show(ring)}, not of polygons [x1, y1, ...]"
            if wrong := wrong_corners(ring):
                return wrong
        return Polygons.of(value, segmentation)
    if isinstance(segmentation, dict):
        return _runs(segmentation, value, size)
    if not segmentation:
        return "it has no segmentation (a box is not enough)"
    return f"its segmentation is {show(segmentation)}"


def _runs(segmentation: Object, value: int, size: tuple[int, int]) -> Runs | str:
    counts, declared = segmentation.get("counts"), segmentation.get("size")
    height, width = size
    if declared != [height, width]:
        shown = "x".join(map(show, declared)) if isinstance(declared, list) else show(declared)
        return f"its RLE has the size {shown}, its image {height}x{width} (height x width)"
    if isinstance(counts, str):
        try:
            lengths = parse_counts(counts)
        except ValueError as error:
            return f"its RLE {error}"
        total, least = int(lengths.sum()), int(lengths.min())
    elif isinstance(counts, list) and counts and all(map(is_whole, counts)):
        total, least = sum(counts), min(counts)
    else:
        return f"its RLE has the counts {show(counts)}"
    if least < 0 or total != height * width:
        found = "a negative number" if least < 0 else f"{show(total)} pixels"
        return f"its RLE counts {found}; its image has {height * width}"
    return Runs.of(value, lengths if isinstance(counts, str) else counts)


def _prefix(document: _Document, documents: Sequence[_Document]) -> str:
    """What sets the ids of a part apart, where two parts have images of one name."""
    names = Counter(image.case for each in documents for image in each.images.values())
    return f"{document.split}/" if max(names.values(), default=0) > 1 else ""


def _cases(document: _Document, prefix: str) -> tuple[list[Case], list[Problem]]:
    cases = []
    problems = []
    for image in document.images.values():
        entry = image.entry
        split = document.split
        if entry.get("split") is not None:
            given = SPLIT_NAMES.get(as_text(entry["split"]).lower())
            if given is None or split not in (None, given):
                document.faults.add(
                    "unknown-split",
                    f"its split is {show(entry['split'])}",
                    "Allowed: train, val or test, and the part that the file is named after",
                    where=f"image {show(image.id)}",
                )
                continue
            split = given
        patient = entry.get("patient", entry.get("patient_id"))
        if patient is not None and _id(patient) is None:
            document.faults.key(
                "patient",
                patient,
                "text or a number",
                "Name the patient",
                where=f"image {image.id}",
            )
            continue
        subject = Subject(
            prefix + image.case,
            [image.file],
            patient=as_text(patient) or None,
            split=split,
            attributes=_attributes(entry),
        )
        mask = Shapes(
            document.file,
            tuple(document.objects.get(image.id, ())),
            image.size,
            image.file,
            f"image {image.id}",
        )
        found, wrong = with_mask(subject, mask if document.is_labelled else None)
        cases += found
        problems += wrong
    return cases, problems


def _attributes(entry: Object) -> dict[str, str]:
    return {
        printable(key.strip()): as_text(value)
        for key, value in entry.items()
        if key not in _STANDARD | _OWN and isinstance(value, str | int | float)
    }


def _id(value: object) -> _Id | None:
    """A value that can be an id: a whole number, as COCO says, or text, as some tools write."""
    if isinstance(value, str):
        return value
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if root in path.parents else path.name
