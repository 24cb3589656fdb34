"""Volumes as the network sees them, in files that are mapped into memory.

A cache is a folder with three files a volume: ``00012.image.npy`` (C, S, H, W) float16, normalised
and resampled; ``00012.mask.npy`` (S, H, W) uint8 class indices or ``IGNORE``; ``00012.places.npy``
(N, 4) int32, a class and the slice, row and column of a voxel of it, written last. ``cases.json``
lists the volumes once all are there. Half precision keeps three digits of values that are of the
order of 1, and is a hundred times finer than the noise of a scanner.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.cache_folder import FINISHED, Progress, open_or_build
from medseg.data.case import IGNORE, LabelMap
from medseg.data.labels import Snap
from medseg.data.slices import Whole
from medseg.data.volumes.normalise import Intensity
from medseg.data.volumes.preprocess import network_shape, prepare_image, prepare_mask
from medseg.data.volumes.read import grid_of, read_image, read_mask
from medseg.data.volumes.resample import Shape, Triple
from medseg.errors import MedsegError
from medseg.files import atomic_path, write_text

# Raise when the bytes in a cache change meaning: old caches are then rebuilt.
FORMAT = 1

PLACES = 1000
"""Voxels of each class that are remembered of a volume, to centre patches on."""

# Each holds a few copies of a volume.
_MAX_WORKERS = 4
_LARGEST = 60_000.0


@dataclass(frozen=True)
class VolumeSettings:
    """What, besides the files' content, determines the cached bytes.

    Attributes:
        channels: of the images.
        labels: the classes.
        snap: as in :func:`medseg.data.labels.read_classes`.
        max_pixels: of a slice.
        plane: that volumes are turned to; empty where they are taken as they lie.
        spacing: in mm, that they are resampled to; None: not at all.
        intensity: how each channel is normalised.
    """

    channels: int
    labels: LabelMap
    snap: Snap
    max_pixels: int
    plane: str
    spacing: Triple | None
    intensity: tuple[Intensity, ...]


@dataclass(frozen=True)
class VolumeCache:
    """N volumes of one dataset.

    Attributes:
        folder: where the files lie.
        ids: of the volumes.
        shapes: slices, rows and columns of each.
        channels: of the images.
        reused: whether the files were found rather than made.
    """

    folder: Path
    ids: tuple[str, ...]
    shapes: tuple[Shape, ...]
    channels: int
    reused: bool

    @property
    def bytes(self) -> int:
        return sum(map(partial(_size, channels=self.channels), self.shapes))

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Places of volumes in the cache."""
        place = {name: row for row, name in enumerate(self.ids)}
        return np.array([place[name] for name in ids], dtype=np.int64)

    def image(self, row: int) -> NDArray[np.float16]:
        """``(C, S, H, W)``, memory-mapped, read-only."""
        found: NDArray[np.float16] = self._open(row, "image")
        return found

    def mask(self, row: int) -> NDArray[np.uint8]:
        """``(S, H, W)`` class indices or ``IGNORE``, memory-mapped, read-only."""
        found: NDArray[np.uint8] = self._open(row, "mask")
        return found

    def places(self, row: int) -> NDArray[np.int32]:
        """``(N, 4)``: at most ``PLACES`` voxels of each foreground class that the volume shows,
        each a class, a slice, a row and a column; sorted by class."""
        found: NDArray[np.int32] = self._open(row, "places")
        return found

    def _open(self, row: int, what: str) -> Any:
        path = _file(self.folder, row, what)
        try:
            return np.load(path, mmap_mode="r" if what != "places" else None)
        except (OSError, ValueError) as error:
            raise MedsegError(
                path, f"cannot be read any more ({error})", "Leave the cache alone while training"
            ) from error


def volume_cache_key(
    wholes: Sequence[Whole], hashes: Sequence[str], settings: VolumeSettings
) -> str:
    """A hash over the content of all files and the settings; equal keys mean equal files."""
    digest = hashlib.sha256(
        json.dumps(
            [
                "volumes",
                FORMAT,
                settings.channels,
                settings.labels.values,
                settings.labels.ignore,
                settings.snap,
                settings.plane,
                settings.spacing,
                [rule.model_dump() for rule in settings.intensity],
            ]
        ).encode()
    )
    for whole, content in zip(wholes, hashes, strict=True):
        digest.update(f"{whole.id}\0{content}\0".encode())
    return digest.hexdigest()[:24]


def open_volume_cache(
    wholes: Sequence[Whole],
    hashes: Sequence[str],
    settings: VolumeSettings,
    folder: Path,
    *,
    limit: int,
    progress: Progress | None = None,
    waiting: Callable[[], None] | None = None,
) -> VolumeCache:
    """Open the cache of volumes below ``folder``, building it when there is none
    (:func:`medseg.data.cache_folder.open_or_build`).

    Args:
        wholes: in the order of the cache; the mask of an unlabelled one is all ``IGNORE``.
        hashes: of the content of each one's images and masks.
        settings: how to read them.
        folder: holds one subfolder a cache.
        limit: bytes that all caches in ``folder`` may take.
        progress: called with (done, total).
        waiting: called once when another process is building this cache.

    Raises:
        MedsegError: the cache alone exceeds ``limit``, or ``folder`` cannot be written.
        DataError: a file cannot be read.
    """
    target = folder / volume_cache_key(wholes, hashes, settings)
    return open_or_build(
        target,
        read=lambda reused: _read(target, settings.channels, reused=reused),
        fill=lambda part: _fill(part, wholes, settings, progress),
        needed=lambda: sum(_size(_shape(whole, settings), settings.channels) for whole in wholes),
        limit=limit,
        smaller="lower the resolution (larger numbers for data.spacing)",
        waiting=waiting,
    )


def _shape(whole: Whole, settings: VolumeSettings) -> Shape:
    grid = grid_of(whole.image, settings.plane)
    return network_shape(grid.shape, grid.spacing, settings.spacing)


def _size(shape: Shape, channels: int) -> int:
    return int(np.prod(shape)) * (2 * channels + 1)


def _file(folder: Path, row: int, what: str) -> Path:
    return folder / f"{row:05}.{what}.npy"


def _read(folder: Path, channels: int, *, reused: bool) -> VolumeCache | None:
    """The finished cache in ``folder``, or None when there is none or it is damaged."""
    try:
        noted = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
        ids = tuple(str(name) for name, _ in noted)
        shapes = tuple((int(s), int(h), int(w)) for _, (s, h, w) in noted)
    except (OSError, ValueError, TypeError):
        return None
    if not all(_file(folder, row, "places").is_file() for row in range(len(ids))):
        return None
    return VolumeCache(folder, ids, shapes, channels, reused)


def _fill(
    folder: Path, wholes: Sequence[Whole], settings: VolumeSettings, progress: Progress | None
) -> None:
    """Write the files of all volumes that are not in ``folder`` yet."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = []
    with ThreadPoolExecutor(min(_MAX_WORKERS, os.cpu_count() or 1)) as pool:
        store = partial(_store, folder=folder, settings=settings)
        for done, shape in enumerate(pool.map(store, range(len(wholes)), wholes), start=1):
            shapes.append(shape)
            if progress is not None:
                progress(done, len(wholes))
    noted = [[whole.id, shape] for whole, shape in zip(wholes, shapes, strict=True)]
    write_text(folder / FINISHED, json.dumps(noted))


def _store(row: int, whole: Whole, *, folder: Path, settings: VolumeSettings) -> Shape:
    """Write the files of a volume, unless an earlier build has; its shape."""
    if _file(folder, row, "places").is_file():
        stored_shape: Shape = np.load(_file(folder, row, "mask"), mmap_mode="r").shape
        return stored_shape
    spacing = grid_of(whole.image, settings.plane).spacing
    stored = read_image(
        whole.image, settings.channels, settings.plane, max_pixels=settings.max_pixels
    )
    image = prepare_image(stored, settings.intensity, spacing, settings.spacing)
    mask: NDArray[np.uint8] = np.full(image.shape[1:], IGNORE, np.uint8)
    if whole.mask is not None:
        classes = read_mask(
            whole,
            settings.labels,
            settings.plane,
            snap=settings.snap,
            max_pixels=settings.max_pixels,
        )
        mask = prepare_mask(classes, spacing, settings.spacing)
    for what, array in (
        ("image", np.clip(image, -_LARGEST, _LARGEST).astype(np.float16)),
        ("mask", mask),
        ("places", _places(mask, len(settings.labels.labels))),
    ):
        with atomic_path(_file(folder, row, what)) as part:
            np.save(part, array)
    slices, rows, columns = mask.shape
    return slices, rows, columns


def _places(mask: NDArray[np.uint8], classes: int) -> NDArray[np.int32]:
    """Evenly random voxels of each foreground class, the same for the same mask."""
    random = np.random.default_rng(0)
    found = [np.empty((0, 4), np.int32)]
    for index in range(1, classes):
        inside = np.flatnonzero(mask == index)
        chosen = random.choice(inside, min(PLACES, len(inside)), replace=False)
        voxels = np.stack(np.unravel_index(np.sort(chosen), mask.shape), axis=1)
        found.append(np.insert(voxels, 0, index, axis=1).astype(np.int32))
    return np.concatenate(found)
