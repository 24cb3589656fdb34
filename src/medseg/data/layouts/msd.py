"""The Medical Segmentation Decathlon's layout, which nnU-Net's first version shares.

``dataset.json`` lists pairs under ``training`` and images under ``test``; ``labels`` and
``modality`` go from numbers to names. Several modalities are the last axis of 4D files or, in
nnU-Net's first version, ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz`` ... for a listed
``CASE.nii.gz``.

Source: http://medicaldecathlon.com, Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from medseg.data.case import Dataset
from medseg.data.io import stem
from medseg.data.layouts.datalist import as_dataset, read_entries, read_label_map
from medseg.data.layouts.declared import (
    Faults,
    Object,
    find_file,
    is_text,
    is_whole,
    load_object,
    peek,
    safe_id,
)
from medseg.errors import DataError, plural

NAME = "msd"
DECLARED = True
FILE_NAME = "dataset.json"


def recognise(root: Path) -> str | None:
    """Why ``root`` follows this layout, in words, or None when it does not."""
    path = _declaration(root)
    content = peek(path) if path is not None else {}
    if path is None or "modality" not in content or {"channel_names", "file_ending"} & set(content):
        return None
    return f"{path.name} names modalities and labels, as in the Medical Segmentation Decathlon"


def read(root: Path) -> Dataset:
    """Read the listed cases; entries that cannot be used become error problems.

    Raises:
        DataError: no dataset.json, or no entry can be used.
    """
    path = _declaration(root)
    if path is None:
        raise DataError(root, f"holds no {FILE_NAME}", f"Name the folder of a {FILE_NAME}")
    content = load_object(path)
    faults = Faults(path)
    modalities = _read_modalities(faults, content)
    content = _without_hidden(content)

    def locate(image: str) -> Sequence[Path] | None:
        file = find_file(path.parent, image)
        return [file] if file is not None else _numbered(path.parent, image, modalities, faults)

    labels = read_label_map(faults, content)
    if "labels" not in content:
        remedy = 'Write {"0": "background", "1": "tumour"}'
        faults.key("labels", None, "an object of values and names", remedy)
    entries = read_entries(
        faults, content, locate, identify=_identify, channels_in_file=len(modalities) > 1
    )
    for key, part in (("numTraining", "training"), ("numTest", "test")):
        _check_count(faults, content, key, part)
    return as_dataset(root, NAME, recognise(root) or "", faults, entries, labels)


def _declaration(root: Path) -> Path | None:
    if os.path.isfile(root):
        return root if root.suffix.lower() == ".json" else None
    path = root / FILE_NAME
    return path if os.path.isfile(path) else None


def _read_modalities(faults: Faults, content: Object) -> list[str]:
    given = content.get("modality")
    numbers = [str(index) for index in range(len(given))] if isinstance(given, dict) else []
    if (
        not isinstance(given, dict)
        or not given
        or set(given) != set(numbers)
        or not all(is_text(name) for name in given.values())
    ):
        remedy = 'Write {"0": "T2", "1": "ADC"}'
        faults.key("modality", given, "an object of the numbers from 0 and names", remedy)
        return ["image"]
    return [str(given[number]) for number in numbers]


def _numbered(
    folder: Path, image: str, modalities: Sequence[str], faults: Faults
) -> list[Path] | None:
    """The channels that stand for a listed image; None when there is none."""
    bare = stem(image)
    names = [f"{bare}_{index:04d}{image[len(bare) :]}" for index in range(len(modalities))]
    files = [find_file(folder, name) for name in names]
    if not any(files):
        return None
    for name, file, modality in zip(names, files, modalities, strict=True):
        if file is None:
            found = f"the case {_identify(image)} has no channel {name} ({modality})"
            faults.add("missing-channel", found, "Add the file")
    return [file for file in files if file is not None]


def _identify(image: str) -> str:
    return PurePosixPath(safe_id(image)).name


def _without_hidden(content: Object) -> Object:
    """Without the files that macOS leaves beside others, which some lists hold."""
    kept = dict(content)
    for key, entries in content.items():
        if isinstance(entries, list):
            kept[key] = [entry for entry in entries if not _is_hidden(entry)]
    return kept


def _is_hidden(entry: object) -> bool:
    image = entry.get("image") if isinstance(entry, dict) else entry
    return isinstance(image, str) and PurePosixPath(image).name.startswith("._")


def _check_count(faults: Faults, content: Object, key: str, part: str) -> None:
    count, listed = content.get(key), content.get(part, [])
    if count is None or not isinstance(listed, list):
        return
    if not is_whole(count) or count < 0:
        faults.key(key, count, "a whole number", f"Write how many cases {part} lists")
    elif count != len(listed):
        found = f"{key} is {count}, but {part} lists {plural(len(listed), 'case')}"
        remedy = "Look whether some are missing, or correct the number"
        faults.add("case-count", found, remedy, warning=True)
