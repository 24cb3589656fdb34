"""Random amounts that a sample's key decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Chance:
    """Amounts that come up with a probability, all decided by a key of non-negative integers.

    Each takes two numbers of the sequence, whether or not it comes up: a part that is switched off
    does not change what the parts after it draw.
    """

    def __init__(self, key: Sequence[int]) -> None:
        self._random = np.random.default_rng(list(key))

    def between(self, probability: float, low: float, high: float, neutral: float) -> float:
        """Evenly from ``low`` to ``high`` with ``probability``, else ``neutral``."""
        chance, amount = self._random.random(2).tolist()
        return float(low + (high - low) * amount) if chance < probability else neutral

    def around(self, centre: float, probability: float, size: float) -> float:
        """At most ``size`` from ``centre`` with ``probability``, else ``centre``."""
        return self.between(probability, centre - size, centre + size, centre)

    def seed(self) -> int:
        """For whoever draws more."""
        return int(self._random.integers(2**63))
