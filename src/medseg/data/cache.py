"""Decoded, resized cases in files that are mapped into memory, so that files are decoded once.

A cache is a folder: ``images.npy`` (N, S, S, C) uint8; ``masks.bin``, each mask's class indices
compressed with zlib; ``offsets.npy`` (N + 1), where they lie in it; ``sums.npy`` (N, C, 2), the
sums of the pixels and of their squares; ``cases.json``, the ids, which is written last. While it
is built, ``progress.json`` says how many cases are done.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.cache_folder import FINISHED, Progress, open_or_build
from medseg.data.case import IGNORE, Case, LabelMap
from medseg.data.labels import Snap, read_classes
from medseg.data.preprocess import resize_image, resize_mask, to_channels
from medseg.files import write_text

# Raise when the bytes in a cache change meaning: old caches are then rebuilt.
FORMAT = 3

# Masks of 256 px take 0.4 to 5 kB compressed, mostly below 2 kB; see benchmarks/results/cache.json.
_MASK_COMPRESSION = 32

# Cases between two notes of what is done; what comes after the last one is done again.
_NOTE_EVERY = 256


@dataclass(frozen=True)
class CacheSettings:
    """What, besides the files' content, determines the cached bytes."""

    image_size: int
    channels: int
    labels: LabelMap
    snap: Snap
    max_pixels: int


@dataclass(frozen=True)
class PackedMasks:
    """N compressed masks.

    Attributes:
        data: the concatenated zlib streams.
        offsets: ``(N + 1,)``, where each begins and the last ends.
        size: S.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    size: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """``(B, S, S)`` uint8 class indices or ``IGNORE``."""
        masks = np.empty((len(rows), self.size, self.size), np.uint8)
        for mask, row in zip(masks, rows, strict=True):
            stream = self.data[self.offsets[row] : self.offsets[row + 1]]
            mask.ravel()[:] = np.frombuffer(zlib.decompress(stream.data), np.uint8)
        return masks


@dataclass(frozen=True)
class CaseCache:
    """N cases of one dataset.

    Attributes:
        folder: where the arrays lie.
        ids: of the cases, in the arrays' order.
        images: ``(N, S, S, C)`` uint8, memory-mapped, read-only.
        masks: N masks of ``(S, S)`` uint8 class indices or ``IGNORE``.
        sums: ``(N, C, 2)`` int64, of the pixels of each image and of their squares.
        reused: whether the arrays were found rather than made.
    """

    folder: Path
    ids: tuple[str, ...]
    images: NDArray[np.uint8]
    masks: PackedMasks
    sums: NDArray[np.int64]
    reused: bool

    @property
    def bytes(self) -> int:
        return int(self.images.nbytes + self.masks.data.nbytes)

    def release(self) -> None:
        """Give the mapped pages back; they count as this process's memory from reading until then.

        The system keeps them in its file cache, so reading them again stays cheap.
        """
        _give_back(self.images, self.masks.data)

    def rows(self, case_ids: Sequence[str]) -> NDArray[np.int64]:
        """Places of cases in the arrays."""
        place = {case_id: row for row, case_id in enumerate(self.ids)}
        return np.array([place[case_id] for case_id in case_ids], dtype=np.int64)

    def channel_statistics(
        self, rows: NDArray[np.int64]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over the images at ``rows``, on the scale
        0..1.

        Computed from sums of integers, so the order does not matter. A deviation below 1/255 is
        raised to it.
        """
        pixels = len(rows) * self.images.shape[1] * self.images.shape[2]
        totals = self.sums[rows].sum(axis=0)
        mean = totals[:, 0] / pixels
        variance = totals[:, 1] / pixels - mean**2
        std = np.sqrt(np.maximum(variance, 1))
        return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def _give_back(*arrays: NDArray[Any]) -> None:
    """Drop mapped pages from this process's memory; what was written stays with the system."""
    for array in arrays:
        if hasattr(mmap, "MADV_DONTNEED") and isinstance(array, np.memmap) and array.size:
            array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def cache_key(cases: Sequence[Case], hashes: Sequence[str], settings: CacheSettings) -> str:
    """A hash over the content of all files and the settings; equal keys mean equal arrays."""
    digest = hashlib.sha256(
        json.dumps(
            [
                FORMAT,
                settings.image_size,
                settings.channels,
                settings.labels.values,
                settings.labels.rgb,
                settings.labels.ignore,
                settings.snap,
            ]
        ).encode()
    )
    for case, content in zip(cases, hashes, strict=True):
        digest.update(f"{case.id}\0{content}\0".encode())
    return digest.hexdigest()[:24]


def open_cache(
    cases: Sequence[Case],
    hashes: Sequence[str],
    settings: CacheSettings,
    folder: Path,
    *,
    limit: int,
    progress: Progress | None = None,
    waiting: Callable[[], None] | None = None,
) -> CaseCache:
    """Open the cache of ``cases`` below ``folder``, building it when there is none
    (:func:`medseg.data.cache_folder.open_or_build`).

    Args:
        cases: the arrays keep their order; the mask of an unlabelled one is all ``IGNORE``.
        hashes: of each case's image and mask content.
        settings: how to decode and resize.
        folder: holds one subfolder a cache.
        limit: bytes that all caches in ``folder`` may take.
        progress: called with (done, total).
        waiting: called once when another process is building this cache.

    Raises:
        MedsegError: the cache alone exceeds ``limit``, or ``folder`` cannot be written.
        DataError: a file cannot be read.
    """
    target = folder / cache_key(cases, hashes, settings)
    pixels = len(cases) * settings.image_size**2
    return open_or_build(
        target,
        read=lambda reused: _read(target, reused=reused),
        fill=lambda part: _fill(part, cases, settings, progress),
        needed=lambda: pixels * settings.channels + pixels // _MASK_COMPRESSION,
        limit=limit,
        smaller="lower --image-size",
        waiting=waiting,
    )


def _read(folder: Path, *, reused: bool) -> CaseCache | None:
    """The finished cache in ``folder``, or None when there is none or it is damaged."""
    try:
        ids = tuple(json.loads((folder / FINISHED).read_text(encoding="utf-8")))
        images = np.load(folder / "images.npy", mmap_mode="r")
        offsets = np.load(folder / "offsets.npy")
        sums = np.load(folder / "sums.npy")
        data = np.memmap(folder / "masks.bin", np.uint8, "r")
    except (OSError, ValueError, EOFError):
        return None
    fits = len(images) == len(sums) == len(offsets) - 1 == len(ids) and offsets[-1] == len(data)
    if not fits:
        return None
    return CaseCache(folder, ids, images, PackedMasks(data, offsets, images.shape[1]), sums, reused)


def _fill(
    folder: Path, cases: Sequence[Case], settings: CacheSettings, progress: Progress | None
) -> None:
    size, channels = settings.image_size, settings.channels
    shape = (len(cases), size, size, channels)
    done, written = _begun(folder, shape)
    if done == 0:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _new_array(folder / "images.npy", np.uint8, shape)
        _new_array(folder / "sums.npy", np.int64, (len(cases), channels, 2))
        _new_array(folder / "offsets.npy", np.int64, (len(cases) + 1,))
        (folder / "masks.bin").touch()
    images, sums, offsets = (
        np.lib.format.open_memmap(folder / f"{name}.npy", "r+")
        for name in ("images", "sums", "offsets")
    )

    def decode(row: int) -> bytes:
        case = cases[row]
        image = to_channels(case.image.read_image(max_pixels=settings.max_pixels), channels)
        images[row] = np.rint(resize_image(image, size))
        wide = images[row].reshape(-1, channels).astype(np.int64)
        sums[row] = np.stack([wide.sum(0), (wide**2).sum(0)], axis=1)
        if case.mask is None:
            return zlib.compress(np.full((size, size), IGNORE, np.uint8).tobytes())
        classes = read_classes(
            case.mask,
            settings.labels,
            snap=settings.snap,
            field_of_view=case.field_of_view,
            max_pixels=settings.max_pixels,
        )
        return zlib.compress(resize_mask(classes, size).tobytes())

    def note() -> None:
        """Say what is done, once it is on the disk."""
        masks.flush()
        os.fsync(masks.fileno())
        for array in (images, sums, offsets):
            array.flush()
        _give_back(images)
        write_text(folder / "progress.json", json.dumps({"cases": done, "bytes": written}))

    if progress is not None:
        progress(done, len(cases))
    with (folder / "masks.bin").open("r+b") as masks, ThreadPoolExecutor(os.cpu_count()) as pool:
        masks.truncate(written)
        masks.seek(written)
        for mask in _in_order(pool, decode, range(done, len(cases))):
            masks.write(mask)
            done, written = done + 1, written + len(mask)
            offsets[done] = written
            if done % _NOTE_EVERY == 0:
                note()
            if progress is not None:
                progress(done, len(cases))
        note()
    (folder / "progress.json").unlink()
    write_text(folder / FINISHED, json.dumps([case.id for case in cases]))


def _begun(folder: Path, shape: tuple[int, ...]) -> tuple[int, int]:
    """Cases and mask bytes that a killed build has left; 0 and 0 when nothing can be used."""
    try:
        noted = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        done, written = int(noted["cases"]), int(noted["bytes"])
        images = np.load(folder / "images.npy", mmap_mode="r")
        sums = np.load(folder / "sums.npy", mmap_mode="r")
        offsets = np.load(folder / "offsets.npy", mmap_mode="r")
        fits = images.shape == shape and len(sums) == len(offsets) - 1 == shape[0]
        fits = fits and (folder / "masks.bin").stat().st_size >= written == offsets[done]
    except (OSError, ValueError, EOFError, KeyError, TypeError, IndexError):
        return 0, 0
    return (done, written) if fits else (0, 0)


def _in_order(
    pool: ThreadPoolExecutor, decode: Callable[[int], bytes], rows: range
) -> Iterator[bytes]:
    """``decode`` of each row, in their order, a few ahead."""
    waiting: deque[Future[bytes]] = deque()
    source = iter(rows)
    try:
        for row in islice(source, 64):
            waiting.append(pool.submit(decode, row))
        while waiting:
            yield waiting.popleft().result()
            for row in islice(source, 1):
                waiting.append(pool.submit(decode, row))
    finally:
        for future in waiting:
            future.cancel()


def _new_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    np.lib.format.open_memmap(path, "w+", dtype, shape)
    # Writing to a mapped file whose blocks the disk cannot give kills the process (SIGBUS);
    # asking for them first is an OSError.
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
