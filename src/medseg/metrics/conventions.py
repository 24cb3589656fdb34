"""How other programs compute the numbers of published tables.

A convention replaces some of :data:`medseg.metrics.panel.METRICS`, their rules for empty regions
included; what it does not define stays the default's. Where the program has no finite number (NaN,
infinite, or an exception), the value is NaN here: left out of the mean, and counted.

``default``
    :mod:`medseg.metrics.panel`.
``monai``
    MONAI 1.6.1 with its defaults: overlaps undefined where the truth is empty; distances between
    border pixels, HD95 the larger of two interpolated percentiles, ASSD and NSD over the pixels of
    both borders; HD95 undefined, HD and ASSD infinite where one region is empty.
``deepmind``
    surface-distance 0.1: surfaces as in the default; Dice and NSD undefined where both regions are
    empty, HD and HD95 infinite where either is. It has two one-way mean distances and no ASSD.
``nnunet``
    nnU-Net 2's Dice and IoU: undefined where both regions are empty.
``medpy``
    MedPy 0.5.2: distances between border pixels, HD95 the interpolated percentile of both
    directions together, ASSD their mean; an exception where either region is empty. IoU of two
    empty regions is 1, Dice undefined.
``pranet``
    PraNet's MATLAB toolbox: Dice and IoU are means over 256 thresholds of the stretched map of
    probabilities, and 0 where nothing is there and nothing was claimed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from medseg.errors import MedsegError, nearest
from medseg.metrics import overlap
from medseg.metrics.pair import Pair
from medseg.metrics.panel import METRICS


@dataclass(frozen=True, slots=True)
class Convention:
    """A program's way of computing some of the metrics.

    Attributes:
        name: what ``--convention`` takes.
        functions: metric name to the program's number for a pair, NaN where it has none.
        graded: whether these functions need probabilities.
    """

    name: str
    functions: Mapping[str, Callable[[Pair], float]] = field(default_factory=dict)
    graded: bool = False

    def needs_probability(self, metric: str) -> bool:
        """Whether ``metric`` needs probabilities under this convention."""
        return self.graded if metric in self.functions else METRICS[metric].graded


def _nan_unless(defined: bool, function: Callable[[Pair], float], pair: Pair) -> float:
    return function(pair) if defined else math.nan


def _with_truth(function: Callable[[Pair], float]) -> Callable[[Pair], float]:
    return lambda pair: _nan_unless(bool(pair.truth.any()), function, pair)


def _with_prediction(function: Callable[[Pair], float]) -> Callable[[Pair], float]:
    return lambda pair: _nan_unless(bool(pair.prediction.any()), function, pair)


def _border_dice(pair: Pair) -> float:
    if pair.both_empty:
        return math.nan
    away = pair.borders.pooled
    return float((away <= pair.tolerance).mean()) if len(away) else 0.0


def _surface_dice(pair: Pair) -> float:
    """DeepMind's: a region without a surface shares nothing with one that has it."""
    if pair.both_empty:
        return math.nan
    return pair.surfaces.dice(pair.tolerance) if pair.surfaces.defined else 0.0


def _pooled_percentile(pair: Pair) -> float:
    return float(np.percentile(pair.borders.pooled, 95)) if pair.borders.defined else math.nan


def _zero_if_undefined(name: str) -> Callable[[Pair], float]:
    def value(pair: Pair) -> float:
        found = pair.polyp[name]
        return 0.0 if math.isnan(found) else found

    return value


def _program_e_measure(pair: Pair) -> float:
    """The released program divides by one pixel less than there are."""
    pixels = pair.truth.size
    return pair.polyp["mean_e"] * pixels / (pixels - 1) if pixels > 1 else math.nan


DEFAULT_CONVENTION = Convention("default")

CONVENTIONS: Mapping[str, Convention] = {
    convention.name: convention
    for convention in (
        DEFAULT_CONVENTION,
        Convention(
            "monai",
            {
                "dice": _with_truth(overlap.dice),
                "iou": _with_truth(overlap.iou),
                "precision": _with_prediction(overlap.precision),
                "recall": _with_truth(overlap.recall),
                "specificity": overlap.specificity,
                "accuracy": overlap.accuracy,
                "hd95": lambda pair: pair.borders.hausdorff(95),
                "assd": lambda pair: pair.borders.average(),
                "nsd": _border_dice,
                "hd": lambda pair: pair.borders.hausdorff(),
            },
        ),
        Convention(
            "deepmind",
            {
                "dice": overlap.dice,
                "hd95": lambda pair: pair.surfaces.hausdorff(95),
                "nsd": _surface_dice,
                "hd": lambda pair: pair.surfaces.hausdorff(),
            },
        ),
        Convention("nnunet", {"dice": overlap.dice, "iou": overlap.iou}),
        Convention(
            "medpy",
            {
                "dice": overlap.dice,
                "iou": lambda pair: 1.0 if pair.both_empty else overlap.iou(pair),
                "precision": _with_prediction(overlap.precision),
                "recall": _with_truth(overlap.recall),
                "specificity": overlap.specificity,
                "hd95": _pooled_percentile,
                "assd": lambda pair: pair.borders.average(),
                "hd": lambda pair: pair.borders.hausdorff(),
            },
        ),
        Convention(
            "pranet",
            {
                "dice": _zero_if_undefined("mean_dice"),
                "iou": _zero_if_undefined("mean_iou"),
                "mae": lambda pair: pair.polyp["mae"],
                "s_measure": lambda pair: pair.polyp["s_measure"],
                "e_measure": _program_e_measure,
                "weighted_f": lambda pair: pair.polyp["weighted_f"],
                "threshold_dice": _zero_if_undefined("mean_dice"),
            },
            graded=True,
        ),
    )
}
"""Every convention, by the name that ``--convention`` takes."""


def convention_named(name: str) -> Convention:
    """The convention of that name.

    Raises:
        MedsegError: there is none.
    """
    if name not in CONVENTIONS:
        raise MedsegError(
            f"--convention {name}", "there is no such convention", nearest(name, CONVENTIONS)
        )
    return CONVENTIONS[name]
