"""How well two regions overlap, from the four counts of their pixels.

With ``tp`` pixels in both regions, ``fp`` only in the prediction, ``fn`` only in the truth and
``tn`` in neither:

    Dice        = 2 tp / (2 tp + fp + fn)
    IoU         = tp / (tp + fp + fn)
    precision   = tp / (tp + fp)
    recall      = tp / (tp + fn)              (sensitivity)
    specificity = tn / (tn + fp)
    accuracy    = (tp + tn) / (tp + fp + fn + tn)
    F2          = 5 tp / (5 tp + 4 fn + fp)   (recall counts twice as much as precision)
    volumetric similarity = 1 - |fp - fn| / (2 tp + fp + fn)

All lie in 0 to 1 and 1 is perfect. Where a formula reads 0/0 it is undefined (NaN), with one
exception: precision without any predicted pixel and recall without any true one are 0 when the
other region is not empty, because a missed structure and a pure false alarm are both failures.
"""

from __future__ import annotations

import math

from medseg.metrics.pair import Pair


def dice(pair: Pair) -> float:
    """2 tp / (2 tp + fp + fn)."""
    tp, fp, fn, _ = pair.confusion
    return _ratio(2 * tp, 2 * tp + fp + fn)


def iou(pair: Pair) -> float:
    """tp / (tp + fp + fn), the Jaccard index."""
    tp, fp, fn, _ = pair.confusion
    return _ratio(tp, tp + fp + fn)


def precision(pair: Pair) -> float:
    """tp / (tp + fp); 0 when only the prediction is empty."""
    tp, fp, fn, _ = pair.confusion
    return 0.0 if fn and not tp + fp else _ratio(tp, tp + fp)


def recall(pair: Pair) -> float:
    """tp / (tp + fn); 0 when only the truth is empty."""
    tp, fp, fn, _ = pair.confusion
    return 0.0 if fp and not tp + fn else _ratio(tp, tp + fn)


def specificity(pair: Pair) -> float:
    """tn / (tn + fp); undefined when the truth covers every pixel."""
    _, fp, _, tn = pair.confusion
    return _ratio(tn, tn + fp)


def accuracy(pair: Pair) -> float:
    """The share of pixels on which truth and prediction agree."""
    tp, fp, fn, tn = pair.confusion
    return _ratio(tp + tn, tp + fp + fn + tn)


def f2(pair: Pair) -> float:
    """F-beta with beta = 2: (1 + 4) tp / ((1 + 4) tp + 4 fn + fp)."""
    tp, fp, fn, _ = pair.confusion
    return _ratio(5 * tp, 5 * tp + 4 * fn + fp)


def volumetric_similarity(pair: Pair) -> float:
    """1 - |fp - fn| / (2 tp + fp + fn): how well the sizes agree (Taha and Hanbury 2015).

    0 when exactly one region is empty.
    """
    tp, fp, fn, _ = pair.confusion
    return _ratio(2 * tp + fp + fn - abs(fp - fn), 2 * tp + fp + fn)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
