"""How far a mean over cases can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Values drawn at once: 4 MiB of float64, so that memory does not grow with the number of cases.
DRAWS_AT_ONCE = 1 << 19
# Two means that differ by less than this share of the values are the same but for rounding.
_ROUNDING = 1e-12

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over cases and where it would fall for other cases of the same kind.

    Attributes:
        mean: of the defined values; None when there is none.
        low: lower bound of the confidence interval; None below two values, or two groups.
        high: upper bound; None below two values, or two groups.
        n: how many values were defined.
        skipped: how many were NaN and left out.
        groups: how many groups (patients) they come from; None where each value is its own.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    skipped: int = 0
    groups: int | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of the cases: half of them lie between the quartiles, half below the median."""

    median: float
    lower: float
    upper: float


def spread(values: Iterable[float]) -> Spread | None:
    """Median and quartiles, interpolated linearly, of the defined values; None without any."""
    given = np.fromiter(values, dtype=np.float64)
    kept = given[~np.isnan(given)]
    if not kept.size:
        return None
    lower, median, upper = np.quantile(kept, [0.25, 0.5, 0.75])
    return Spread(float(median), float(lower), float(upper))


def bootstrap_mean(
    values: Iterable[float],
    *,
    groups: Sequence[str | None] | None = None,
    confidence: float = 0.95,
    resamples: int = 4999,
    seed: int = 0,
) -> Interval:
    """Mean and its bias-corrected and accelerated (BCa) bootstrap interval.

    Cases are resampled, so the interval covers the choice of cases; it says nothing of another
    training run. Cases of one patient are alike, and taking them as independent makes the interval
    too narrow: where ``groups`` names the patients, patients are resampled, each with all of its
    cases, and the acceleration comes from leaving out one patient at a time.

    Args:
        values: one per case; NaN marks an undefined one, which is skipped and counted.
        groups: the patient of each case; None or "" where unknown, which counts as a patient of
            its own.
        confidence: between 0 and 1, exclusive.
        resamples: bootstrap samples.
        seed: the same values and seed give the same interval.

    Returns:
        The interval; without bounds for fewer than two values or patients, since a single one
        does not show how they differ; of no width when all values are equal. Where BCa is
        undefined, because no resampled mean lies on one side of the mean, it is the percentile
        interval.

    Raises:
        ValueError: there are not as many groups as values.

    Source:
        B. Efron, "Better Bootstrap Confidence Intervals", J. Am. Stat. Assoc. 82 (1987);
        resampling whole clusters: A. C. Davison, D. V. Hinkley, "Bootstrap Methods and their
        Application" (1997), section 3.8.
    """
    given = np.fromiter(values, dtype=np.float64)
    defined = ~np.isnan(given)
    kept = given[defined]
    skipped = given.size - kept.size
    units = units_of(groups, given.size)[defined]
    sums, sizes = unit_sums(kept, units)
    clusters = sums.size if sums.size < kept.size else None
    if kept.size == 0:
        return Interval(None, None, None, 0, skipped)
    if np.ptp(kept) == 0 and sums.size > 1:
        same = float(kept[0])
        return Interval(same, same, same, kept.size, skipped, clusters)
    mean = float(kept.mean())
    if sums.size == 1:
        return Interval(mean, None, None, kept.size, skipped, clusters)
    low, high = _bca(sums, sizes, confidence, resamples, seed)
    return Interval(mean, low, high, kept.size, skipped, clusters)


def units_of(groups: Sequence[str | None] | None, count: int) -> NDArray[np.intp]:
    """The number of each case's unit: cases of one group share one, all others have their own.

    Raises:
        ValueError: there are not ``count`` groups.
    """
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise ValueError(f"{len(groups)} groups for {count} values")
    keys: dict[object, int] = {}
    return np.array(
        [keys.setdefault(group or (place,), len(keys)) for place, group in enumerate(groups)],
        dtype=np.intp,
    )


def unit_sums(values: Values, units: NDArray[np.intp]) -> tuple[Values, Values]:
    """Sum of the values (N,) or (N, K) of each unit, and how many it has; both (U,) or (U, K)."""
    _, dense, sizes = np.unique(units, return_inverse=True, return_counts=True)
    sums = np.zeros((sizes.size, *values.shape[1:]))
    np.add.at(sums, dense.reshape(-1), values)
    return sums, sizes.astype(np.float64)


def resampled_means(sums: Values, sizes: Values, resamples: int, seed: int) -> Iterator[Values]:
    """Means of bootstrap samples of whole units, in blocks of (B,) or (B, K).

    Args:
        sums: (U,) or (U, K) of :func:`unit_sums`; the K columns share every sample.
        sizes: (U,), likewise.
        resamples: samples in all.
        seed: the same input and seed give the same samples.
    """
    rng = np.random.default_rng(seed)
    units = sizes.size
    most = max(1, DRAWS_AT_ONCE // sums.size)
    for start in range(0, resamples, most):
        drawn = rng.integers(0, units, (min(most, resamples - start), units))
        total = sums[drawn].sum(axis=1)
        yield (total.T / sizes[drawn].sum(axis=1)).T


def _bca(
    sums: Values, sizes: Values, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    from scipy.special import ndtr, ndtri

    mean = sums.sum() / sizes.sum()
    means = np.concatenate(list(resampled_means(sums, sizes, resamples, seed)))
    alpha = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    apart = means - mean
    tied = np.abs(apart) <= _ROUNDING * np.abs(sums / sizes).max()
    below = ((apart < 0) & ~tied).mean() + tied.mean() / 2
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    influence = without.mean() - without
    scale = (influence**2).sum() ** 1.5
    if 0 < below < 1 and scale > 0:
        acceleration = (influence**3).sum() / (6 * scale)
        bias = ndtri(below)
        shifted = bias + ndtri(alpha)
        alpha = ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(means, alpha)
    return float(low), float(high)
