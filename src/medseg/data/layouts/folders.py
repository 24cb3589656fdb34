"""Folders of images and masks whose file names say which belong together.

Understood, names in any case:

- ``images/`` and ``masks/`` (or another of ``IMAGE_FOLDERS`` and ``MASK_FOLDERS``), with nested
  folders if both sides have them;
- ``train/``, ``val/``, ``test/``, each holding such a pair: a published split. Beside top-level
  ``images/`` and ``masks/``, which are then the training part, ``test/`` alone is enough;
- images and masks together in one folder, the masks named like the image plus one of
  ``MASK_SUFFIXES``;
- ``train.txt``, ``val.txt``, ``test.txt`` in the root: a published split, one case a line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.data.case import SPLITS, Case, Dataset, Problem, Split
from medseg.data.expand import Subject, expand
from medseg.data.io import is_image_file
from medseg.data.layouts.names import SPLIT_NAMES, labels_beside, nfc
from medseg.errors import DataError

NAME = "folders"
DECLARED = False
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "original", "input")
# DRIVE has both 1st_manual/ (vessels) and mask/ (field of view), so the rarer name comes first.
MASK_FOLDERS = (
    "1st_manual",
    "masks",
    "mask",
    "ground truth",
    "groundtruth",
    "gt",
    "annotations",
    "labels",
    "label",
)
MASK_SUFFIXES = (
    "_mask",
    "_masks",
    "_segmentation",
    "_manual1",
    "_1stho",
    " mask",
    "_label",
    "_gt",
)
# DRIVE pairs 21_training.tif with 21_manual1.gif.
IMAGE_SUFFIXES = ("_training", "_test")


@dataclass(frozen=True, slots=True)
class _Source:
    """One pair of folders; the same folder twice when images and masks lie together.

    Attributes:
        images: the folder of images.
        masks: the folder of masks.
        prefix: what case ids start with, ``"test/"`` for a part of a published split.
        split: the published part, or None.
    """

    images: Path
    masks: Path
    prefix: str = ""
    split: Split | None = None


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    sources = _sources(root)
    if not sources:
        return None
    first = sources[0]
    if first.images == first.masks:
        told_apart = f"masks beside their images in {first.images.name}/, told apart by suffix"
    else:
        told_apart = (
            f"{_below(root, first.images)}/ with images and {_below(root, first.masks)}/ with masks"
        )
    parts = [source.split for source in sources if source.split is not None]
    return f"{told_apart}; published split: {', '.join(parts)}" if parts else told_apart


def read(root: Path) -> Dataset:
    """Pair images with masks by name.

    Images without a mask stay as unlabelled cases. Masks without an image and stems that occur
    twice are error problems.

    Raises:
        DataError: no such folders, or not a single pair.
    """
    reason = recognise(root)
    sources = _sources(root)
    if reason is None:
        raise DataError(
            root,
            "holds no image folder with a mask folder beside it",
            f"Image folders may be called {', '.join(IMAGE_FOLDERS)}; mask folders "
            f"{', '.join(MASK_FOLDERS)}",
        )
    cases: list[Case] = []
    problems: list[Problem] = []
    for source in sources:
        problems += _spare_mask_folders(source)
        found, wrong = _pair(source)
        cases += found
        problems += wrong
    if not any(case.mask for case in cases):
        raise _no_pairs(root, sources)
    cases = _with_split_folders(cases)
    cases, wrong = _with_split_files(root, cases)
    problems += wrong + _unlabelled(root, cases)
    cases.sort(key=lambda case: case.id)
    return Dataset(root, NAME, reason, tuple(cases), labels_beside(root), tuple(problems))


def _sources(root: Path) -> list[_Source]:
    if not root.is_dir():
        return []
    found = []
    pair = _pair_of_folders(root)
    parts = {
        SPLIT_NAMES[entry.name.lower()]: entry
        for entry in sorted(root.iterdir())
        if entry.is_dir() and entry.name.lower() in SPLIT_NAMES
    }
    for split in SPLITS:
        inside = _pair_of_folders(parts[split]) if split in parts else None
        if inside is not None:
            found.append(_Source(*inside, f"{nfc(parts[split].name)}/", split))
    if pair is not None:
        found.insert(0, _Source(*pair, split="train" if found else None))
    if not found and _has_pair_together(root):
        found.append(_Source(root, root))
    return found


def _pair_of_folders(folder: Path) -> tuple[Path, Path] | None:
    images = _subfolders(folder, IMAGE_FOLDERS)
    masks = _subfolders(folder, MASK_FOLDERS)
    return (images[0], masks[0]) if images and masks else None


def _subfolders(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The subfolders with these names that hold an image, in the order of ``names``."""
    by_name = {
        entry.name.lower(): entry
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and entry.name.lower() in names
    }
    named = [by_name[name] for name in names if name in by_name]
    return [entry for entry in named if next(_image_files(entry), None) is not None]


def _image_files(folder: Path) -> Iterator[Path]:
    """Image files at any depth, without hidden files and folders."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _image_files(entry)
        elif is_image_file(entry) and entry.is_file():
            yield entry


def _has_pair_together(folder: Path) -> bool:
    images, masks = _told_apart(folder)
    return bool(images and masks)


def _told_apart(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Files by stem: images, and masks (a stem that is another's plus a mask suffix)."""
    stems = _by_stem(folder, list(_image_files(folder)))
    masks = {
        stem: files
        for stem, files in stems.items()
        if any(bare in stems for bare in _stripped(stem, MASK_SUFFIXES))
    }
    images = {stem: files for stem, files in stems.items() if stem not in masks}
    return images, masks


def _by_stem(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Files by their path below ``folder`` without suffix, composed and with ``/``."""
    stems: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        below = file.relative_to(folder)
        stems[nfc((below.parent / below.stem).as_posix())].append(file)
    return dict(stems)


def _stripped(stem: str, suffixes: tuple[str, ...]) -> list[str]:
    return [stem[: -len(suffix)] for suffix in suffixes if stem.lower().endswith(suffix)]


def _pair(source: _Source) -> tuple[list[Case], list[Problem]]:
    if source.images == source.masks:
        images, masks = _told_apart(source.images)
    else:
        images = _by_stem(source.images, list(_image_files(source.images)))
        masks = _by_stem(source.masks, list(_image_files(source.masks)))
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
    aliases = {bare: stem for stem in images for bare in _stripped(stem, IMAGE_SUFFIXES)}
    found: dict[str, list[Path]] = defaultdict(list)
    for stem, files in masks.items():
        candidates = [stem, *_stripped(stem, MASK_SUFFIXES)]
        candidates += [aliases[name] for name in candidates if name in aliases]
        match = next((name for name in candidates if name in images), None)
        if match is not None:
            found[match] += files
            continue
        problems.append(
            Problem(
                "error",
                "mask-without-image",
                str(files[0]),
                f"no image in {source.images.name}/ has this name",
                "Add the image or remove the mask",
            )
        )
    for stem, files in found.items():
        if len(files) > 1:
            problems.append(
                Problem(
                    "error",
                    "duplicate-stem",
                    str(images[stem][0]),
                    f"has {len(files)} masks: {', '.join(file.name for file in files)}",
                    "Keep one mask for each image",
                )
            )
    cases: list[Case] = []
    for stem, files in images.items():
        subject = Subject(
            source.prefix + stem, files[:1], found.get(stem, [])[:1], split=source.split
        )
        expanded, wrong = expand(subject)
        cases += expanded
        problems += wrong
    return cases, problems


def _spare_mask_folders(source: _Source) -> list[Problem]:
    """Warn when a second folder could have been meant."""
    if source.images == source.masks:
        return []
    spare = [
        folder.name
        for folder in _subfolders(source.masks.parent, MASK_FOLDERS)
        if folder != source.masks
    ]
    if not spare:
        return []
    return [
        Problem(
            "warning",
            "several-mask-folders",
            str(source.masks),
            f"is read as the masks; {', '.join(spare)} could be masks, too, and is ignored",
            "Rename the folder that is not meant, or list the files in a manifest.csv",
        )
    ]


def _no_pairs(root: Path, sources: list[_Source]) -> DataError:
    images = [file.name for source in sources for file in _image_files(source.images)][:2]
    masks = [file.name for source in sources for file in _image_files(source.masks)][:2]
    return DataError(
        root,
        f"no image has a mask of the same name: images such as {', '.join(images)}; masks such as "
        f"{', '.join(masks)}",
        f"Give masks the name of their image, optionally with {', '.join(MASK_SUFFIXES)}, or list "
        f"the pairs in a manifest.csv",
    )


def _unlabelled(root: Path, cases: list[Case], most: int = 5) -> list[Problem]:
    names = [case.id for case in cases if case.mask is None]
    if not names:
        return []
    shown = ", ".join(names[:most]) + (" ..." if len(names) > most else "")
    return [
        Problem(
            "warning",
            "unpaired-image",
            str(root),
            f"{len(names)} of {len(cases)} images have no mask: {shown}",
            "They are not used for supervised training; add masks if there should be any",
        )
    ]


def _with_split_folders(cases: list[Case]) -> list[Case]:
    """Read ``images/train/0001.png`` as a published split when every case lies in such a folder."""
    tops = [SPLIT_NAMES.get(case.id.split("/")[0].lower()) for case in cases if "/" in case.id]
    if len(tops) < len(cases) or None in tops or any(case.split for case in cases):
        return cases
    return [replace(case, split=top) for case, top in zip(cases, tops, strict=True)]


def _with_split_files(root: Path, cases: list[Case]) -> tuple[list[Case], list[Problem]]:
    """Apply ``train.txt``, ``val.txt`` and ``test.txt``.

    Cases that no file lists are training cases; when there is a ``train.txt`` they are also
    reported.
    """
    files = {split: root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()}
    if not files:
        return cases, []
    ids = {name: case.id for case in cases for name in (nfc(case.image.path.name), case.id)}
    listed: dict[str, Split] = {}
    problems = []
    for split, path in files.items():
        for number, name in _lines(path):
            where = f"{path}, line {number}"
            case_id = ids.get(name) or ids.get(str(Path(name).with_suffix("").as_posix()))
            if case_id is None:
                problems.append(
                    Problem(
                        "error",
                        "split-unknown-case",
                        where,
                        f"there is no image '{name}'",
                        "Correct the name or remove the line",
                    )
                )
            elif listed.setdefault(case_id, split) != split:
                problems.append(
                    Problem(
                        "error",
                        "case-in-two-splits",
                        where,
                        f"'{name}' is also in {listed[case_id]}.txt",
                        "List each case once",
                    )
                )
    unlisted = sum(case.id not in listed for case in cases)
    if unlisted and "train" in files:
        names = ", ".join(path.name for path in files.values())
        problems.append(
            Problem(
                "warning",
                "not-in-published-split",
                str(root),
                f"{unlisted} cases are in none of {names}",
                "They are used for training; list them if they should not be",
            )
        )
    return [replace(case, split=listed.get(case.id, "train")) for case in cases], problems


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read ({error})", "Save it as UTF-8 text") from error
    for number, line in enumerate(text.splitlines(), start=1):
        name = nfc(line.strip())
        if name and not name.startswith("#"):
            yield number, name


def _below(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()
