"""Images and masks in folders that belong together by their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.data.case import Problem, Split
from medseg.data.expand import Subject
from medseg.data.io import is_image_file
from medseg.data.io import stem as without_suffix
from medseg.data.layouts.names import nfc

MASK_SUFFIXES = (
    "_mask",
    "_masks",
    "_segmentation",
    "_manual1",
    "_1stho",
    " mask",
    "_label",
    "_gt",
    # PH2, GlaS and HC18.
    "_lesion",
    "_anno",
    "_annotation",
)
# DRIVE pairs 21_training.tif with 21_manual1.gif.
IMAGE_SUFFIXES = ("_training", "_test")
VIEW_SUFFIXES = (*MASK_SUFFIXES, "_fov")
# ISIC's superpixels and second observers: neither images nor the masks that are learnt from.
_EXTRAS = ("_superpixels", "_manual2", "_2ndho")
_ONE_OF_SEVERAL = re.compile(r"_mask(_\d+)?$", re.IGNORECASE)

_Files = dict[str, list[Path]]


@dataclass(frozen=True, slots=True)
class Part:
    """Folders of images and masks; the same folder twice when both lie together.

    Attributes:
        images: the folder of images.
        masks: the folder of masks, or of one folder a class.
        prefix: what case ids start with, ``"test/"`` for a part of a published split.
        split: the published part, or None.
        views: the folder of fields of view, or None.
        attributes: what all its cases have in common.
    """

    images: Path
    masks: Path
    prefix: str = ""
    split: Split | None = None
    views: Path | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; nothing when it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def image_files(folder: Path) -> Iterator[Path]:
    """Image files at any depth, without hidden files and folders."""
    for entry in entries(folder):
        if entry.is_dir() and not entry.name.startswith("."):
            yield from image_files(entry)
        elif is_image_file(entry) and entry.is_file():
            yield entry


def has_pair_together(folder: Path) -> bool:
    """Whether some image below ``folder`` has its mask beside it."""
    images, masks = _told_apart(folder)
    return bool(images and masks)


def class_folders(part: Part) -> list[Path]:
    """The folders ``0``, ``1`` ... in the folder of masks, one a class; most often there are none.

    They are ordinary subfolders when the folder of images has them, too.
    """
    if part.images == part.masks:
        return []
    inside = entries(part.masks)
    found = [entry for entry in inside if entry.name.isdecimal() and entry.is_dir()]
    if any(is_image_file(entry) for entry in inside):
        return []
    if any((part.images / entry.name).is_dir() for entry in found):
        return []
    return sorted(found, key=lambda entry: int(entry.name))


def pair(part: Part) -> tuple[list[Subject], list[Problem]]:
    """The images of a part with their masks, and what does not fit."""
    folders = class_folders(part)
    if part.images == part.masks:
        images, masks = _told_apart(part.images)
        by_class = [masks]
    else:
        images = _without_extras(_by_stem(part.images))
        by_class = [_by_stem(folder) for folder in folders or [part.masks]]
    problems = [
        Problem(
            "error",
            "duplicate-stem",
            str(files[0]),
            f"shares its name with {', '.join(file.name for file in files[1:])}",
            "Keep one image of each name",
        )
        for files in images.values()
        if len(files) > 1
    ]
    found: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    united = []
    for value, masks in enumerate(by_class, start=1):
        matched, wrong = _matched(part, images, masks)
        problems += wrong
        for stem, files in matched.items():
            chosen, several = _chosen(images[stem][0], files)
            problems += several
            found[stem] += [(value, file) for file in chosen]
            united += [stem] if len(chosen) > 1 else []
    problems += _united(part, united)
    views, wrong = _views(part, images)
    problems += wrong
    subjects = [
        Subject(
            part.prefix + stem,
            files[:1],
            [file for _, file in found[stem]],
            split=part.split,
            attributes={**part.attributes, **_folder(part, stem)},
            field_of_view=views.get(stem),
            mask_values=tuple(value for value, _ in found[stem]) if len(folders) > 1 else (),
        )
        for stem, files in images.items()
    ]
    return subjects, problems


def _folder(part: Part, stem: str) -> dict[str, str]:
    """BUSI's ``benign/``, ``malignant/`` and ``normal/`` say something of their cases."""
    together = part.images == part.masks
    return {"folder": stem.rpartition("/")[0]} if together and "/" in stem else {}


def _by_stem(folder: Path) -> _Files:
    """Files by their path below ``folder`` without suffix, composed and with ``/``."""
    stems: _Files = defaultdict(list)
    for file in image_files(folder):
        stems[nfc(without_suffix(file.relative_to(folder).as_posix()))].append(file)
    return dict(stems)


def _told_apart(folder: Path) -> tuple[_Files, _Files]:
    """Files by stem: images, and masks (a stem that is another's plus a mask suffix)."""
    stems = _by_stem(folder)
    masks = {
        stem: files
        for stem, files in stems.items()
        if any(bare in stems for bare in _bare_masks(stem))
    }
    images = {stem: files for stem, files in stems.items() if stem not in masks}
    return _without_extras(images), masks


def _without_extras(images: _Files) -> _Files:
    return {
        stem: files
        for stem, files in images.items()
        if not any(bare in images for bare in _stripped(stem, _EXTRAS))
    }


def _stripped(stem: str, suffixes: Sequence[str]) -> list[str]:
    return [stem[: -len(suffix)] for suffix in suffixes if stem.lower().endswith(suffix)]


def _bare_masks(stem: str) -> list[str]:
    """What a mask of this name may be the mask of, other than an image of the same name."""
    bare = _stripped(stem, MASK_SUFFIXES)
    match = _ONE_OF_SEVERAL.search(stem)
    return bare if match is None else [*bare, stem[: match.start()]]


def _matched(part: Part, images: _Files, masks: _Files) -> tuple[_Files, list[Problem]]:
    """The masks of each image, by the image's stem."""
    aliases = _aliases(images)
    found: _Files = defaultdict(list)
    problems = []
    for stem, files in masks.items():
        match = _match([stem, *_bare_masks(stem)], images, aliases)
        if match is not None:
            found[match] += files
            continue
        extra = _match(_stripped(stem, _EXTRAS), images, aliases)
        if extra is not None and _has_own_mask(extra, masks, aliases):
            continue
        problems.append(
            Problem(
                "error",
                "mask-without-image",
                str(files[0]),
                f"no image in {part.images.name}/ has this name",
                "Add the image or remove the mask",
            )
        )
    return found, problems


def _aliases(images: _Files) -> dict[str, str]:
    return {bare: stem for stem in images for bare in _stripped(stem, IMAGE_SUFFIXES)}


def _match(candidates: list[str], images: _Files, aliases: Mapping[str, str]) -> str | None:
    candidates = candidates + [aliases[name] for name in candidates if name in aliases]
    return next((name for name in candidates if name in images), None)


def _has_own_mask(image: str, masks: _Files, aliases: Mapping[str, str]) -> bool:
    names = {image, *(bare for bare, stem in aliases.items() if stem == image)}
    return any(not names.isdisjoint([stem, *_bare_masks(stem)]) for stem in masks)


def _chosen(image: Path, files: list[Path]) -> tuple[list[Path], list[Problem]]:
    """The masks that are united, as BUSI's ``x_mask.png`` and ``x_mask_1.png``, or else one."""
    stems = {nfc(without_suffix(file.name)) for file in files}
    distinct = len(stems) == len(files)
    if len(files) == 1 or (distinct and all(_ONE_OF_SEVERAL.search(stem) for stem in stems)):
        return sorted(files, key=lambda file: (len(file.name), file.name)), []
    return files[:1], [
        Problem(
            "error",
            "duplicate-stem",
            str(image),
            f"has {len(files)} masks: {', '.join(file.name for file in files)}",
            "Keep one mask for each image",
        )
    ]


def _united(part: Part, stems: list[str]) -> list[Problem]:
    if not stems:
        return []
    return [
        Problem(
            "warning",
            "united-masks",
            str(part.masks),
            f"{len(stems)} images have several masks, which are united: {shorten(stems)}",
            "Right if they show several objects; if the numbers are classes, put them in folders "
            "masks/0/, masks/1/ ...",
        )
    ]


def _views(part: Part, images: _Files) -> tuple[dict[str, Path], list[Problem]]:
    """The field of view of each image, by the image's stem."""
    if part.views is None:
        return {}, []
    aliases = _aliases(images)
    found: dict[str, Path] = {}
    spare = []
    for stem, files in _by_stem(part.views).items():
        match = _match([stem, *_stripped(stem, VIEW_SUFFIXES)], images, aliases)
        if match is None or match in found or len(files) > 1:
            spare += files
        else:
            found[match] = files[0]
    problems = []
    if spare:
        problems.append(
            Problem(
                "error",
                "field-of-view",
                str(part.views),
                f"{len(spare)} files belong to no image, or to one that has another: "
                f"{shorten([file.name for file in spare])}",
                "Give each image one field of view of its name",
            )
        )
    without = [stem for stem in images if stem not in found]
    if without:
        problems.append(
            Problem(
                "warning",
                "field-of-view",
                str(part.views),
                f"{len(without)} of {len(images)} images have no field of view: {shorten(without)}",
                "All of them is learnt from and scored; add the files if that is wrong",
            )
        )
    return found, problems


def shorten(names: Sequence[str], most: int = 5) -> str:
    """The first few names."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")
