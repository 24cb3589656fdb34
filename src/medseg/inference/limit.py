"""Amounts of memory as people write them."""

from __future__ import annotations

import math
import re

from medseg.errors import MedsegError


def parse_ram(text: str) -> int:
    """``"2GB"``, ``"800 MB"`` or ``"1.5GiB"`` in bytes.

    Raises:
        MedsegError: no amount of memory.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt])(i?)b", text.strip(), re.IGNORECASE)
    if match is None:
        raise MedsegError(
            f"--max-ram {text}", "it is no amount of memory", "Write a number and MB or GB: 2GB"
        )
    base, power = 1024 if match[3] else 1000, "kmgt".index(match[2].lower()) + 1
    return round(float(match[1]) * float(base**power))


def as_bytes(amount: str | int | None) -> int | None:
    """An amount of memory in bytes, whichever way it is given."""
    return parse_ram(amount) if isinstance(amount, str) else amount


def show_ram(count: float) -> str:
    """In MB, rounded up, as :func:`parse_ram` takes it."""
    return f"{math.ceil(count / 1e6):,} MB".replace(",", "")
