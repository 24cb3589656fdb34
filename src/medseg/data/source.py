"""Where an image or a mask lies: a file, several files, or a place inside one.

Layouts make sources, everything after them reads sources, so that a slice of a volume, a polygon
or an array is a case like any other.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.io import MAX_PIXELS, MaskFile, read_image, read_mask
from medseg.errors import DataError


class Source(ABC):
    """A 2D image or mask that can be read; small, immutable and hashable.

    Kinds that hold only images or only masks raise a DataError for the other.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """All files that it is read from, the one that errors name first."""

    @property
    def place(self) -> str:
        """Where in its files it lies, e.g. ``"slice 12"``; empty when it is all of them."""
        return ""

    @property
    def path(self) -> Path:
        """The file that errors name."""
        return self.files[0]

    @abstractmethod
    def read_image(self, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """(H, W, C) uint8, as :func:`medseg.data.io.read_image` returns it.

        Raises:
            DataError: it cannot be read.
        """

    @abstractmethod
    def read_mask(self, *, max_pixels: int = MAX_PIXELS) -> MaskFile:
        """The stored values, as :func:`medseg.data.io.read_mask` returns them.

        Raises:
            DataError: it cannot be read.
        """

    def sha256(self) -> str:
        """A hash of the content of its files and its place in them.

        Raises:
            OSError: a file cannot be read.
        """
        digests = [file_sha256(path) for path in self.files]
        if len(digests) == 1 and not self.place:
            return digests[0]
        return hashlib.sha256(
            "\0".join([type(self).__name__, self.place, *digests]).encode()
        ).hexdigest()

    def __str__(self) -> str:
        return f"{self.path}, {self.place}" if self.place else str(self.path)


@dataclass(frozen=True, slots=True)
class File(Source):
    """A file that holds one picture."""

    file: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def read_image(self, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        return read_image(self.file, max_pixels=max_pixels)

    def read_mask(self, *, max_pixels: int = MAX_PIXELS) -> MaskFile:
        return read_mask(self.file, max_pixels=max_pixels)

    def __str__(self) -> str:
        return str(self.file)


@dataclass(frozen=True, slots=True)
class Channels(Source):
    """An image whose channels lie in several sources of one channel and one size."""

    parts: tuple[Source, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for part in self.parts for path in part.files)

    @property
    def place(self) -> str:
        return self.parts[0].place

    def read_image(self, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        planes = [part.read_image(max_pixels=max_pixels) for part in self.parts]
        for part, plane in zip(self.parts, planes, strict=True):
            if plane.shape != (*planes[0].shape[:2], 1):
                raise DataError(
                    part,
                    f"is a channel of {_size(plane)} with {plane.shape[2]} channels; the first, "
                    f"{self.parts[0].path.name}, is {_size(planes[0])}",
                    "All channels of a case must be grey images of one size",
                )
        return np.concatenate(planes, axis=2)

    def read_mask(self, *, max_pixels: int = MAX_PIXELS) -> MaskFile:
        raise DataError(self, "is an image of several channels", "Name a mask")


@dataclass(frozen=True, slots=True)
class Union(Source):
    """A mask that lies in several of one size.

    Attributes:
        parts: where two of them show something, the larger value counts.
        values: what the pixels other than 0 of each part become; empty: they keep their value.
    """

    parts: tuple[Source, ...]
    values: tuple[int, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for part in self.parts for path in part.files)

    @property
    def place(self) -> str:
        return " ".join(map(str, self.values))

    def read_image(self, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        raise DataError(self, "is made of several masks", "Name an image")

    def read_mask(self, *, max_pixels: int = MAX_PIXELS) -> MaskFile:
        masks = [part.read_mask(max_pixels=max_pixels) for part in self.parts]
        united = np.zeros_like(masks[0].values)
        lossy = False
        for index, (part, mask) in enumerate(zip(self.parts, masks, strict=True)):
            if mask.rgb or mask.values.shape != united.shape:
                height, width = mask.values.shape
                raise DataError(
                    part,
                    "holds colours" if mask.rgb else f"is {width} x {height} pixels",
                    f"Masks that are united must be grey and as large as {self.parts[0].path.name}",
                )
            values = mask.values
            if self.values:
                # Lossy files hold ringing around 0; the darker half of the range is background.
                values = np.where(values > (127 if mask.lossy else 0), self.values[index], 0)
            else:
                lossy |= mask.lossy
            united = np.maximum(united, values)
        return MaskFile(united.astype(np.int32), lossy=lossy)

    def __str__(self) -> str:
        return " and ".join(str(part) for part in self.parts)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, remembered until the file changes.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _file_sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _file_sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]} x {image.shape[0]} pixels"
