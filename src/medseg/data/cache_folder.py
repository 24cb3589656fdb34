"""Folders into which files are decoded once: one process builds, others wait, old ones make room.

A cache is a subfolder that is finished once ``cases.json`` lies in it. While it is built it lies
beside its final place, so that a killed build leaves nothing that looks finished.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from medseg.errors import MedsegError

Progress = Callable[[int, int], None]

FINISHED = "cases.json"
"""The file of a cache that is written last."""

_FORSAKEN = 86_400
"""Seconds after which a build that nobody has gone on with is deleted."""

C = TypeVar("C")


def open_or_build(
    target: Path,
    *,
    read: Callable[[bool], C | None],
    fill: Callable[[Path], None],
    needed: Callable[[], int],
    limit: int,
    smaller: str,
    waiting: Callable[[], None] | None = None,
) -> C:
    """Open the cache at ``target``, building it when there is none.

    Caches not used for longest are deleted when those beside it would exceed ``limit`` bytes. What
    a killed build has left is given to the next ``fill``. One process builds a cache, others wait
    for it.

    Args:
        target: the cache's folder.
        read: gives the finished cache, told whether it was found rather than made; None where
            there is none or it is damaged.
        fill: writes all files of the cache into a folder, which may hold those of a killed build.
        needed: bytes that the cache will take.
        limit: bytes that all caches beside ``target`` may take with it.
        smaller: what to do for a smaller cache, for the error's remedy.
        waiting: called once when another process is building this cache.

    Raises:
        MedsegError: the cache alone exceeds ``limit``, or it cannot be written; or what ``fill``
            raises.
    """
    found = read(True)
    if found is None:
        size = needed()
        try:
            _check_limit(size, limit, smaller)
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(target.with_suffix(".lock"), waiting):
                found = read(True)
                if found is None:
                    _delete(target)
                    part = target.with_suffix(".part")
                    make_room(target.parent, size, limit, keep=part)
                    _build(target, part, fill)
                    found = read(False)
        except OSError as error:
            raise MedsegError(
                target.parent,
                f"the cache of {size / 1e9:.2f} GB could not be written "
                f"({error.strerror or error})",
                "Free space, or choose another folder with -o or --cache-dir",
            ) from error
        if found is None:
            raise MedsegError(target, "it cannot be read back", "Choose another --cache-dir")
    # Marks the cache as used, for make_room; a shared one may be read-only.
    with suppress(OSError):
        os.utime(target / FINISHED)
    return found


def make_room(folder: Path, needed: int, limit: int, *, keep: Path | None = None) -> None:
    """Delete least recently used caches until ``needed`` more bytes fit into ``limit``.

    Builds that nobody has gone on with for a day are deleted as well, except ``keep``.
    """
    if not folder.is_dir():
        return
    for part in folder.glob("*.part"):
        if part != keep and time.time() - part.stat().st_mtime > _FORSAKEN:
            shutil.rmtree(part, ignore_errors=True)
    finished = sorted(folder.glob(f"*/{FINISHED}"), key=lambda path: path.stat().st_mtime)
    sizes = {path: sum(f.stat().st_size for f in path.parent.iterdir()) for path in finished}
    for path in finished:
        if sum(sizes.values()) + needed <= limit:
            break
        _delete(path.parent)
        del sizes[path]


def _check_limit(needed: int, limit: int, smaller: str) -> None:
    if needed > limit:
        raise MedsegError(
            "--cache-limit",
            f"the cache needs {needed / 1e9:.2f} GB and may take {limit / 1e9:.2f} GB",
            f"Raise the limit or {smaller}",
        )


@contextmanager
def _locked(path: Path, waiting: Callable[[], None] | None) -> Iterator[None]:
    """Hold the lock at ``path``, which the system frees when its holder dies.

    Who waited for a file that its holder has deleted takes a new one (filelock sees to it).
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting is not None:
            waiting()
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()


def _delete(folder: Path) -> None:
    """Delete a cache so that, if this is cut short, what is left does not look like one."""
    doomed = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.part")
    with suppress(OSError):
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _build(target: Path, part: Path, fill: Callable[[Path], None]) -> None:
    """Fill ``target``; when this is killed, ``part`` stays to be gone on with."""
    try:
        fill(part)
        # Renaming onto what is left of a damaged cache would fail.
        shutil.rmtree(target, ignore_errors=True)
        os.rename(part, target)
    except (OSError, MedsegError):
        shutil.rmtree(part, ignore_errors=True)
        raise
