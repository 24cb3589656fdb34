"""What a service lets one client, and all of them, use."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

HEADER_SECONDS = 10.0
"""For the head of a request, and for what a closed connection still has to take."""
KEEP_ALIVE_SECONDS = 15
MAX_CONNECTIONS = 512
"""Further ones are closed at once."""


def cores() -> int:
    """Cores that this process may keep busy."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    if allowed.isdecimal() and int(allowed):
        return int(allowed)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Limits:
    """What a service lets one client, and all of them, use.

    Attributes:
        max_upload: bytes of a request's body.
        max_pixels: of an image.
        timeout: seconds for a body to arrive, and again for the answer.
        queue: requests that wait beside those being computed.
        workers: images computed at a time.
    """

    max_upload: int = 32_000_000
    max_pixels: int = 25_000_000
    timeout: float = 60.0
    queue: int = 64
    workers: int = field(default_factory=cores)

    @property
    def threads(self) -> int:
        """That compute one image."""
        return max(1, cores() // self.workers)

    @property
    def max_bodies(self) -> int:
        """Bytes of all bodies that are held at a time."""
        return 8 * self.max_upload
