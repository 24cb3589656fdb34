"""How well two regions overlap, from the four counts of their pixels.

With ``tp`` pixels in both regions, ``fp`` only in the prediction, ``fn`` only in the truth and
``tn`` in neither:

    Dice        = 2 tp / (2 tp + fp + fn)
    IoU         = tp / (tp + fp + fn)
    precision   = tp / (tp + fp)
    recall      = tp / (tp + fn)              (sensitivity)
    specificity = tn / (tn + fp)

All lie in 0 to 1 and 1 is perfect. What happens where a formula reads 0/0 is a convention, and
published tables differ by it, so it is written down here:

* Exactly one region is empty: Dice, IoU, precision and recall are 0. A missed structure and a
  pure false alarm are both failures.
* Both are empty: those four are undefined (NaN); an `EmptyPolicy` says what that is worth.
* The truth covers every pixel: specificity is undefined (NaN) under every policy, because there
  is no background pixel that could have been kept free. It is left out of means and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

EmptyPolicy = Literal["one", "zero", "skip"]
"""What a case is worth where truth and prediction of a class are both empty: 1 (nothing was there
and nothing was claimed), 0, or left out of the mean but counted (NaN in the table)."""

EMPTY_POLICIES: tuple[EmptyPolicy, ...] = ("one", "zero", "skip")
EMPTY_VALUE: Mapping[EmptyPolicy, float] = {"one": 1.0, "zero": 0.0, "skip": math.nan}

Region = NDArray[np.bool_]


class Confusion(NamedTuple):
    """Pixels by what truth and prediction say of them."""

    tp: int
    fp: int
    fn: int
    tn: int


def confusion(truth: NDArray[Any], prediction: NDArray[Any]) -> Confusion:
    """Count the pixels of two regions of one shape; anything but 0 is inside.

    Raises:
        ValueError: the shapes differ.
    """
    truth, prediction = np.asarray(truth, dtype=bool), np.asarray(prediction, dtype=bool)
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in shape")
    tp = int(np.count_nonzero(truth & prediction))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return Confusion(tp, fp, fn, truth.size - tp - fp - fn)


def dice(truth: Region, prediction: Region) -> float:
    """2 tp / (2 tp + fp + fn); NaN when both are empty."""
    tp, fp, fn, _ = confusion(truth, prediction)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def iou(truth: Region, prediction: Region) -> float:
    """tp / (tp + fp + fn), the Jaccard index; NaN when both are empty."""
    tp, fp, fn, _ = confusion(truth, prediction)
    return _ratio(tp, tp + fp + fn)


def precision(truth: Region, prediction: Region) -> float:
    """tp / (tp + fp); 0 when only the prediction is empty, NaN when both are."""
    tp, fp, fn, _ = confusion(truth, prediction)
    return 0.0 if fn and not tp + fp else _ratio(tp, tp + fp)


def recall(truth: Region, prediction: Region) -> float:
    """tp / (tp + fn); 0 when only the truth is empty, NaN when both are."""
    tp, fp, fn, _ = confusion(truth, prediction)
    return 0.0 if fp and not tp + fn else _ratio(tp, tp + fn)


def specificity(truth: Region, prediction: Region) -> float:
    """tn / (tn + fp); NaN when the truth covers every pixel."""
    _, fp, _, tn = confusion(truth, prediction)
    return _ratio(tn, tn + fp)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


@dataclass(frozen=True, slots=True)
class Metric:
    """A number for a pair of regions.

    Attributes:
        function: ``(truth, prediction) -> float`` on boolean arrays of one shape; NaN where the
            metric is undefined.
        title: for a table's head.
        meaning: one sentence for a reader who does not know the metric.
    """

    function: Callable[[Region, Region], float]
    title: str
    meaning: str


METRICS: Mapping[str, Metric] = {
    "dice": Metric(
        dice,
        "Dice",
        "Twice the shared area over the sum of both areas: 2tp / (2tp + fp + fn).",
    ),
    "iou": Metric(
        iou,
        "IoU",
        "The shared area over the area covered by either: tp / (tp + fp + fn).",
    ),
    "precision": Metric(
        precision,
        "Precision",
        "How much of what was predicted is right: tp / (tp + fp).",
    ),
    "recall": Metric(
        recall,
        "Recall",
        "How much of what is there was found: tp / (tp + fn); also called sensitivity.",
    ),
    "specificity": Metric(
        specificity,
        "Specificity",
        "How much of the background was left alone: tn / (tn + fp). Near 1 for small structures, "
        "whatever the model does.",
    ),
}
"""Every metric of an evaluation, in the order of its columns. Adding one here adds it everywhere:
scores, summaries, files and reports."""


def measure(
    truth: NDArray[Any], prediction: NDArray[Any], *, empty_policy: EmptyPolicy = "one"
) -> dict[str, float]:
    """All of `METRICS` for one class of one case.

    Args:
        truth: the class's true region, boolean, any shape.
        prediction: its predicted region, of the same shape.
        empty_policy: replaces NaN where both regions are empty.

    Returns:
        Metric name to value; NaN where the metric is undefined and the policy does not apply.
    """
    truth, prediction = np.asarray(truth, dtype=bool), np.asarray(prediction, dtype=bool)
    values = {name: metric.function(truth, prediction) for name, metric in METRICS.items()}
    if truth.any() or prediction.any():
        return values
    worth = EMPTY_VALUE[empty_policy]
    return {name: worth if math.isnan(value) else value for name, value in values.items()}
