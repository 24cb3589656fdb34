"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medseg.errors import MedsegError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds.

    When the block or the final rename fails, the temporary file is removed and whatever was at
    ``path`` before is untouched.

    Raises:
        MedsegError: the folder cannot be written or the disk is full.
    """
    part = path.with_name(f".{secrets.token_hex(6)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        # Windows flushes only files that are open for writing.
        with part.open("r+b") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MedsegError(
            path, f"could not be written ({reason})", "Free space or choose another output folder"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically; what UTF-8 cannot hold as ``\\udcxx``."""
    with atomic_path(path) as part:
        # File names that are not UTF-8 reach us as surrogates, which UTF-8 cannot hold.
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
