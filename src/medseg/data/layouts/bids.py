"""BIDS: images below ``sub-01/``, masks below ``derivatives/*/sub-01/`` or beside the images.

A file is called ``sub-01_ses-1_..._T1w.nii.gz``: entities (``sub-01``), then its suffix (``T1w``).
Masks end in ``_dseg``, ``_seg`` or ``_mask``. A mask belongs to the image with the same entities
other than ``IGNORED``, if possible one of the same grid and in the same folder of derivatives.
``sub-`` is the patient. ``participants.tsv`` gives attributes, ``*_dseg.tsv`` the classes; binary
masks that differ by their ``label-`` alone are classes of that name.

Source: https://bids-specification.readthedocs.io, "Common principles" and "Imaging derivatives".
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.data.case import Dataset, LabelMap, Problem
from medseg.data.expand import Subject
from medseg.data.io import is_image_file, stem
from medseg.data.layouts.declared import (
    Faults,
    expand_all,
    first,
    nothing_usable,
    printable,
    read_labels,
)
from medseg.data.layouts.names import labels_beside, nfc
from medseg.errors import DataError, plural

NAME = "bids"
DECLARED = False
IGNORED = ("label", "desc", "space", "res", "den", "atlas", "seg")
"""Entities that a mask need not share with its image."""

# The first of them that occurs is read: a segmentation says more than the mask of a brain.
_MASKS = ("dseg", "seg", "mask")
_NO_IMAGES = (*_MASKS, "probseg", "defacemask")
_PARTICIPANTS = "participants.tsv"


@dataclass(frozen=True, slots=True)
class _File:
    """A file and what its name says.

    Attributes:
        path: where it lies.
        tree: the dataset, or folder of derivatives, that it belongs to.
        entities: in the order of the name.
        words: parts of the name that are no entities, without the last.
        suffix: the last of them.
    """

    path: Path
    tree: Path
    entities: tuple[tuple[str, str], ...]
    words: tuple[str, ...]
    suffix: str

    @property
    def is_mask(self) -> bool:
        return self.suffix in _MASKS

    @property
    def core(self) -> tuple[tuple[str, str], ...]:
        """The entities that image and mask share."""
        return tuple(sorted(pair for pair in self.entities if pair[0] not in IGNORED))

    @property
    def grid(self) -> tuple[str | None, ...]:
        """What names the grid that the voxels lie on."""
        given = dict(self.entities)
        return tuple(given.get(key) for key in ("space", "res", "den"))

    @property
    def label(self) -> str | None:
        return dict(self.entities).get("label")

    @property
    def kind(self) -> tuple[object, ...]:
        """What images of one sort, of different subjects, share."""
        given = dict(self.entities)
        return self.tree, self.path.parent.name, self.suffix, given.get("desc"), self.grid

    @property
    def subject(self) -> str:
        return f"sub-{dict(self.entities)['sub']}"

    @property
    def id(self) -> str:
        shared = [f"{k}-{v}" for k, v in self.entities if k not in IGNORED]
        return "_".join(shared)


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    mask = next((file for file in _files(root) if file.is_mask), None)
    if mask is None or not any(file.suffix not in _NO_IMAGES for file in _all_files(root)):
        return None
    return f"masks named as in BIDS, such as {mask.path.relative_to(root).as_posix()}"


def read(root: Path) -> Dataset:
    """Match masks with images; images of the matched kinds without a mask are unlabelled.

    Raises:
        DataError: no mask, or none has an image.
    """
    files = list(_all_files(root))
    raw = _raw(root)
    suffix = next((s for s in _MASKS if any(file.suffix == s for file in files)), None)
    if suffix is None:
        raise DataError(
            root,
            "holds no mask named as in BIDS",
            f"Masks are called sub-..._{_MASKS[0]}.nii.gz, or end in {' or '.join(_MASKS[1:])}",
        )
    faults = Faults(root)
    chosen = [file for file in files if file.suffix == suffix]
    images = [file for file in files if file.suffix not in _NO_IMAGES]
    by_label = suffix != "dseg" and all(mask.label for mask in chosen)
    matched = _one_choice(_match(chosen, images, faults), faults, by_label=by_label)
    _warn_of_others(files, suffix, faults)
    if by_label:
        names = sorted({mask.label for mask in chosen if mask.label})
        values = {name: value for value, name in enumerate(names, start=1)}
        labels = read_labels(faults, {"background": 0, **values})
    else:
        values = {}
        labels = _labels_of_tables(root, raw, chosen, faults)
    participants = _participants(root, raw, faults)
    unlabelled = _without_mask(images, chosen, matched)
    ids = _ids([*matched, *unlabelled])
    if unlabelled:
        bare = first(ids[image] for image in unlabelled)
        found = f"{len(unlabelled)} of {len(ids)} images have no mask: {bare}"
        remedy = "They are not used for supervised training; add masks if there should be any"
        faults.add("unpaired-image", found, remedy, warning=True)
    subjects = []
    for image in (*matched, *unlabelled):
        masks = matched.get(image, [])
        subjects.append(
            Subject(
                id=ids[image],
                images=[image.path],
                masks=[mask.path for mask in masks],
                patient=image.subject,
                attributes=participants.get(image.subject, {}),
                mask_values=tuple(values[mask.label] for mask in masks if mask.label in values),
            )
        )
    cases, _, wrong = expand_all(subjects)
    if not matched or not cases:
        raise nothing_usable(root, "no mask can be used", [*faults.problems, *wrong])
    problems = (*faults.problems, *wrong)
    return Dataset(root, NAME, recognise(root) or "", tuple(cases), labels, problems)


def _all_files(root: Path) -> Iterator[_File]:
    """Those of the dataset, and the images of the one that it derives from."""
    yield from _files(root)
    raw = _raw(root)
    if raw != root:
        yield from (file for file in _files(raw, derivatives=False) if not file.is_mask)


def _files(root: Path, *, derivatives: bool = True) -> Iterator[_File]:
    """The images and masks of a dataset, those of its derivatives last."""
    below = root if root.name == "derivatives" else root / "derivatives"
    trees = [root, *([below, *_folders(below)] if derivatives else [])]
    for tree in dict.fromkeys(trees):
        for subject in _folders(tree):
            if not subject.name.startswith("sub-"):
                continue
            for folder, folders, names in os.walk(subject):
                folders.sort()
                for name in sorted(names):
                    file = _parse(Path(folder) / name, tree)
                    if file is not None:
                        yield file


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except OSError:
        return []


def _parse(path: Path, tree: Path) -> _File | None:
    if not path.name.startswith("sub-") or not is_image_file(path):
        return None
    *parts, suffix = nfc(stem(path.name)).split("_")
    if "-" in suffix or not suffix:
        return None
    pairs = [part.split("-", 1) for part in parts if "-" in part]
    entities = tuple((key, value) for key, value in pairs if key)
    words = tuple(part for part in parts if "-" not in part)
    return _File(path, tree, entities, words, suffix) if "sub" in dict(entities) else None


def _raw(root: Path) -> Path:
    """The dataset whose derivatives ``root`` holds, if it does."""
    absolute = Path(os.path.abspath(root))
    for folder in (absolute, *absolute.parents[:2]):
        if folder.name == "derivatives":
            return folder.parent
    return root


def _match(
    masks: Sequence[_File], images: Sequence[_File], faults: Faults
) -> dict[_File, list[_File]]:
    """Masks by their image; a mask whose image is missing or unclear is an error."""
    by_core = defaultdict(list)
    for image in images:
        by_core[image.core].append(image)
    found: dict[_File, list[_File]] = defaultdict(list)
    for mask in masks:
        candidates = _candidates(mask, by_core[mask.core])
        if len(candidates) == 1:
            found[candidates[0]].append(mask)
            continue
        if candidates:
            names = first(file.path.name for file in candidates)
            remedy = (
                "Add the image's suffix to the mask's name, as in sub-01_T1w_label-x_mask.nii.gz, "
                "or list the pairs in a manifest.csv"
            )
            kind, words = "ambiguous-image", f"may belong to {names}"
        else:
            wanted = "_".join(f"{key}-{value}" for key, value in mask.core)
            kind, words = "mask-without-image", f"no image is called {wanted}_..."
            remedy = "Add the image or remove the mask"
        faults.problems.append(Problem("error", kind, str(mask.path), printable(words), remedy))
    return found


def _candidates(mask: _File, images: Sequence[_File]) -> list[_File]:
    if mask.words:
        images = [image for image in images if image.suffix in mask.words]
    rules: tuple[Callable[[_File], bool], ...] = (
        lambda image: image.path.parent.name == mask.path.parent.name,
        lambda image: image.grid == mask.grid,
        lambda image: image.tree == mask.tree,
    )
    for rule in rules:
        images = [image for image in images if rule(image)] or images
    return list(images)


def _one_choice(
    found: Mapping[_File, list[_File]], faults: Faults, *, by_label: bool
) -> dict[_File, list[_File]]:
    """Several masks of an image must be classes told apart by nothing but their label."""
    matched = {}
    unclear = []
    for image, masks in found.items():
        masks = [mask for mask in masks if mask.grid == image.grid] or masks
        others = {tuple(pair for pair in mask.entities if pair[0] != "label") for mask in masks}
        alike = len(others) == 1 and len({mask.tree for mask in masks}) == 1
        different = len({mask.label for mask in masks}) == len(masks)
        if len(masks) == 1 or (by_label and alike and different):
            matched[image] = masks
        else:
            unclear.append(masks)
    if unclear:
        names = first(mask.path.relative_to(faults.file).as_posix() for mask in unclear[0])
        faults.add(
            "ambiguous-mask",
            f"{plural(len(unclear), 'image')} with several masks: {names}",
            "Name the folder of derivatives that is meant, or list the pairs in a manifest.csv",
        )
    return matched


def _warn_of_others(files: Sequence[_File], suffix: str, faults: Faults) -> None:
    others = sorted({file.suffix for file in files if file.is_mask and file.suffix != suffix})
    if others:
        faults.add(
            "several-masks",
            f"_{suffix} files are read; those in _{' and _'.join(others)} are not used",
            "Name a folder of derivatives, or list the pairs in a manifest.csv, to read them",
            warning=True,
        )


def _without_mask(
    images: Sequence[_File], masks: Sequence[_File], matched: Mapping[_File, object]
) -> list[_File]:
    """Images of the same kinds as those with a mask, and of which no mask speaks."""
    kinds = {image.kind for image in matched}
    spoken = {mask.core for mask in masks}
    return [image for image in images if image.kind in kinds and image.core not in spoken]


def _ids(images: Iterable[_File]) -> dict[_File, str]:
    """The shared entities, or the whole name where two images share them."""
    by_id = defaultdict(list)
    for image in images:
        by_id[image.id].append(image)
    ids = {}
    taken: set[str] = set()
    for short, alike in by_id.items():
        for image in alike:
            name = short if len(alike) == 1 else nfc(stem(image.path.name))
            count = 2
            while name in taken:
                name, count = f"{nfc(stem(image.path.name))}_{count}", count + 1
            taken.add(name)
            ids[image] = name
    return ids


def _labels_of_tables(
    root: Path, raw: Path, masks: Sequence[_File], faults: Faults
) -> LabelMap | None:
    """The classes of all ``dseg.tsv`` files, which must not contradict each other."""
    paths = sorted({path for mask in masks for path in _tables(mask, (root, raw))})
    if not paths:
        return labels_beside(root)
    named: dict[str, int] = {}
    owner: dict[int, tuple[str, Path]] = {}
    before = len(faults.problems)
    for path in paths:
        table = Faults(path)
        for number, row in _read_table(table, ("index", "name")):
            where = f"line {number}"
            name, index = printable(row["name"]), row["index"]
            if not index.isdecimal() or len(index) > 9 or not name:
                remedy = "Each line has a whole number and a name"
                table.add("labels", f"has the index '{index}', name '{name}'", remedy, where=where)
                continue
            other, place = owner.setdefault(int(index), (name, path))
            if other != name or named.setdefault(name, int(index)) != int(index):
                found = f"{index} is '{name}', but '{other}' in {place.name}"
                if other == name:
                    found = f"'{name}' is {index}, but also {named[name]}"
                table.add("labels", found, "Use the same classes in all tables", where=where)
        faults.problems += table.problems
    if len(faults.problems) > before:
        return None
    if 0 not in named.values():
        named = {"background": 0, **named}
    table = Faults(paths[0])
    labels = read_labels(table, named)
    faults.problems += table.problems
    return labels


def _tables(mask: _File, roots: Sequence[Path]) -> list[Path]:
    """The nearest table of classes that is about a mask: ``dseg.tsv`` files hold for all files
    below them that have their entities."""
    folder = mask.path.parent
    inside = []
    while folder != mask.tree and folder != folder.parent:
        inside.append(folder)
        folder = folder.parent
    for place in dict.fromkeys((*inside, mask.tree, *roots)):
        about = [path for path in _tsv_files(place) if _is_about(path, mask)]
        if about:
            return [max(about, key=lambda path: (path.name.count("-"), path.name))]
    return []


def _tsv_files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*dseg.tsv"))
    except OSError:
        return []


def _is_about(table: Path, mask: _File) -> bool:
    *parts, suffix = nfc(table.name.removesuffix(".tsv")).split("_")
    given = {f"{key}-{value}" for key, value in mask.entities}
    return suffix == mask.suffix and given.issuperset(parts)


def _participants(root: Path, raw: Path, faults: Faults) -> dict[str, dict[str, str]]:
    """Attributes by ``sub-`` name; ``n/a`` is empty."""
    path = next((p for p in (root / _PARTICIPANTS, raw / _PARTICIPANTS) if os.path.isfile(p)), None)
    if path is None:
        return {}
    table = Faults(path)
    found: dict[str, dict[str, str]] = {}
    for number, row in _read_table(table, ("participant_id",)):
        name = nfc(row.pop("participant_id"))
        name = name if name.startswith("sub-") else f"sub-{name}"
        if name in found:
            remedy = "Keep one line for each"
            table.add("participants", f"{name} again", remedy, where=f"line {number}")
        attributes = {key: printable(value) for key, value in row.items()}
        found[name] = {k: "" if v.lower() == "n/a" else v for k, v in attributes.items()}
    faults.problems += table.problems
    return found


def _read_table(faults: Faults, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Lines of a tab-separated table with their numbers; what is wrong is noted."""
    remedy = f"It must be UTF-8 text with the columns {' and '.join(columns)}, separated by tabs"
    try:
        text = faults.file.read_text(encoding="utf-8-sig")
    except OSError as error:
        faults.add("table", f"cannot be read ({error.strerror})", remedy)
        return []
    except UnicodeDecodeError:
        faults.add("table", "is not UTF-8", remedy)
        return []
    lines = [line for line in enumerate(text.splitlines(), start=1) if line[1].strip()]
    cells = [(number, [cell.strip() for cell in line.split("\t")]) for number, line in lines]
    heading = cells[0][1] if cells else []
    missing = [column for column in columns if column not in heading]
    if missing or len(set(heading)) < len(heading):
        held = ", ".join(heading) or "nothing"
        faults.add("table", f"its first line holds {held}", remedy)
        return []
    rows = []
    for number, row in cells[1:]:
        if len(row) > len(heading):
            found = f"{len(row)} cells for {plural(len(heading), 'column')}"
            faults.add("table", found, remedy, where=f"line {number}")
            continue
        row += [""] * (len(heading) - len(row))
        rows.append((number, dict(zip(heading, row, strict=True))))
    return rows
