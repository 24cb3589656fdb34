"""The metrics there are, and what they are worth where they are undefined.

Published tables differ in what an empty mask is worth, so it is written down here:

* Exactly one region is empty, a missed structure or a pure false alarm: overlaps and shares are 0;
  distances take the image's diagonal, the longest there could be. It never drops out of a mean.
* Both are empty: an :data:`EmptyPolicy` decides.
* A metric that needs both structure and background (specificity, the areas under curves) is
  undefined (NaN) without one of them under every policy. It is left out of means and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from medseg.errors import MedsegError, nearest
from medseg.metrics import objects, overlap, probability
from medseg.metrics.pair import Pair
from medseg.metrics.surface import boundary_iou
from medseg.metrics.topology import cl_dice

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
        kind: a ``share`` is best at 1 and worst at 0, an ``error`` the other way round, a
            ``distance`` best at 0 and worst at the image's diagonal.
        conditional: whether it may be undefined for reasons of its own, and then stays so.
        graded: whether it needs probabilities.
    """

    function: Callable[[Pair], float]
    title: str
    meaning: str
    kind: Literal["share", "error", "distance"] = "share"
    conditional: bool = False
    graded: bool = False

    @property
    def best(self) -> float:
        return 1.0 if self.kind == "share" else 0.0

    @property
    def lower_is_better(self) -> bool:
        return self.kind != "share"

    @property
    def distance(self) -> bool:
        """Whether it is a length, in mm or pixels."""
        return self.kind == "distance"

    def worst(self, pair: Pair) -> float:
        """What a missed structure is worth."""
        return {"share": 0.0, "error": 1.0, "distance": pair.diagonal}[self.kind]


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
        conditional=True,
    ),
    "hd95": Metric(
        lambda pair: pair.surfaces.hausdorff(95),
        "HD95",
        "95 % of each outline lies within this distance of the other; in mm where the spacing is "
        "known, else in pixels. 0 is best.",
        kind="distance",
    ),
    "assd": Metric(
        lambda pair: pair.surfaces.average(),
        "ASSD",
        "The mean distance between the outlines, both ways; in mm or pixels. 0 is best.",
        kind="distance",
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
        kind="distance",
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
    "cldice": Metric(
        lambda pair: cl_dice(pair.truth, pair.prediction),
        "clDice",
        "Dice of the centrelines: whether thin branching structures hang together.",
    ),
    "aji": Metric(
        lambda pair: objects.aji(pair.objects),
        "AJI",
        "Aggregated Jaccard index of the objects: numbered ones, else connected components.",
    ),
    "pq": Metric(
        lambda pair: objects.panoptic_quality(pair.objects).pq,
        "PQ",
        "Panoptic quality of the objects: SQ times RQ.",
    ),
    "sq": Metric(
        lambda pair: objects.panoptic_quality(pair.objects).sq,
        "SQ",
        "Mean IoU of the objects that were found (IoU above 0.5).",
    ),
    "rq": Metric(
        lambda pair: objects.panoptic_quality(pair.objects).rq,
        "RQ",
        "F1 of finding the objects (IoU above 0.5).",
    ),
    "ap": Metric(
        lambda pair: objects.average_precision(pair.objects),
        "AP",
        "Mean over IoU 0.50, 0.55 ... 0.95 of tp / (tp + fp + fn) of the objects.",
    ),
    "object_f1": Metric(
        lambda pair: objects.object_f1(pair.objects),
        "Object F1",
        "F1 of finding objects, as in the GlaS contest.",
    ),
    "object_dice": Metric(
        lambda pair: objects.object_dice(pair.objects),
        "Object Dice",
        "Dice of each object with its partner, weighted by area, as in the GlaS contest.",
    ),
    "object_hausdorff": Metric(
        lambda pair: objects.object_hausdorff(pair.objects),
        "Object HD",
        "Hausdorff distance of each object to its partner, weighted by area. 0 is best.",
        kind="distance",
    ),
    "roc_auc": Metric(
        lambda pair: probability.roc_auc(*pair.graded),
        "ROC-AUC",
        "How surely a pixel inside has a higher probability than one outside.",
        conditional=True,
        graded=True,
    ),
    "pr_auc": Metric(
        lambda pair: probability.average_precision(*pair.graded),
        "PR-AUC",
        "Average precision over all thresholds of the probability.",
        conditional=True,
        graded=True,
    ),
    "brier": Metric(
        lambda pair: probability.brier_score(*pair.graded),
        "Brier",
        "Mean squared error of the probabilities. 0 is best.",
        kind="error",
        graded=True,
    ),
    "ece": Metric(
        lambda pair: probability.expected_calibration_error(*pair.graded),
        "ECE",
        "How far probabilities are from frequencies, over 15 equal bins. 0 is best.",
        kind="error",
        graded=True,
    ),
    "mae": Metric(
        lambda pair: pair.polyp["mae"],
        "MAE",
        "Mean absolute error of the map, stretched to 0..1 as in PraNet's toolbox. 0 is best.",
        kind="error",
        graded=True,
    ),
    "s_measure": Metric(
        lambda pair: pair.polyp["s_measure"],
        "S-measure",
        "Structural likeness of map and mask (Fan et al. 2017).",
        graded=True,
    ),
    "e_measure": Metric(
        lambda pair: pair.polyp["mean_e"],
        "E-measure",
        "Enhanced alignment, mean over 256 thresholds (Fan et al. 2018).",
        graded=True,
    ),
    "weighted_f": Metric(
        lambda pair: pair.polyp["weighted_f"],
        "Weighted F",
        "F-measure that weighs errors by where they lie (Margolin et al. 2014).",
        graded=True,
    ),
    "threshold_dice": Metric(
        lambda pair: pair.polyp["mean_dice"],
        "Dice over thresholds",
        "Mean Dice over 256 thresholds of the map, as in PraNet's tables; not the Dice of a mask.",
        graded=True,
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
    functions: Mapping[str, Callable[[Pair], float]] = MappingProxyType({}),
) -> dict[str, float]:
    """The metrics ``names`` for one structure of one case.

    Args:
        pair: the regions.
        names: of :data:`METRICS`.
        empty_policy: what two empty regions are worth.
        functions: take the place of the metrics of their names; their values stand as they are.

    Returns:
        Metric name to value; NaN where it is undefined and no rule says what it is worth.
    """
    values = {}
    for name in names:
        if name in functions:
            values[name] = functions[name](pair)
            continue
        metric = METRICS[name]
        value = metric.function(pair)
        if math.isnan(value) and not metric.conditional:
            value = metric.worst(pair)
            if pair.both_empty:
                worth = {"one": metric.best, "zero": value, "skip": math.nan}
                value = worth[empty_policy]
        values[name] = value
    return values
