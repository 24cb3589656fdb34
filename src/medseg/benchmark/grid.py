"""What a benchmark consists of: one training and its scores after another."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.benchmark.cell import OK, REQUIRED
from medseg.benchmark.spec import DataEntry, Spec, SystemEntry


@dataclass(frozen=True, slots=True)
class Cell:
    """One training and its scores.

    Attributes:
        system: what is trained.
        data: on what.
        seed: of the training.
        fold: the index of the fold that validates, before the number of folds is known; None for
            a plain split.
        folder: where it leaves its results.
    """

    system: SystemEntry
    data: DataEntry
    seed: int
    fold: int | None
    folder: Path

    @property
    def title(self) -> str:
        """For a line of progress."""
        return f"{self.system.name} on {self.data.name}, seed {self.seed}"

    def record(self) -> dict[str, Any] | None:
        """What ``cell.json`` holds; None for a cell that is not done, or a damaged file."""
        try:
            found = json.loads((self.folder / "cell.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(found, dict):
            return None
        needed = REQUIRED.get(str(found.get("status")))
        if needed is None or not found.keys() >= needed:
            return None
        mine = (self.system.name, self.data.name, self.seed)
        return found if (found["system"], found["data"], found["seed"]) == mine else None

    @property
    def finished(self) -> bool:
        """Whether it was trained and its test part scored. A cell that failed is tried again."""
        record = self.record()
        return (
            record is not None and record["status"] == OK and (self.folder / "test.csv").is_file()
        )

    def complete(self, unseen: Iterable[str]) -> bool:
        """Whether it is finished and was scored on all of ``unseen``."""
        record = self.record()
        if record is None or not self.finished:
            return False
        scored = {name for name, each in record["unseen"].items() if each["status"] == OK}
        return scored >= set(unseen)


def cells_of(spec: Spec, folder: Path) -> list[Cell]:
    """All cells: seeds vary slowest, so that a stopped grid has compared all systems."""
    return [
        Cell(
            system,
            data,
            seed,
            index if spec.folds else None,
            folder / "cells" / system.name / data.name / f"seed-{seed}",
        )
        for index, seed in enumerate(spec.seeds)
        for data in spec.data
        for system in spec.systems
    ]
