"""What a service lets one client, and all of them, use."""

from __future__ import annotations

from dataclasses import dataclass, field

from medseg.cores import threads

HEADER_SECONDS = 10.0
"""For the head of a request, and for what a closed connection still has to take."""
KEEP_ALIVE_SECONDS = 15
MAX_CONNECTIONS = 512
"""Further ones are closed at once."""


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
    workers: int = field(default_factory=threads)

    @property
    def threads(self) -> int:
        """That compute one image."""
        return max(1, threads() // self.workers)

    @property
    def max_bodies(self) -> int:
        """Bytes of all bodies that are held at a time."""
        return 8 * self.max_upload
