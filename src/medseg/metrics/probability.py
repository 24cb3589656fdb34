"""How good probabilities are, before any threshold makes a mask of them.

With p the probability that a pixel is foreground and y whether it is (1 or 0), over all pixels:

    ROC-AUC = the chance that a foreground pixel has a higher p than a background one; a tie
              counts half                                      (Hanley and McNeil 1982)
    PR-AUC  = the mean, over foreground pixels, of the precision at the threshold of their p:
              average precision, without interpolation         (Davis and Goadrich 2006)
    Brier   = mean (p - y)^2                                   (Brier 1950)
    ECE     = sum over bins of p of share of pixels * |mean y - mean p|
                                                               (Naeini et al. 2015)

All lie in 0 to 1. Of the first two 1 is perfect; chance is 0.5 for ROC-AUC and the share of
foreground for PR-AUC; both are undefined (NaN) unless there are pixels of both kinds. Of the last
two 0 is perfect; they are undefined without pixels.

ECE is that of the foreground's probability, for which a pixel with p = 0.1 is right in one case
of ten; Guo et al. (2017, arXiv 1706.04599) take the probability of the likeliest class instead.

The functions are exact and hold one image. :class:`Tally` holds a data set of any size in a fixed
amount of memory, and says how far its ROC-AUC and PR-AUC may be from the exact ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Region = NDArray[np.bool_]

CALIBRATION_BINS = 15
"""Of the same width; the first has 0 to 1/15, and each the end it shares with the next."""

# Of log odds -16 to 16, beyond which single precision cannot tell a probability from 1.
_RANK_BINS = 8192
_LOG_ODDS = 16.0


@dataclass(frozen=True, slots=True)
class Reliability:
    """What a reliability diagram shows, bin by bin of the probability.

    Attributes:
        counts: (bins,), pixels.
        confidence: (bins,), their mean probability; NaN without pixels.
        frequency: (bins,), the share of them that is foreground; NaN without pixels.
    """

    counts: Integers
    confidence: Floats
    frequency: Floats

    @property
    def expected_error(self) -> float:
        """The mean distance of frequency and confidence, weighted by pixels; NaN without any."""
        if not self.counts.sum():
            return math.nan
        gaps = np.nan_to_num(np.abs(self.frequency - self.confidence))
        return float(self.counts @ gaps) / int(self.counts.sum())


@dataclass(frozen=True, slots=True)
class Bounded:
    """A number that is known up to an error: the exact one lies in ``low`` to ``high``."""

    value: float
    low: float
    high: float


def roc_auc(truth: NDArray[Any], probability: NDArray[Any]) -> float:
    """Area under the receiver operating characteristic; exact, with ties.

    Args:
        truth: of any shape; anything but 0 is foreground.
        probability: of the same shape, 0 to 1.

    Returns:
        0 to 1; NaN unless there are pixels of both kinds.

    Raises:
        ValueError: the shapes differ, or the values are not in 0 to 1.
    """
    inside, outside = _parted(truth, probability)
    if not (len(inside) and len(outside)):
        return math.nan
    # Of every foreground pixel, the background below it, and half of that beside it.
    beaten = sum(int(np.searchsorted(outside, inside, side).sum()) for side in _SIDES)
    return beaten / (2 * len(inside) * len(outside))


def average_precision(truth: NDArray[Any], probability: NDArray[Any]) -> float:
    """Area under the precision-recall curve as average precision; exact, with ties.

    Args and errors as in :func:`roc_auc`.

    Returns:
        0 to 1; NaN unless there are pixels of both kinds.
    """
    inside, outside = _parted(truth, probability)
    if not (len(inside) and len(outside)):
        return math.nan
    tp = len(inside) - np.searchsorted(inside, inside, "left")
    fp = len(outside) - np.searchsorted(outside, inside, "left")
    return float((tp / (tp + fp)).mean())


def brier_score(truth: NDArray[Any], probability: NDArray[Any]) -> float:
    """The mean squared error of the probabilities. Args and errors as in :func:`roc_auc`.

    Returns:
        0 (perfect) to 1; NaN without pixels.
    """
    region, values = _checked(truth, probability)
    return float(np.square(values - region).mean()) if values.size else math.nan


def reliability(
    truth: NDArray[Any], probability: NDArray[Any], *, bins: int = CALIBRATION_BINS
) -> Reliability:
    """What a reliability diagram shows. Args and errors as in :func:`roc_auc`.

    Args:
        truth: of any shape; anything but 0 is foreground.
        probability: of the same shape, 0 to 1.
        bins: of equal width.
    """
    return _reliability(_bin_sums(*_checked(truth, probability), bins))


def expected_calibration_error(
    truth: NDArray[Any], probability: NDArray[Any], *, bins: int = CALIBRATION_BINS
) -> float:
    """How far stated probabilities are from observed frequencies. Args as :func:`reliability`.

    Returns:
        0 (perfect) to 1; NaN without pixels.
    """
    return reliability(truth, probability, bins=bins).expected_error


def one_vs_rest(
    metric: Callable[[NDArray[Any], NDArray[Any]], float],
    truth: NDArray[Any],
    probabilities: NDArray[Any],
) -> tuple[float, ...]:
    """A metric of this module for each class against all others.

    Args:
        metric: of a region and a map of probabilities.
        truth: (...) class indices 0 to K - 1.
        probabilities: (K, ...), 0 to 1, of each class.

    Returns:
        K values, background included. The sum of the Brier scores is Brier's own of K classes.

    Raises:
        ValueError: the shapes do not fit, or an index has no probabilities.
    """
    if truth.shape != probabilities.shape[1:]:
        raise ValueError(
            f"class indices {truth.shape} do not fit probabilities {probabilities.shape}"
        )
    if truth.size and not 0 <= truth.min() <= truth.max() < len(probabilities):
        raise ValueError(
            f"indices {truth.min()} to {truth.max()} with {len(probabilities)} probabilities"
        )
    return tuple(
        metric(truth == index, probability) for index, probability in enumerate(probabilities)
    )


@dataclass
class Tally:
    """Counts from which the four numbers of any number of pixels follow, in 130 KiB.

    Brier score and calibration are exact. For ROC-AUC and PR-AUC pixels are ranked by 8192 bins of
    equal width in log odds, and those of one bin count as ties; the bounds say what that may hide.
    Tallies of disjoint pixels add up with ``+``.
    """

    inside: Integers = field(default_factory=lambda: np.zeros(_RANK_BINS, np.int64))
    outside: Integers = field(default_factory=lambda: np.zeros(_RANK_BINS, np.int64))
    bins: Floats = field(default_factory=lambda: np.zeros((3, CALIBRATION_BINS)))
    squares: float = 0.0

    def add(self, truth: NDArray[Any], probability: NDArray[Any]) -> None:
        """Count the pixels of one image. Args and errors as in :func:`roc_auc`."""
        region, values = _checked(truth, probability)
        with np.errstate(divide="ignore"):
            odds = np.log(values) - np.log1p(-values)
        scaled = (np.clip(odds, -_LOG_ODDS, _LOG_ODDS) + _LOG_ODDS) * (_RANK_BINS / 2 / _LOG_ODDS)
        place = np.minimum(scaled.astype(np.int64), _RANK_BINS - 1)
        self.inside = self.inside + np.bincount(place[region], minlength=_RANK_BINS)
        self.outside = self.outside + np.bincount(place[~region], minlength=_RANK_BINS)
        self.bins = self.bins + _bin_sums(region, values, CALIBRATION_BINS)
        self.squares += float(np.square(values - region).sum())

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.inside + other.inside,
            self.outside + other.outside,
            self.bins + other.bins,
            self.squares + other.squares,
        )

    @property
    def pixels(self) -> int:
        return int(self.inside.sum() + self.outside.sum())

    def roc_auc(self) -> Bounded:
        """ROC-AUC of all pixels; NaN unless there are pixels of both kinds."""
        pairs = int(self.inside.sum()) * int(self.outside.sum())
        if not pairs:
            return Bounded(math.nan, math.nan, math.nan)
        below = np.cumsum(self.outside) - self.outside
        sure, tied = float(self.inside @ below), float(self.inside @ self.outside)
        return Bounded((sure + tied / 2) / pairs, sure / pairs, (sure + tied) / pairs)

    def average_precision(self) -> Bounded:
        """PR-AUC of all pixels; NaN unless there are pixels of both kinds.

        Bounded by the bin's foreground lying above all of its background, and below.
        """
        if not (self.inside.any() and self.outside.any()):
            return Bounded(math.nan, math.nan, math.nan)
        here = self.inside > 0
        own, beside = self.inside[here], self.outside[here]
        tp, fp = (np.cumsum(counts[::-1])[::-1][here] for counts in (self.inside, self.outside))
        # The sum over the bin's foreground of tp / (tp + fp) with fp as it is and tp growing to
        # its own: at least this, because 1 / x is convex.
        above = tp - own + fp + 0.5
        least = np.maximum(own - fp * np.log1p(own / above), 0)
        total = int(own.sum())
        return Bounded(
            float(own @ (tp / (tp + fp))) / total,
            float(least.sum()) / total,
            float(own @ (tp / (tp + fp - beside))) / total,
        )

    def brier_score(self) -> float:
        return self.squares / self.pixels if self.pixels else math.nan

    def reliability(self) -> Reliability:
        return _reliability(self.bins)

    def expected_calibration_error(self) -> float:
        return self.reliability().expected_error


_SIDES: tuple[Any, ...] = ("left", "right")


def _checked(truth: NDArray[Any], probability: NDArray[Any]) -> tuple[Region, Floats]:
    region = np.asarray(truth, dtype=bool)
    values = np.asarray(probability, dtype=np.float64)
    if region.shape != values.shape:
        raise ValueError(f"truth {region.shape} and probability {values.shape} differ in shape")
    if values.size and not 0 <= values.min() <= values.max() <= 1:
        raise ValueError(f"probabilities lie in 0 to 1, not {values.min():g} to {values.max():g}")
    return region, values


def _parted(truth: NDArray[Any], probability: NDArray[Any]) -> tuple[Floats, Floats]:
    """The probabilities of foreground and of background pixels, ascending."""
    region, values = _checked(truth, probability)
    return np.sort(values[region]), np.sort(values[~region])


def _bin_sums(region: Region, values: Floats, bins: int) -> Floats:
    """Of each bin the pixels, the sum of their probabilities and the foreground: (3, bins)."""
    place = np.maximum(np.ceil(values * bins).astype(np.int64) - 1, 0).ravel()
    weights = (None, values.ravel(), region.ravel())
    return np.stack([np.bincount(place, weight, bins).astype(np.float64) for weight in weights])


def _reliability(sums: Floats) -> Reliability:
    counts, confidence, frequency = sums
    known = np.where(counts > 0, counts, np.nan)
    return Reliability(counts.astype(np.int64), confidence / known, frequency / known)
