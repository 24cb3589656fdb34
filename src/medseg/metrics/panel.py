"""The metrics there are, and what they are worth where they are undefined.

Published tables differ in what an empty mask is worth, so it is written down here:

* Exactly one region is empty, a missed structure or a pure false alarm: overlaps and shares are 0;
  distances take the image's diagonal, the longest there could be. It never drops out of a mean.
* Both are empty: an :data:`EmptyPolicy` decides.
* The truth covers every pixel: specificity is undefined (NaN) under every policy, because there
  is no background that could have been kept free. It is left out of means and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from medseg.errors import MedsegError, nearest
from medseg.metrics import overlap
from medseg.metrics.pair import Pair
from medseg.metrics.surface import boundary_iou

EmptyPolicy = Literal["one", "zero", "skip"]
"""What a case is worth where truth and prediction of a class are both empty: ``one`` is a perfect
score (nothing was there and nothing was claimed), ``zero`` the worst, ``skip`` leaves it out of
the mean but counts it (NaN in the table)."""

EMPTY_POLICIES: tuple[EmptyPolicy, ...] = ("one", "zero", "skip")


@dataclass(frozen=True, slots=True)
class Metric:
    """A number for a pair of regions.

    Attributes:
        function: of the pair; NaN where it is undefined.
        title: for a table's head.
        meaning: one sentence for a reader who does not know the metric.
        distance: whether it is a length, of which 0 is best and the image's diagonal worst;
            otherwise 1 is best and 0 worst.
    """

    function: Callable[[Pair], float]
    title: str
    meaning: str
    distance: bool = False

    @property
    def best(self) -> float:
        return 0.0 if self.distance else 1.0

    def worst(self, pair: Pair) -> float:
        """What a missed structure is worth."""
        return pair.diagonal if self.distance else 0.0


METRICS: Mapping[str, Metric] = {
    "dice": Metric(
        overlap.dice,
        "Dice",
        "Twice the shared area over the sum of both areas: 2tp / (2tp + fp + fn).",
    ),
    "iou": Metric(
        overlap.iou,
        "IoU",
        "The shared area over the area covered by either: tp / (tp + fp + fn).",
    ),
    "precision": Metric(
        overlap.precision,
        "Precision",
        "How much of what was predicted is right: tp / (tp + fp).",
    ),
    "recall": Metric(
        overlap.recall,
        "Recall",
        "How much of what is there was found: tp / (tp + fn); also called sensitivity.",
    ),
    "specificity": Metric(
        overlap.specificity,
        "Specificity",
        "How much of the background was left alone: tn / (tn + fp). Near 1 for small structures, "
        "whatever the model does.",
    ),
    "hd95": Metric(
        lambda pair: pair.surfaces.hausdorff(95),
        "HD95",
        "95 % of each outline lies within this distance of the other; in mm where the spacing is "
        "known, else in pixels. 0 is best.",
        distance=True,
    ),
    "assd": Metric(
        lambda pair: pair.surfaces.average(),
        "ASSD",
        "The mean distance between the outlines, both ways; in mm or pixels. 0 is best.",
        distance=True,
    ),
    "nsd": Metric(
        lambda pair: pair.surfaces.dice(pair.tolerance),
        "NSD",
        "The share of both outlines that lies within a tolerance of the other.",
    ),
    "hd": Metric(
        lambda pair: pair.surfaces.hausdorff(),
        "HD",
        "The largest distance from one outline to the other; in mm or pixels. 0 is best.",
        distance=True,
    ),
    "boundary_iou": Metric(
        lambda pair: boundary_iou(pair.truth, pair.prediction),
        "Boundary IoU",
        "IoU of the inner borders, 2 % of the image's diagonal wide.",
    ),
    "accuracy": Metric(
        overlap.accuracy,
        "Accuracy",
        "The share of pixels on which both agree; high for small structures, whatever is found.",
    ),
    "f2": Metric(
        overlap.f2,
        "F2",
        "Like Dice, but what is missed counts four times as much as false alarms.",
    ),
    "volume": Metric(
        overlap.volumetric_similarity,
        "Volume",
        "How well the two areas agree in size, wherever they lie.",
    ),
}
"""Every metric, by the name that ``--metrics`` takes."""

DEFAULT_METRICS = ("dice", "iou", "precision", "recall", "specificity", "hd95", "assd", "nsd")


def metrics_named(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` without repetitions, Dice first, which reports are sorted by.

    Raises:
        MedsegError: there is no such metric.
    """
    chosen = dict.fromkeys(["dice", *names])
    for name in chosen:
        if name not in METRICS:
            raise MedsegError(
                f"--metrics {name}", "there is no such metric", nearest(name, METRICS)
            )
    return tuple(chosen)


def measure(
    pair: Pair,
    names: Iterable[str] = DEFAULT_METRICS,
    *,
    empty_policy: EmptyPolicy = "one",
) -> dict[str, float]:
    """The metrics ``names`` for one structure of one case.

    Args:
        pair: the regions.
        names: of :data:`METRICS`.
        empty_policy: what two empty regions are worth.

    Returns:
        Metric name to value; NaN where it is undefined and no rule says what it is worth.
    """
    values = {}
    for name in names:
        metric = METRICS[name]
        value = metric.function(pair)
        if math.isnan(value) and pair.both_empty:
            worth = {"one": metric.best, "zero": metric.worst(pair), "skip": math.nan}
            value = worth[empty_policy]
        elif math.isnan(value) and metric.distance:
            value = metric.worst(pair)
        elif math.isnan(value) and name in ("nsd", "boundary_iou"):
            value = 0.0
        values[name] = value
    return values
