"""One structure of one case in truth and prediction: what every metric is a function of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.borders import BorderDistances
from medseg.metrics.objects import ObjectPair, components
from medseg.metrics.polyp import polyp_scores
from medseg.metrics.surface import SurfaceDistances

Region = NDArray[np.bool_]
Numbers = NDArray[np.integer[Any]]

DEFAULT_TOLERANCE = 2.0
"""Of the surface Dice, in units of the spacing: mm or pixels."""


class Confusion(NamedTuple):
    """Pixels by what truth and prediction say of them."""

    tp: int
    fp: int
    fn: int
    tn: int


class Pair:
    """A true and a predicted region of one shape, 2D or 3D.

    What several metrics need is computed once, when it is first asked for.

    Args:
        truth: anything but 0 is inside.
        prediction: likewise.
        known: where it is known what is there; elsewhere nothing is scored, and both count as
            empty. None: everywhere.
        probability: of each pixel, 0..1; None when it is not known, and then also what metrics of
            it are.
        spacing: of the pixels along each axis, in mm; 1 (pixels) when None.
        tolerance: of the surface Dice, in units of the spacing.
        numbers: integer maps of the true and the predicted objects, each value but 0 one object;
            None: the connected components of the region.

    Raises:
        ValueError: the shapes differ, or the spacing does not fit them.
    """

    def __init__(
        self,
        truth: NDArray[Any],
        prediction: NDArray[Any],
        known: NDArray[np.bool_] | None = None,
        *,
        probability: NDArray[np.floating[Any]] | None = None,
        spacing: Sequence[float] | None = None,
        tolerance: float = DEFAULT_TOLERANCE,
        numbers: tuple[Numbers | None, Numbers | None] = (None, None),
    ) -> None:
        self.truth: Region = np.asarray(truth, dtype=bool)
        self.prediction: Region = np.asarray(prediction, dtype=bool)
        if self.truth.shape != self.prediction.shape:
            raise ValueError(
                f"truth {self.truth.shape} and prediction {self.prediction.shape} differ in shape"
            )
        self.unknown = 0
        if known is not None:
            self.truth, self.prediction = self.truth & known, self.prediction & known
            self.unknown = known.size - int(np.count_nonzero(known))
        self.known = known
        self.probability = probability
        self.spacing = (1.0,) * self.truth.ndim if spacing is None else tuple(spacing)
        if len(self.spacing) != self.truth.ndim:
            raise ValueError(f"spacing {self.spacing} for regions of shape {self.truth.shape}")
        self.tolerance = tolerance
        self.numbers = numbers

    @cached_property
    def confusion(self) -> Confusion:
        tp = int(np.count_nonzero(self.truth & self.prediction))
        fp = int(np.count_nonzero(self.prediction)) - tp
        fn = int(np.count_nonzero(self.truth)) - tp
        return Confusion(tp, fp, fn, self.truth.size - self.unknown - tp - fp - fn)

    @cached_property
    def surfaces(self) -> SurfaceDistances:
        return SurfaceDistances(self.truth, self.prediction, self.spacing)

    @cached_property
    def borders(self) -> BorderDistances:
        return BorderDistances(self.truth, self.prediction, self.spacing)

    @cached_property
    def objects(self) -> ObjectPair:
        """The objects of both regions: by their numbers, or else the connected components."""
        truth, prediction = (
            components(region) if numbers is None else np.where(region, numbers, 0)
            for region, numbers in zip((self.truth, self.prediction), self.numbers, strict=True)
        )
        return ObjectPair(truth, prediction, spacing=self.spacing)

    @cached_property
    def graded(self) -> tuple[Region, NDArray[np.float64]]:
        """Truth and probability of the known pixels, flat where some are not known.

        Raises:
            ValueError: there is no probability.
        """
        if self.probability is None:
            raise ValueError("no probabilities to grade")
        values = self.probability.astype(np.float64)
        return (self.truth, values) if self.known is None else (
            self.truth[self.known], values[self.known]
        )  # fmt: skip

    @cached_property
    def polyp(self) -> Mapping[str, float]:
        """The numbers of PraNet's toolbox; the probability is 0 where nothing is known.

        Raises:
            ValueError: there is no probability, or this is a volume.
        """
        if self.probability is None:
            raise ValueError("no probabilities to grade")
        values = self.probability.astype(np.float64)
        return polyp_scores(self.truth, values if self.known is None else values * self.known)

    @property
    def diagonal(self) -> float:
        """The longest way through the image, in units of the spacing."""
        return math.hypot(*(n * s for n, s in zip(self.truth.shape, self.spacing, strict=True)))

    @property
    def both_empty(self) -> bool:
        tp, fp, fn, _ = self.confusion
        return tp + fp + fn == 0
