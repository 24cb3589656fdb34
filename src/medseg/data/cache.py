"""Decoded, resized cases in memory-mapped arrays, so that files are decoded once."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import Case, LabelMap
from medseg.data.labels import Snap, read_classes
from medseg.data.preprocess import resize_image, resize_mask, to_channels
from medseg.errors import MedsegError

Progress = Callable[[int, int], None]

# Raise when the bytes in a cache change meaning: old caches are then rebuilt.
FORMAT = 2


@dataclass(frozen=True)
class CacheSettings:
    """What, besides the files' content, determines the cached bytes."""

    image_size: int
    channels: int
    labels: LabelMap
    snap: Snap
    max_pixels: int


@dataclass(frozen=True)
class CaseCache:
    """N cases of one dataset.

    Attributes:
        folder: where the arrays lie.
        ids: of the cases, in the arrays' order.
        images: ``(N, S, S, C)`` uint8, memory-mapped, read-only.
        masks: ``(N, S, S)`` uint8 class indices or ``IGNORE``, memory-mapped, read-only.
        reused: whether the arrays were found rather than made.
    """

    folder: Path
    ids: tuple[str, ...]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    reused: bool

    @property
    def bytes(self) -> int:
        return int(self.images.nbytes + self.masks.nbytes)

    def release(self) -> None:
        """Give the mapped pages back; they count as this process's memory from reading until then.

        The system keeps them in its file cache, so reading them again stays cheap.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            for array in (self.images, self.masks):
                if isinstance(array, np.memmap) and array.size:
                    array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def rows(self, case_ids: Sequence[str]) -> NDArray[np.int64]:
        """Places of cases in the arrays."""
        place = {case_id: row for row, case_id in enumerate(self.ids)}
        return np.array([place[case_id] for case_id in case_ids], dtype=np.int64)


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
) -> CaseCache:
    """Open the cache of labelled ``cases`` below ``folder``, building it when there is none.

    Caches not used for longest are deleted when the folder would exceed ``limit`` bytes. A build
    happens beside its final place, so that a killed one leaves nothing that looks finished, and
    two trainings may build the same cache at once.

    Args:
        cases: labelled cases; the arrays keep their order.
        hashes: of each case's image and mask content.
        settings: how to decode and resize.
        folder: holds one subfolder a cache.
        limit: bytes that all caches in ``folder`` may take.
        progress: called with (done, total).

    Raises:
        MedsegError: the cache alone exceeds ``limit``, or ``folder`` cannot be written.
        DataError: a file cannot be read.
    """
    target = folder / cache_key(cases, hashes, settings)
    found = _read(target, reused=True)
    if found is not None:
        # Marks the cache as used, for make_room; a shared one may be read-only.
        with suppress(OSError):
            os.utime(target / "cases.json")
        return found
    size = settings.image_size
    needed = len(cases) * size * size * (settings.channels + 1)
    build = folder / f"{target.name}.{secrets.token_hex(4)}.part"
    try:
        _delete(target)
        make_room(folder, needed, limit)
        build.mkdir(parents=True)
        _fill(build, cases, settings, progress)
        # Fails when another process has just finished the same cache, which is then taken.
        with suppress(OSError):
            os.rename(build, target)
        made = _read(target, reused=False)
        if made is None:
            raise OSError("it cannot be read back")
        return made
    except OSError as error:
        raise MedsegError(
            folder,
            f"the cache of {needed / 1e9:.2f} GB could not be written ({error.strerror or error})",
            "Free space, or choose another folder with -o or --cache-dir",
        ) from error
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _read(folder: Path, *, reused: bool) -> CaseCache | None:
    """The finished cache in ``folder``, or None when there is none or it is damaged."""
    try:
        return CaseCache(
            folder=folder,
            ids=tuple(json.loads((folder / "cases.json").read_text(encoding="utf-8"))),
            images=np.load(folder / "images.npy", mmap_mode="r"),
            masks=np.load(folder / "masks.npy", mmap_mode="r"),
            reused=reused,
        )
    except (OSError, ValueError, EOFError):
        return None


def _delete(folder: Path) -> None:
    """Delete a cache so that, if this is cut short, what is left does not look like one."""
    doomed = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.part")
    with suppress(OSError):
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def make_room(folder: Path, needed: int, limit: int) -> None:
    """Delete least recently used caches until ``needed`` more bytes fit into ``limit``.

    Parts of builds that nobody has touched for a day are deleted as well.

    Raises:
        MedsegError: ``needed`` exceeds ``limit``.
    """
    if needed > limit:
        raise MedsegError(
            "--cache-limit",
            f"the cache needs {needed / 1e9:.2f} GB and may take {limit / 1e9:.2f} GB",
            "Raise the limit or lower --image-size",
        )
    if not folder.is_dir():
        return
    for part in folder.glob("*.part"):
        if time.time() - part.stat().st_mtime > 86_400:
            shutil.rmtree(part, ignore_errors=True)
    finished = sorted(folder.glob("*/cases.json"), key=lambda path: path.stat().st_mtime)
    sizes = {path: sum(f.stat().st_size for f in path.parent.iterdir()) for path in finished}
    for path in finished:
        if sum(sizes.values()) + needed <= limit:
            break
        _delete(path.parent)
        del sizes[path]


def _new_array(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    # Writing to a mapped file whose blocks the disk cannot give kills the process (SIGBUS);
    # asking for them first is an OSError.
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _fill(
    folder: Path, cases: Sequence[Case], settings: CacheSettings, progress: Progress | None
) -> None:
    size = settings.image_size
    images = _new_array(folder / "images.npy", (len(cases), size, size, settings.channels))
    masks = _new_array(folder / "masks.npy", (len(cases), size, size))

    def decode(row: int) -> None:
        case = cases[row]
        assert case.mask is not None
        image = to_channels(
            case.image.read_image(max_pixels=settings.max_pixels), settings.channels
        )
        images[row] = np.rint(resize_image(image, size))
        classes = read_classes(
            case.mask,
            settings.labels,
            snap=settings.snap,
            field_of_view=case.field_of_view,
            max_pixels=settings.max_pixels,
        )
        masks[row] = resize_mask(classes, size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(decode, range(len(cases))), start=1):
            if progress is not None:
                progress(done, len(cases))
    images.flush()
    masks.flush()
    (folder / "cases.json").write_text(json.dumps([case.id for case in cases]), encoding="utf-8")


def channel_statistics(
    images: NDArray[np.uint8], rows: NDArray[np.int64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over ``images[rows]``, on the scale 0..1.

    Exact whatever the order, because it is computed from histograms. A deviation below 1/255
    is raised to it.
    """
    channels = images.shape[3]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for row in rows:
        for channel in range(channels):
            counts[channel] += np.bincount(images[row, :, :, channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ levels
    variance = shares @ levels**2 - mean**2
    std = np.sqrt(np.maximum(variance, 1 / 255**2))
    return tuple(float(m) for m in mean), tuple(float(s) for s in std)
