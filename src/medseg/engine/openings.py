"""How often the test part of a run has been looked at.

Each scoring of test cases adds a line to ``RUN/test_openings.jsonl``. It is a record, not a lock:
scores made from predicted masks alone, or with a model file outside its run, are not in it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medseg import __version__

OPENINGS = "test_openings.jsonl"


@dataclass(frozen=True, slots=True)
class Opening:
    """One look at the test part.

    Attributes:
        scored: the data and the part of them, e.g. ``"photos (test part)"``.
        cases: how many test cases were scored.
        weights_sha256: of the model.
        data_hash: of the data it was trained on.
        time: UTC, ISO 8601, to the second.
        medseg: its version.
    """

    scored: str
    cases: int
    weights_sha256: str
    data_hash: str
    time: str = ""
    medseg: str = __version__


def log_opening(run: Path, opening: Opening) -> None:
    """Add a line, in one write, so that others who do so at the same time lose none.

    Raises:
        OSError: the run's folder cannot be written.
    """
    stamped = {**asdict(opening), "time": datetime.now(UTC).isoformat(timespec="seconds")}
    line = json.dumps(stamped, ensure_ascii=True) + "\n"
    with (run / OPENINGS).open("a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        # A line that a full disk cut off must not swallow this one.
        torn = end > 0 and file.read(1) != b"\n"
        file.write(f"{chr(10) if torn else ''}{line}".encode())
        os.fsync(file.fileno())


def read_openings(run: Path) -> list[dict[str, Any]]:
    """All openings, the first one first; a damaged line is an opening of which nothing is known."""
    try:
        lines = (run / OPENINGS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [_record(line) for line in lines if line.strip()]


def ordinal(count: int) -> str:
    """``"1st"``, ``"2nd"``, ``"11th"``."""
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{'th' if count % 100 in (11, 12, 13) else suffix}"


def _record(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
