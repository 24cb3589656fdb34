"""Masks that are stored as outlines: polygons, and the run lengths of COCO."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.io import MAX_PIXELS, MaskFile, image_size
from medseg.data.source import Source
from medseg.errors import DataError

_FIRST_CHARACTER = 48
_BITS = 5
# Of the seven characters, 35 bits: more than any image has pixels.
_MOST_CHARACTERS = 7


@dataclass(frozen=True, slots=True)
class Polygons:
    """One object: the union of polygons, each filled by the even-odd rule.

    Attributes:
        value: what its pixels become; 0 cuts a hole.
        rings: the corners of each polygon, x and y in turn, as the bytes of float64 numbers (an
            image's are many: tuples of numbers would take ten times the memory).
    """

    value: int
    rings: tuple[bytes, ...]

    @classmethod
    def of(cls, value: int, rings: Iterable[Sequence[float]]) -> Polygons:
        """From lists ``[x1, y1, x2, y2, ...]``."""
        return cls(value, tuple(np.array(ring, "<f8").tobytes() for ring in rings))

    @property
    def area(self) -> float:
        """The sum of the polygons' areas."""
        total = 0.0
        for corners in self.corners():
            x, y = (corners - corners[0]).T
            total += abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
        return total

    def corners(self) -> list[NDArray[np.float64]]:
        """(N, 2) x and y of each polygon."""
        return [np.frombuffer(ring, "<f8").reshape(-1, 2) for ring in self.rings]


@dataclass(frozen=True, slots=True)
class Runs:
    """One object: the lengths of runs of pixels outside and inside it, column by column.

    Attributes:
        value: what its pixels become; 0 cuts a hole.
        counts: the first run is outside and may be empty; the bytes of int64 numbers.
    """

    value: int
    counts: bytes

    @classmethod
    def of(cls, value: int, counts: Sequence[int] | NDArray[np.int64]) -> Runs:
        """From lengths that add up to the pixels of the image."""
        return cls(value, np.array(counts, "<i8").tobytes())

    @property
    def area(self) -> float:
        """Pixels inside."""
        return float(self.lengths()[1::2].sum())

    def lengths(self) -> NDArray[np.int64]:
        """The lengths as numbers."""
        return np.frombuffer(self.counts, "<i8")


@dataclass(frozen=True, slots=True)
class Shapes(Source):
    """A mask made of objects. Where two overlap, the one with the smaller area lies on top, and of
    two equal ones the later one.

    Attributes:
        file: where the objects are listed.
        objects: in any order; pixels of none of them are 0.
        size: (height, width) in pixels; None when corners are shares (0..1) of the width and the
            height of ``image``.
        image: the image they lie on.
        name: what it is called in ``file``, e.g. ``"image 17"``; empty when the file holds one.
    """

    file: Path
    objects: tuple[Polygons | Runs, ...]
    size: tuple[int, int] | None
    image: Path
    name: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    @property
    def place(self) -> str:
        return self.name

    def read_image(self, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        raise DataError(self, "holds outlines", "Name an image")

    def read_mask(self, *, max_pixels: int = MAX_PIXELS) -> MaskFile:
        height, width = self.size or image_size(self.image)
        if height * width > max_pixels:
            raise DataError(
                self,
                f"outlines an image of {width} x {height} pixels, more than the {max_pixels:,} "
                f"allowed",
                "Downscale or tile it, or raise the limit if the file can be trusted",
            )
        scale = np.array([width, height] if self.size is None else [1, 1], np.float64)
        values = np.zeros((height, width), np.int32)
        for each in sorted(self.objects, key=lambda each: -each.area):
            if isinstance(each, Runs):
                values[fill_runs(each.lengths(), height, width)] = each.value
            else:
                for corners in each.corners():
                    _paint(values, corners * scale, each.value)
        return MaskFile(values)

    def sha256(self) -> str:
        """A hash of the objects and the size: other images of the file do not matter."""
        digest = hashlib.sha256(f"{type(self).__name__} {self.size}".encode())
        for each in self.objects:
            parts = each.rings if isinstance(each, Polygons) else (each.counts,)
            digest.update(f" {type(each).__name__} {each.value}".encode())
            for part in parts:
                digest.update(f" {len(part)} ".encode() + part)
        return digest.hexdigest()


def fill_polygon(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels whose centre lies inside a polygon.

    A centre is inside when a ray from it crosses the outline an odd number of times (even-odd
    rule), so that a hole is an outline within an outline and an edge drawn there and back counts
    for nothing. Centres on the left or upper edge are inside, on the right or lower edge outside:
    of two polygons that share an edge each pixel belongs to one. Pixel (row, column) has its
    centre at x = column + 0.5, y = row + 0.5.

    Args:
        corners: (N, 2) x and y in pixels, finite; what lies outside the image is cut off.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        (H, W) bool.
    """
    values = np.zeros((height, width), np.int32)
    _paint(values, corners, 1)
    return values > 0


def _paint(values: NDArray[np.int32], corners: NDArray[np.float64], value: int) -> None:
    """Set the pixels of a polygon in (H, W) values."""
    height, width = values.shape
    ends = np.roll(corners, -1, axis=0)
    # From the upper end on, so that an edge there and back crosses each row at the same place.
    down = (corners[:, 1] <= ends[:, 1])[:, None]
    x0, y0 = np.where(down, corners, ends).T
    x1, y1 = np.where(down, ends, corners).T
    # An edge crosses the rows whose centre lies in y0 <= y < y1.
    first, stop = (np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64) for y in (y0, y1))
    crossed = stop - first
    edges = np.repeat(np.arange(len(crossed)), crossed)
    if not edges.size:
        return
    starts = np.cumsum(crossed) - crossed
    rows = np.arange(edges.size) - starts[edges] + first[edges]
    slopes = (x1 - x0)[edges] / (y1 - y0)[edges]
    crossings = x0[edges] + (rows + 0.5 - y0[edges]) * slopes
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max()
    if left == right:
        return
    # Each crossing turns all pixels to its right inside out.
    turns = np.bincount(
        (rows - top) * (right - left + 1) + columns - left,
        minlength=(bottom - top) * (right - left + 1),
    ).reshape(bottom - top, right - left + 1)
    inside = (np.cumsum(turns, axis=1)[:, :-1] & 1).astype(bool)
    values[top:bottom, left:right][inside] = value


def fill_runs(counts: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of COCO's run lengths.

    Args:
        counts: pixels outside and inside in turn, column by column from the upper left; they add
            up to ``height * width``.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        (H, W) bool.
    """
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def parse_counts(text: str) -> NDArray[np.int64]:
    """The run lengths of COCO's compressed text.

    From the fourth on, a length is stored as its difference to the one two before. A number is
    written in groups of five bits, the lowest first, each as the character of 48 plus the group,
    plus 32 if more follow; the highest bit of the last group is the sign (COCO API,
    ``rleFrString`` in maskApi.c).

    Raises:
        ValueError: a character that does not occur in such text, or a number without an end.
    """
    try:
        characters = np.frombuffer(text.encode("latin-1"), np.uint8).astype(np.int64)
    except UnicodeEncodeError:
        raise ValueError("holds characters that no such text has") from None
    codes = characters - _FIRST_CHARACTER
    if codes.size and not (codes.min() >= 0 and codes.max() < 64):
        raise ValueError("holds characters that no such text has")
    last = np.flatnonzero(codes & 32 == 0)
    if not codes.size or codes[-1] & 32:
        raise ValueError("ends within a number")
    begin = np.concatenate([[0], last[:-1] + 1])
    lengths = last - begin + 1
    if lengths.max() > _MOST_CHARACTERS:
        raise ValueError("holds a number that is too large")
    shifts = _BITS * (np.arange(codes.size) - np.repeat(begin, lengths))
    numbers = np.add.reduceat((codes & 31) << shifts, begin)
    numbers -= np.where(codes[last] & 16, np.int64(1) << _BITS * lengths, 0)
    for parity in (1, 2):
        numbers[parity::2] = np.cumsum(numbers[parity::2])
    return numbers
