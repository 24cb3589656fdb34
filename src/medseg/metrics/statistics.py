"""How far a mean over cases can be trusted."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# Values drawn at once: 4 MiB of float64, so that memory does not grow with the number of cases.
DRAWS_AT_ONCE = 1 << 19


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over cases and where it would fall for other cases of the same kind.

    Attributes:
        mean: of the defined values; None when there is none.
        low: lower bound of the confidence interval; None below two values.
        high: upper bound; None below two values.
        n: how many values were defined.
        skipped: how many were NaN and left out.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    skipped: int = 0


def bootstrap_mean(
    values: Iterable[float], *, confidence: float = 0.95, resamples: int = 4999, seed: int = 0
) -> Interval:
    """Mean and its bias-corrected and accelerated (BCa) bootstrap interval.

    Cases are resampled, so the interval covers the choice of cases; it says nothing of another
    training run. Cases are taken as independent: several images of one patient make it too narrow.

    Args:
        values: one per case; NaN marks an undefined one, which is skipped and counted.
        confidence: between 0 and 1, exclusive.
        resamples: bootstrap samples.
        seed: the same values and seed give the same interval.

    Returns:
        The interval; without bounds for fewer than two values, since a single case does not show
        how cases differ; of no width when all values are equal.

    Source:
        B. Efron, "Better Bootstrap Confidence Intervals", J. Am. Stat. Assoc. 82 (1987).
    """
    given = np.fromiter(values, dtype=np.float64)
    kept = given[~np.isnan(given)]
    skipped = given.size - kept.size
    if kept.size == 0:
        return Interval(None, None, None, 0, skipped)
    if kept.size == 1:
        return Interval(float(kept[0]), None, None, 1, skipped)
    if np.ptp(kept) == 0:
        same = float(kept[0])
        return Interval(same, same, same, kept.size, skipped)

    low, high = _bounds(kept, "BCa", confidence, resamples, seed)
    if math.isnan(low) or math.isnan(high):
        # BCa is undefined when no resampled mean lies on one side of the mean.
        low, high = _bounds(kept, "percentile", confidence, resamples, seed)
    return Interval(float(kept.mean()), low, high, kept.size, skipped)


def _bounds(
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
    method: str,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    from scipy.stats import DegenerateDataWarning, bootstrap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        result = bootstrap(
            (values,),
            np.mean,
            confidence_level=confidence,
            n_resamples=resamples,
            batch=max(1, DRAWS_AT_ONCE // values.size),
            method=method,
            random_state=np.random.default_rng(seed),
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
