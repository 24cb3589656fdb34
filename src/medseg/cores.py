"""How many cores there are for the work, and how many threads were asked for."""

from __future__ import annotations

import os


def cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_asked_for() -> int | None:
    """``OMP_NUM_THREADS``, of which only the outermost level counts; None where it is no number."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return (int(first) or None) if first.isdecimal() else None


def threads() -> int:
    """For one computation: as many as were asked for, else all cores."""
    return threads_asked_for() or cores()
