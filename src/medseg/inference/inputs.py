"""Which images are meant, and what their masks are called."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from medseg.data.expand import Subject, expand
from medseg.data.io import is_image_file, read_image, stem
from medseg.data.io.volume import is_volume
from medseg.data.layouts import is_dataset, open_dataset
from medseg.data.source import Source
from medseg.errors import DataError

MANIFEST = "predictions.json"
"""In a folder of predictions, what made them."""

# Problems of a dataset that do not concern its images.
_OF_MASKS = {
    "mask-without-image",
    "missing-mask",
    "size-mismatch",
    "geometry-mismatch",
    "field-of-view",
}
_CHANNEL = re.compile(r"(.+)_(\d{4})")


def find_inputs(
    inputs: Sequence[str | Path], *, layout: str = "auto", channels: int = 1
) -> dict[str, Source]:
    """Images by the name, without suffix, of the mask to write; slices of volumes by case id.

    A file is named by its stem; images in a folder keep their place below it, and folders in it
    that hold predictions are left out; a dataset folder contributes its images under their case
    ids; a pattern (``*.png``) is expanded. Where all images of a folder or pattern end in
    ``_0000``, ``_0001`` ..., they are the channels of one, as in nnU-Net's ``imagesTs``; and so is
    the fourth axis of a volume where the model takes several channels.

    Args:
        inputs: image files, folders, dataset folders, or patterns.
        layout: how dataset folders lie on disk, where it cannot be recognised.
        channels: of the images that the model was trained on.

    Raises:
        DataError: nothing found for an input, two images would get the same mask, or a channel
            is missing or does not fit.
    """
    found: dict[str, Source] = {}
    for item in inputs:
        for name, source in _expand(str(item), layout, channels):
            if name in found and found[name] != source:
                raise DataError(
                    source,
                    f"its mask would have the same name as that of {found[name]}",
                    "Predict them into different output folders",
                )
            found[name] = source
    return found


def _expand(item: str, layout: str, channels: int) -> list[tuple[str, Source]]:
    path = Path(item)
    if path.is_file() and is_image_file(path):
        return _cases(stem(path.name), [path], channels)
    if layout != "auto" or is_dataset(path):
        dataset = open_dataset(path, layout=layout)
        for problem in dataset.problems:
            # Masks do not matter here, but an image that was left out does.
            if problem.severity == "error" and problem.kind not in _OF_MASKS:
                raise DataError(problem.where, problem.found, problem.remedy)
        return [(case.id, case.image) for case in dataset.cases]
    if path.is_file():
        return _cases(stem(path.name), [path], channels)
    if path.exists():
        predictions = {note.parent for note in path.rglob(MANIFEST)} - {path}
        images = sorted(
            p for p in path.rglob("*") if is_image_file(p) and predictions.isdisjoint(p.parents)
        )
        if not images:
            raise DataError(path, "there are no images in it", "Name a folder with images")
        named = {p: stem(p.relative_to(path).as_posix()) for p in images}
    else:
        images = sorted(Path(m) for m in glob.glob(item, recursive=True) if is_image_file(Path(m)))
        if not images:
            raise DataError(item, "there is no such image or folder", "Check the path")
        named = {p: stem(p.name) for p in images}
    grouped = _by_channel(named, channels)
    if grouped is None:
        return [case for p, name in named.items() for case in _cases(name, [p], channels)]
    return [case for name, paths in grouped.items() for case in _cases(name, paths, channels)]


def _cases(name: str, paths: list[Path], channels: int) -> list[tuple[str, Source]]:
    cases, problems = expand(Subject(name, paths, channels_in_file=channels > 1))
    for problem in problems:
        raise DataError(problem.where, problem.found, problem.remedy)
    return [(case.id, case.image) for case in cases]


def _by_channel(named: Mapping[Path, str], channels: int) -> dict[str, list[Path]] | None:
    """The files of each image, where all names end in the number of a channel; else None.

    Raises:
        DataError: a channel is missing.
    """
    found: dict[str, dict[int, Path]] = {}
    for path, name in named.items():
        match = _CHANNEL.fullmatch(name)
        if match is None:
            return None
        found.setdefault(match[1], {})[int(match[2])] = path
    numbers = {number for paths in found.values() for number in paths}
    if numbers == {0}:
        return {name: [paths[0]] for name, paths in found.items()}
    if max(numbers) != channels - 1 or _is_colour(next(iter(named))):
        return None
    for name, paths in found.items():
        for number in range(channels):
            if number not in paths:
                there = next(iter(paths.values()))
                raise DataError(
                    there.with_name(
                        f"{Path(name).name}_{number:04}{there.name[len(stem(there.name)) :]}"
                    ),
                    f"is missing: '{name}' has {len(paths)} of the {channels} channels",
                    "Add it; the model was trained on all of them",
                )
    return {name: [paths[number] for number in range(channels)] for name, paths in found.items()}


def _is_colour(path: Path) -> bool:
    """Whether a picture holds all channels by itself."""
    try:
        return not is_volume(path) and read_image(path).shape[2] > 1
    except DataError:
        return False
