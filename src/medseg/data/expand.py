"""From the files of a subject to cases: one for a 2D image, one a slice for a volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.data.case import Case, Problem, Split
from medseg.data.io.geometry import AS_STORED
from medseg.data.io.volume import is_volume, read_header
from medseg.data.slices import SLICE, misplaced, slices_of, volume_of
from medseg.data.source import Channels, File, Source, Union
from medseg.errors import DataError


@dataclass(frozen=True, slots=True)
class Subject:
    """What a layout knows of one subject before any file is opened.

    Attributes:
        id: unique within the dataset.
        images: the image; several files are its channels. A folder is a DICOM series.
        masks: the mask; several files are united. Empty when unlabelled.
        patient: as in :class:`Case`.
        split: as in :class:`Case`.
        attributes: as in :class:`Case`.
        field_of_view: a mask that is 0 where the image shows nothing, or None.
        mask_values: what pixels other than 0 of each mask become; empty: they keep their value.
        channels_in_file: whether the fourth axis of an image holds its channels.
    """

    id: str
    images: Sequence[Path]
    masks: Sequence[Path] = ()
    patient: str | None = None
    split: Split | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    field_of_view: Path | None = None
    mask_values: tuple[int, ...] = ()
    channels_in_file: bool = False


_REMEDIES = {
    "channel": "All channels of a case must lie on one grid: resample them",
    "mask": "Export the mask on the grid of its image, e.g. resample it to the image",
    "field of view": "Export it on the grid of the image",
}


def expand(subject: Subject) -> tuple[list[Case], list[Problem]]:
    """The cases of a subject, and what is wrong with its files.

    Only headers are read. Slices of a volume get the subject's id plus ``/slice_012`` and, when
    no patient is known, the subject as their patient. A file that cannot be read is a case whose
    source raises the error. Where image and mask do not lie on one grid, that is a problem and
    the case is unlabelled.
    """
    paths = [*subject.images, *subject.masks]
    if subject.field_of_view is not None:
        paths.append(subject.field_of_view)
    if not any(is_volume(path) for path in paths):
        image = _image([File(path) for path in subject.images])
        mask = _mask([File(path) for path in subject.masks], subject.mask_values)
        view = None if subject.field_of_view is None else File(subject.field_of_view)
        return [_case(subject, subject.id, image, mask, view, subject.patient)], []
    return _expand_volume(subject)


def _expand_volume(subject: Subject) -> tuple[list[Case], list[Problem]]:
    problems: list[Problem] = []
    images = [_parts(path, fourth=subject.channels_in_file) for path in subject.images]
    for path, parts in zip(subject.images[1:], images[1:], strict=True):
        problems += _compare(images[0], parts, path, "channel")
    if problems:
        return [], problems
    masks, views = [], []
    for path in subject.masks:
        parts = _parts(path)
        wrong = _compare(images[0], parts, path, "mask")
        masks += [] if wrong else [parts]
        problems += wrong
    if subject.field_of_view is not None:
        parts = _parts(subject.field_of_view)
        wrong = _compare(images[0], parts, subject.field_of_view, "field of view")
        views += [] if wrong else [parts]
        problems += wrong
    labelled = len(masks) == len(subject.masks) and not problems
    count = max(len(parts) for parts in images)
    digits = max(3, len(str(count - 1)))
    patient = subject.patient or _patient(images[0][0])
    cases = []
    for index in range(count):
        name = subject.id if count == 1 else f"{subject.id}{SLICE}{index:0{digits}}"
        cases.append(
            _case(
                subject,
                name,
                _image([_at(parts, index) for parts in images]),
                _mask([_at(parts, index) for parts in masks], subject.mask_values)
                if labelled
                else None,
                _at(views[0], index) if views else None,
                patient if count == 1 else patient or subject.id,
            )
        )
    return cases, problems


def _parts(path: Path, *, fourth: bool = False) -> Sequence[Source]:
    """The slices of a volume; the file itself when it is a picture or cannot be read."""
    if is_volume(path):
        try:
            return slices_of(path, fourth=fourth)
        except DataError:
            return [File(path)]
    return [File(path)]


def _compare(
    image: Sequence[Source], other: Sequence[Source], path: Path, what: str
) -> list[Problem]:
    """Whether two volumes, or a volume and a picture, fit slice by slice."""
    readable = all(volume_of(parts[0]) or not is_volume(parts[0].path) for parts in (image, other))
    if not readable:
        return []
    found = misplaced(image[0], other[0], what)
    if found is None and len(image) != len(other):
        count = [
            f"has {len(parts)} slices" if len(parts) > 1 else "is one picture"
            for parts in (other, image)
        ]
        found = "size-mismatch", f"the {what} {count[0]}, the image {count[1]}"
    if found is None and (volume_of(image[0]) is None) != (volume_of(other[0]) is None):
        found = _turned(image[0], other[0], what)
    if found is None:
        return []
    kind, words = found
    if what == "channel":
        kind = "channel-mismatch"
    return [Problem("error", kind, str(path), words, _REMEDIES[what])]


def _turned(image: Source, other: Source, what: str) -> tuple[str, str] | None:
    """A picture fits a single slice only where that is shown as it is stored."""
    files = volume_of(image) or volume_of(other)
    assert files is not None
    slicing = read_header(files).slicing
    if slicing.order == AS_STORED.order and slicing.flipped[1:] == AS_STORED.flipped[1:]:
        return None
    kinds = ("volume", "picture") if volume_of(image) else ("picture", "volume")
    return (
        "geometry-mismatch",
        f"the {what} is a {kinds[1]} and the image a {kinds[0]} that is stored turned or mirrored",
    )


def _patient(image: Source) -> str | None:
    files = volume_of(image)
    return None if files is None else read_header(files).patient


def _at(parts: Sequence[Source], index: int) -> Source:
    return parts[min(index, len(parts) - 1)]


def _case(
    subject: Subject,
    name: str,
    image: Source,
    mask: Source | None,
    field_of_view: Source | None,
    patient: str | None,
) -> Case:
    return Case(name, image, mask, patient, subject.split, subject.attributes, field_of_view)


def _image(parts: Sequence[Source]) -> Source:
    return parts[0] if len(parts) == 1 else Channels(tuple(parts))


def _mask(parts: Sequence[Source], values: tuple[int, ...]) -> Source | None:
    if not parts:
        return None
    return parts[0] if len(parts) == 1 and not values else Union(tuple(parts), values)
