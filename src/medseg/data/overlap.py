"""Images that are in two datasets: a model trained on one is not tested by the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from medseg.data import duplicates
from medseg.data.case import Problem
from medseg.data.survey import NearPair, Survey
from medseg.errors import plural


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two datasets have in common.

    Attributes:
        first: a dataset.
        second: another.
        pairs: equal and nearly equal images, nearest first; ``first`` of a pair is a case of the
            first dataset.
        limit: the distance up to which a pair is near.
    """

    first: Survey
    second: Survey
    pairs: tuple[NearPair, ...]
    limit: float

    @property
    def problem(self) -> Problem | None:
        """A warning when there are pairs."""
        if not self.pairs:
            return None
        shown = ", ".join(f"{pair.first} = {pair.second}" for pair in self.pairs[:3])
        more = " ..." if len(self.pairs) > 3 else ""
        return Problem(
            "warning",
            "near-duplicate-between-sets",
            str(self.first.dataset.root),
            f"{plural(len({pair.first for pair in self.pairs}), 'image')} also in "
            f"{self.second.dataset.root}: {shown}{more}",
            "Remove them from one: a model trained on one dataset is not tested by the other",
        )


def find_overlaps(surveys: Sequence[Survey]) -> tuple[Overlap, ...]:
    """Compare the images of every two datasets."""
    return tuple(_overlap(first, second) for first, second in combinations(surveys, 2))


def _overlap(first: Survey, second: Survey) -> Overlap:
    if not first.thumbnails or not second.thumbnails:
        return Overlap(first, second, (), duplicates.NEAREST)
    names, others = list(first.thumbnails), list(second.thumbnails)
    found = duplicates.find_near(
        np.stack(list(first.thumbnails.values())),
        [None] * len(names),
        np.stack(list(second.thumbnails.values())),
    )
    pairs = tuple(
        NearPair(names[match.first], others[match.second], round(match.distance, 4))
        for match in found.matches
    )
    return Overlap(first, second, pairs, found.limit)
