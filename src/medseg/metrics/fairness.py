"""How equally good predictions are for the groups of an attribute, such as women and men.

Equity-scaled scores: Tian, Shi, Luo et al. 2023, "FairSeg", arXiv 2311.02189, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.statistics import (
    DRAWS_AT_ONCE,
    Interval,
    Values,
    bootstrap_mean,
    unit_sums,
    units_of,
)

EQUITY_METRICS = ("dice", "iou")
"""The metrics that are scaled by equity."""

FEW_CASES = 10
"""Groups of fewer cases are said to be small."""

PERMUTATIONS = 4999

# Two statistics that differ by less are the same but for rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Equity:
    """One metric over the groups of one attribute.

    Attributes:
        attribute: e.g. ``"sex"``.
        metric: its name.
        label: the class, or None for each case's mean over classes.
        groups: name to the mean over its cases, sorted by name; without a mean where no case of
            the group has a defined value.
        overall: the mean over the cases whose group is known.
        equity_scaled: :func:`equity_scaled` of these; None below two groups with a mean.
        worst: the group with the lowest mean; None below two groups, as are the others.
        best: that with the highest.
        gap: how far the worst is below the best.
        p: in what share of random groupings the means are as far from the overall one or farther
            (permutation test): a large value says that such differences arise by chance.
        unknown: cases whose group is not known; they count nowhere here.
    """

    attribute: str
    metric: str
    label: str | None
    groups: Mapping[str, Interval]
    overall: float | None
    equity_scaled: float | None
    worst: str | None
    best: str | None
    gap: float | None
    p: float | None
    unknown: int

    @property
    def small(self) -> tuple[str, ...]:
        """Groups of so few cases that their means say little."""
        return tuple(name for name, mean in self.groups.items() if mean.n < FEW_CASES)


def equity_scaled(overall: float, groups: Iterable[float], *, alpha: float = 1.0) -> float:
    """``overall / (1 + alpha * sum |overall - group|)``.

    It equals the overall score where all groups score alike, and is less otherwise. More groups
    have more differences, so that only scores over the same groups compare.

    Args:
        overall: score of all, such as a mean Dice; higher is better, 0 to 1.
        groups: score of each group.
        alpha: how much differences count, 0 or more.
    """
    return overall / (1 + alpha * sum(abs(overall - group) for group in groups))


def equity(
    values: Sequence[float],
    groups: Sequence[str | None],
    *,
    attribute: str,
    metric: str,
    label: str | None = None,
    patients: Sequence[str | None] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Equity:
    """Compare the groups of an attribute by one metric.

    Args:
        values: of each case, higher is better; NaN where undefined, which is left out.
        groups: of each case; None where it is not known.
        attribute: for the result.
        metric: likewise.
        label: likewise.
        patients: of each case; intervals then resample patients, and random groupings exchange
            whole patients, unless one has cases in two groups.
        confidence: of the intervals.
        seed: of resamples and random groupings.
    """
    given = np.asarray(values, np.float64)
    owners = list(patients) if patients is not None else [None] * len(given)
    names = sorted({group for group in groups if group is not None})
    of_group = {
        name: [place for place, group in enumerate(groups) if group == name] for name in names
    }
    intervals = {
        name: bootstrap_mean(
            given[places],
            groups=[owners[place] for place in places],
            confidence=confidence,
            seed=seed,
        )
        for name, places in of_group.items()
    }
    kept = [
        place for place, group in enumerate(groups)
        if group is not None and not math.isnan(given[place])
    ]  # fmt: skip
    means = {name: each.mean for name, each in intervals.items() if each.mean is not None}
    overall = float(given[kept].mean()) if kept else None
    scaled = worst = best = gap = p = None
    if overall is not None and len(means) > 1:
        scaled = equity_scaled(overall, means.values())
        worst, best = (choose(means, key=means.__getitem__) for choose in (min, max))
        gap = means[best] - means[worst]
        p = _chance(
            given[kept],
            np.array([names.index(str(groups[place])) for place in kept]),
            units_of([owners[place] for place in kept], len(kept)),
            seed,
        )
    unknown = sum(group is None for group in groups)
    return Equity(
        attribute, metric, label, intervals, overall, scaled, worst, best, gap, p, unknown
    )


def _chance(values: Values, groups: NDArray[np.intp], units: NDArray[np.intp], seed: int) -> float:
    """p of the sum of the groups' distances from the overall mean, over random groupings.

    Args:
        values: (N,) of the cases.
        groups: (N,) numbers of their groups.
        units: (N,) numbers of their patients; each case counts as its own where a patient has
            cases in two groups.
        seed: of the groupings.
    """
    _, first, dense = np.unique(units, return_index=True, return_inverse=True)
    if (groups[first][dense.reshape(-1)] != groups).any():
        units, first = np.arange(len(values)), np.arange(len(values))
    sums, sizes = unit_sums(values, units)
    mean = sums.sum() / sizes.sum()
    numbers = np.unique(groups)

    def apart(owners: NDArray[np.intp]) -> Values:
        """(B,) of groupings (B, U)."""
        total = np.zeros(len(owners))
        for number in numbers:
            of_group = owners == number
            total += np.abs((of_group @ sums) / (of_group @ sizes) - mean)
        return total

    owners = groups[first]
    found = apart(owners[None])[0]
    rng = np.random.default_rng(seed)
    most, farther = max(1, DRAWS_AT_ONCE // len(owners)), 0
    for start in range(0, PERMUTATIONS, most):
        block = np.tile(owners, (min(most, PERMUTATIONS - start), 1))
        farther += int((apart(rng.permuted(block, axis=1)) >= found - _ROUNDING).sum())
    return (farther + 1) / (PERMUTATIONS + 1)
