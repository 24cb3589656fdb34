"""Slices of volumes as sources, and their volumes again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import Case, Problem
from medseg.data.io import MAX_PIXELS, MaskFile
from medseg.data.io import volume as volumes
from medseg.data.io.geometry import difference
from medseg.data.source import Channels, File, Source, Union
from medseg.errors import DataError, RecipeError, plural

SLICE = "/slice_"
"""Between a volume's id and the number of a slice in a case's id."""


@dataclass(frozen=True, slots=True)
class Slice(Source):
    """A slice of a volume.

    Attributes:
        volume: the files of the volume, as :func:`medseg.data.io.volume.volume_files` lists them.
        index: which slice, counted from 0.
        plane: ``"axial"``, ``"coronal"``, ``"sagittal"``, or empty when that is unknown.
        fourth: whether a fourth axis of the volume holds the channels; without this it is an
            error.
    """

    volume: tuple[Path, ...]
    index: int
    plane: str = ""
    fourth: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        return self.volume

    @property
    def place(self) -> str:
        return f"{self.plane} slice {self.index}".lstrip()

    def sha256(self) -> str:
        return hashlib.sha256(f"{self.place}\0{volumes.sha256(self.volume)}".encode()).hexdigest()

    def read_image(self, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        volumes.check_slices(volumes.read_header(self.volume), max_pixels, channels=self.fourth)
        image: NDArray[np.uint8] = volumes.read_pictures(self.volume)[self.index]
        return image

    def read_mask(self, *, max_pixels: int = MAX_PIXELS) -> MaskFile:
        volumes.check_slices(volumes.read_header(self.volume), max_pixels)
        mask = volumes.read_labels(self.volume)
        return MaskFile(
            mask.values[self.index].astype(np.int32), lossy=mask.lossy, palette=mask.palette
        )


@dataclass(frozen=True, slots=True)
class Stack(Source):
    """A whole volume: all its slices, in order.

    Read, it has one axis more than a picture: (S, H, W, C), and masks (S, H, W).
    """

    slices: tuple[Source, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return self.slices[0].files

    def read_image(self, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        return np.stack([each.read_image(max_pixels=max_pixels) for each in self.slices])

    def read_mask(self, *, max_pixels: int = MAX_PIXELS) -> MaskFile:
        masks = [each.read_mask(max_pixels=max_pixels) for each in self.slices]
        return MaskFile(
            np.stack([mask.values for mask in masks]),
            lossy=any(mask.lossy for mask in masks),
            palette=masks[0].palette,
        )

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Whole:
    """Cases of one volume put together again, or a single case.

    Attributes:
        id: the case's, or that of the volume.
        cases: in the order of slices.
        image: a :class:`Stack` for a volume.
        mask: likewise; None when there is none.
        field_of_view: likewise.
    """

    id: str
    cases: tuple[Case, ...]
    image: Source
    mask: Source | None
    field_of_view: Source | None


def volume_of(source: Source) -> tuple[Path, ...] | None:
    """The files of the volume that a source lies in; of several channels, of the first."""
    match source:
        case Slice():
            return source.volume
        case Channels() | Union():
            return volume_of(source.parts[0])
        case Stack():
            return volume_of(source.slices[0])
    return None


def spacing_of(source: Source) -> tuple[float, float, float] | None:
    """Distances between slices, rows and columns in mm; None when they are not known.

    Raises:
        DataError: the header cannot be read.
    """
    files = volume_of(source)
    if files is None:
        return None
    header = volumes.read_header(files)
    if header.affine is None:
        return None
    stored = np.linalg.norm(header.affine[:3, :3], axis=0)
    slices, rows, columns = (float(stored[axis]) for axis in header.slicing.order)
    return slices, rows, columns


def gather(cases: Iterable[Case], *, pictures: str | None = None) -> list[Whole]:
    """Put the slices of each volume together, in the order in which volumes first occur.

    Args:
        cases: slices and pictures.
        pictures: a regular expression that finds in the id of a case the volume that the picture
            is a slice of (first group) and its number (second group); None where pictures are no
            slices.

    Raises:
        RecipeError: an expression without two groups, or of which the second is no number.
        DataError: a slice is missing between others of its volume.
    """
    together: dict[str, list[Case]] = {}
    numbers: dict[str, int] = {}
    pattern = None if pictures is None else _slice_pattern(pictures)
    for case in cases:
        volume = _volume_id(case)
        if volume is None and pattern is not None:
            volume, numbers[case.id] = _numbered_slice(pattern, case.id)
        together.setdefault(volume or case.id, []).append(case)
    for name, members in together.items():
        if numbers.keys() & {member.id for member in members}:
            members.sort(key=lambda member: numbers[member.id])
            _check_complete(name, [numbers[member.id] for member in members])
    return [
        Whole(
            name,
            tuple(members),
            _stack(name, members, [case.image for case in members]),
            _together(name, members, [case.mask for case in members]),
            _together(name, members, [case.field_of_view for case in members]),
        )
        for name, members in together.items()
    ]


def slices_if_all(pictures: str | None, ids: Iterable[str]) -> str | None:
    """``pictures``, as in :func:`gather`, where it finds volume and slice in all ids of pictures;
    else None.

    Raises:
        RecipeError: an expression without two groups.
    """
    if pictures is None:
        return None
    pattern = _slice_pattern(pictures)
    return pictures if all(pattern.fullmatch(each) for each in ids) else None


def open_slices(path: Path, *, fourth: bool = False) -> Source:
    """A file or series by itself: a :class:`Stack`, a single slice, or a picture.

    Raises:
        DataError: a volume that cannot be read.
    """
    if not volumes.is_volume(path):
        return File(path)
    slices = slices_of(path, fourth=fourth)
    return slices[0] if len(slices) == 1 else Stack(tuple(slices))


def slices_of(path: Path, *, fourth: bool = False) -> list[Slice]:
    """All slices of a volume, from its header.

    Raises:
        DataError: it cannot be read, or is 4D and ``fourth`` does not say that it may be.
    """
    files = volumes.volume_files(path)
    header = volumes.read_header(files)
    volumes.check_slices(header, MAX_PIXELS, channels=fourth)
    plane = header.slicing.plane
    return [Slice(files, index, plane, fourth) for index in range(header.num_slices)]


def misplaced(image: Source, other: Source, what: str = "mask") -> tuple[str, str] | None:
    """How the grids of two volumes differ (see :func:`medseg.data.io.geometry.difference`).

    None where they agree, or one of them is no volume.

    Raises:
        DataError: a header cannot be read.
    """
    ours, theirs = volume_of(image), volume_of(other)
    if ours is None or theirs is None:
        return None
    return difference(volumes.read_header(ours), volumes.read_header(theirs), what)


def mixed_orientations(cases: Sequence[Case], where: object) -> list[Problem]:
    """A warning when volumes of a dataset are sliced in different planes."""
    planes: dict[str, str] = {}
    for case in cases:
        source = case.image.parts[0] if isinstance(case.image, Channels) else case.image
        if isinstance(source, Slice) and source.plane:
            planes.setdefault(source.plane, _volume_id(case) or case.id)
    if len(planes) < 2:
        return []
    shown = ", ".join(f"{name} is cut into {plane} slices" for plane, name in planes.items())
    return [
        Problem(
            "warning",
            "mixed-orientations",
            str(where),
            f"volumes differ in the plane of their thickest spacing: {shown}",
            "Slices of different planes look different; keep volumes of one plane if you can",
        )
    ]


def _volume_id(case: Case) -> str | None:
    """The id of the volume that a case is a slice of, or None."""
    if volume_of(case.image) is None or SLICE not in case.id:
        return None
    return case.id.rpartition(SLICE)[0]


def _slice_pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise RecipeError("data.slices", f"{text!r} is no regular expression", str(error)) from None
    if pattern.groups != 2:
        raise RecipeError(
            "data.slices",
            f"{text!r} has {plural(pattern.groups, 'group')}",
            r"Write two, for the volume and for the slice's number: (.+)_slice_(\d+)",
        )
    return pattern


def _numbered_slice(pattern: re.Pattern[str], case: str) -> tuple[str, int]:
    match = pattern.fullmatch(case)
    if match is None:
        raise DataError(case, f"does not match data.slices {pattern.pattern!r}", "Correct either")
    try:
        return str(match[1]), int(match[2])
    except (TypeError, ValueError) as error:
        raise RecipeError(
            "data.slices",
            f"its second group is {match[2]!r} in {case}",
            r"It must find the number of the slice: (.+)_slice_(\d+)",
        ) from error


def _check_complete(name: str, numbers: Sequence[int]) -> None:
    for before, after in pairwise(numbers):
        if after != before + 1:
            raise DataError(
                name,
                f"has no slice between the numbers {before} and {after}"
                if after > before
                else f"has two slices of the number {after}",
                "Slices of a volume are numbered without gaps, and every one needs its mask",
            )


def _stack(name: str, members: Sequence[Case], sources: Sequence[Source]) -> Source:
    return sources[0] if members[0].id == name else Stack(tuple(sources))


def _together(
    name: str, members: Sequence[Case], sources: Sequence[Source | None]
) -> Source | None:
    known = [source for source in sources if source is not None]
    return _stack(name, members, known) if len(known) == len(members) else None
