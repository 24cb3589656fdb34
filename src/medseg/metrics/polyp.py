"""The numbers of the polyp literature, as the MATLAB toolbox of PraNet computes them.

They compare a map of probabilities P (H, W) with a region G, image by image; the toolbox
(Fan et al. 2020, arXiv 2006.11392) first stretches each map to 0..1 (:func:`stretched`), so that
one which is sure of nothing still reaches 1 somewhere. The mean over images is taken afterwards.

    MAE        = mean |P - G|; 0 is perfect. The others lie in 0 to 1, and 1 is perfect.
    mean Dice  = the mean of Dice(P >= t, G) over t = 0, 1/255 ... 1; mean IoU likewise
    S-measure  = half of object and region similarity each           (arXiv 1708.00786)
    E-measure  = enhanced alignment of P >= t and G; mean or largest over t, or at
                 t = min(2 mean P, 1)                                 (arXiv 1805.10421)
    weighted F = F-beta with errors weighted by their place, beta = 1 in polyp papers
                                                        (Margolin et al. 2014, CVPR)

The mean over thresholds is not the Dice of a mask: at t = 0 everything is foreground, and a map
that is unsure of the polyp's rim loses at the high thresholds. The toolbox's largest Dice and
E-measure are those of the curves averaged over all images, not the mean of each image's largest;
:class:`Curves` has what that takes.

Where G is empty: S-measure and E-measure measure how much background was left alone; weighted F,
mean Dice and mean IoU are 0, but undefined (NaN) where P is 0 everywhere too. (The toolbox has 0
for both means then, and no number for weighted F.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Region = NDArray[np.bool_]

LEVELS = 256
"""Thresholds 0, 1/255 ... 1."""

# Maps kept in single precision, or as 8-bit images, are still at their threshold.
_SLACK = 1e-4


@dataclass(frozen=True, slots=True)
class Curves:
    """Scores at the thresholds 0, 1/255 ... 1, at or above which a pixel is foreground.

    Attributes:
        dice: (256,).
        iou: (256,).
        e_measure: (256,).
    """

    dice: Floats
    iou: Floats
    e_measure: Floats


def stretched(prediction: NDArray[Any]) -> Floats:
    """The map with its smallest value at 0 and its largest at 1; a constant one is left as it is.

    Args:
        prediction: (H, W), 0 to 1.
    """
    values = np.asarray(prediction, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else values


def polyp_scores(truth: NDArray[Any], prediction: NDArray[Any]) -> dict[str, float]:
    """Every number of the toolbox for one image, of the stretched map.

    Args:
        truth: (H, W); anything but 0 is inside.
        prediction: (H, W), 0 to 1.

    Returns:
        ``mean_dice``, ``mean_iou``, ``weighted_f``, ``s_measure``, ``mean_e``, ``max_e``,
        ``adaptive_e`` and ``mae``.

    Raises:
        ValueError: the shapes differ or are not of an image, or the values are not in 0 to 1.
    """
    region, values = _checked(truth, prediction)
    values = stretched(values)
    curves = threshold_curves(region, values)
    return {
        "mean_dice": _mean(curves.dice, region, values),
        "mean_iou": _mean(curves.iou, region, values),
        "weighted_f": weighted_f(region, values),
        "s_measure": s_measure(region, values),
        "mean_e": float(curves.e_measure.mean()),
        "max_e": float(curves.e_measure.max()),
        "adaptive_e": adaptive_e_measure(region, values),
        "mae": mean_absolute_error(region, values),
    }


def mean_absolute_error(truth: NDArray[Any], prediction: NDArray[Any]) -> float:
    """The mean of |P - G|, with the map as it is given."""
    region, values = _checked(truth, prediction)
    return float(np.abs(values - region).mean())


def mean_dice(truth: NDArray[Any], prediction: NDArray[Any]) -> float:
    """The mean of Dice over 256 thresholds of the map as it is given."""
    region, values = _checked(truth, prediction)
    return _mean(threshold_curves(region, values).dice, region, values)


def mean_iou(truth: NDArray[Any], prediction: NDArray[Any]) -> float:
    """The mean of IoU over 256 thresholds of the map as it is given."""
    region, values = _checked(truth, prediction)
    return _mean(threshold_curves(region, values).iou, region, values)


def threshold_curves(truth: NDArray[Any], prediction: NDArray[Any]) -> Curves:
    """Dice, IoU and E-measure at every threshold; overlaps without a shared pixel are 0."""
    region, values = _checked(truth, prediction)
    level = (values * (LEVELS - 1) + _SLACK).astype(np.int64)
    tp, fp = (
        np.bincount(level[part], minlength=LEVELS)[::-1].cumsum()[::-1]
        for part in (region, ~region)
    )
    inside = int(np.count_nonzero(region))
    dice = 2 * tp / np.maximum(tp + fp + inside, 1)
    iou = tp / np.maximum(fp + inside, 1)
    return Curves(dice, iou, _e_measure(tp, fp, inside, region.size))


def adaptive_e_measure(truth: NDArray[Any], prediction: NDArray[Any]) -> float:
    """The E-measure at twice the map's mean, at most 1."""
    region, values = _checked(truth, prediction)
    above = values >= min(2 * float(values.mean()), 1.0)
    tp, fp = (np.array([np.count_nonzero(above & part)]) for part in (region, ~region))
    return float(_e_measure(tp, fp, int(np.count_nonzero(region)), region.size)[0])


def s_measure(truth: NDArray[Any], prediction: NDArray[Any], *, alpha: float = 0.5) -> float:
    """Structure measure (Fan et al. 2017, arXiv 1708.00786).

    alpha * object + (1 - alpha) * region, at least 0, where

    * object is the mean, weighted by area, of 2 m / (m^2 + 1 + s) over foreground and background,
      with m and s mean and standard deviation of P (of 1 - P) there;
    * region is the mean, weighted by area, of the structural similarity of P and G in the four
      parts into which G's centroid divides the image. (Weights of the released program; the
      paper has the foreground in each part.)

    Args:
        truth: (H, W); anything but 0 is inside.
        prediction: (H, W), 0 to 1.
        alpha: the weight of the object similarity.

    Returns:
        0 to 1. Where the truth is empty or everything, the mean of 1 - P or of P.
    """
    region, values = _checked(truth, prediction)
    share = float(region.mean())
    if share in (0.0, 1.0):
        return float(np.mean(np.where(region, values, 1 - values)))
    objects = share * _object_similarity(values[region])
    objects += (1 - share) * _object_similarity(1 - values[~region])
    # Of the centroid's halves MATLAB takes the upper, and counts from 1.
    row, column = (int(places.mean() + 1.5) for places in np.nonzero(region))
    regions = sum(
        part.size / region.size * _structural_similarity(values[where], part)
        for where in (
            (rows, columns)
            for rows in (slice(row), slice(row, None))
            for columns in (slice(column), slice(column, None))
        )
        if (part := region[where]).size
    )
    return max(0.0, alpha * objects + (1 - alpha) * regions)


def weighted_f(
    truth: NDArray[Any], prediction: NDArray[Any], *, beta_squared: float = 1.0
) -> float:
    """Weighted F-beta (Margolin et al. 2014, How to evaluate foreground maps?).

    The error |P - G| is smoothed within the foreground, so that what lies next to something
    right counts less; in the background it counts up to twice as much the farther it lies from
    the foreground. Of several equally near foreground pixels any may be taken for the smoothing.
    As in the authors' program the error beyond the image is 0, so that foreground at its edge
    counts less; a polyp missed altogether is worth 0 nonetheless.

    Args:
        truth: (H, W); anything but 0 is inside.
        prediction: (H, W), 0 to 1.
        beta_squared: the weight of recall; the polyp papers take 1, the salient object
            literature often 0.3.

    Returns:
        0 to 1; NaN where truth and map are both empty.
    """
    from scipy.ndimage import correlate1d, distance_transform_edt

    region, values = _checked(truth, prediction)
    if not (region.any() and values.any()):
        return 0.0 if region.any() or values.any() else math.nan
    error = np.abs(values - region)
    away, nearest = distance_transform_edt(~region, return_indices=True)
    kernel = np.exp(-(np.arange(-3.0, 4.0) ** 2) / (2 * 5.0**2))
    smooth = error[tuple(nearest)]
    for axis in (0, 1):
        smooth = correlate1d(smooth, kernel / kernel.sum(), axis=axis, mode="constant")
    inside = np.minimum(error, smooth)[region]
    outside = (error * (2 - 0.5 ** (away / 5)))[~region]
    tp = len(inside) - float(inside.sum())
    recall = 1 - float(inside.mean())
    precision = tp / (tp + float(outside.sum())) if tp else 0.0
    below = recall + beta_squared * precision
    return (1 + beta_squared) * recall * precision / below if below else 0.0


def _checked(truth: NDArray[Any], prediction: NDArray[Any]) -> tuple[Region, Floats]:
    region = np.asarray(truth, dtype=bool)
    values = np.asarray(prediction, dtype=np.float64)
    if region.shape != values.shape:
        raise ValueError(f"truth {region.shape} and prediction {values.shape} differ in shape")
    if region.ndim != 2 or not region.size:
        raise ValueError(f"a map of shape {region.shape} is not of an image (H, W)")
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 1:
        raise ValueError(f"a map of probabilities has values in 0 to 1, not {low:g} to {high:g}")
    return region, values


def _mean(curve: Floats, region: Region, values: Floats) -> float:
    return float(curve.mean()) if region.any() or values.any() else math.nan


def _e_measure(tp: NDArray[Any], fp: NDArray[Any], inside: int, pixels: int) -> Floats:
    """The mean enhanced alignment of masks with these counts (n,) to one truth.

    A pixel's alignment depends only on what truth and mask are there. (The released program
    divides by one pixel less than there are, so that it exceeds 1; this follows the paper.)
    """
    fn, tn = inside - tp, pixels - inside - fp
    above = tp + fp
    mean: Floats = above / pixels
    if inside in (0, pixels):
        return mean if inside else 1 - mean
    true_mean = inside / pixels
    total = np.zeros(len(tp))
    for count, true, claimed in ((tp, 1, 1), (fp, 0, 1), (fn, 1, 0), (tn, 0, 0)):
        a, b = true - true_mean, claimed - mean
        total += count * (1 + 2 * a * b / (a * a + b * b)) ** 2 / 4
    return total / pixels


def _object_similarity(values: Floats) -> float:
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return 2 * mean / (mean * mean + 1 + spread)


def _structural_similarity(values: Floats, region: Region) -> float:
    x, y = float(values.mean()), float(region.mean())
    # Asked before anything is subtracted, because means of equal values are inexact.
    varies = (float(values.min()) < float(values.max()), 0 < y < 1)
    if not all(varies):
        return 0.0 if any(varies) else 1.0
    # Covariances over n - 1, of which the quotient does not depend.
    dx, dy = values - x, region - y
    product = 4 * x * y * float((dx * dy).mean())
    return product / ((x * x + y * y) * float((dx * dx).mean() + (dy * dy).mean()))
