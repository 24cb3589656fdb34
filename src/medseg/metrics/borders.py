"""Distances between the borders of two regions, from pixel centre to pixel centre.

The border are the pixels of a region that touch its outside or the image's edge by a side. Every
border pixel counts the same, whatever the spacing, so that means and shares depend on how a surface
lies in the grid; :mod:`medseg.metrics.surface` does not. Kept for the numbers of programs that
measure so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class BorderDistances:
    """The distances between two borders, in units of the spacing.

    Attributes:
        to_truth: of each pixel of the prediction's border to the truth's, (n,).
        to_prediction: of each pixel of the truth's border to the prediction's, (m,).
        defined: whether both regions show something; without it both arrays are empty.

    Args:
        truth: boolean, 2D or 3D.
        prediction: boolean, of the same shape.
        spacing: of the pixels along each axis.
    """

    def __init__(
        self, truth: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Sequence[float]
    ) -> None:
        self.defined = bool(truth.any() and prediction.any())
        self.to_truth = self.to_prediction = np.zeros(0)
        if self.defined:
            there, here = border(truth), border(prediction)
            self.to_truth = _distances(here, there, spacing)
            self.to_prediction = _distances(there, here, spacing)

    @property
    def pooled(self) -> NDArray[np.float64]:
        """Both directions' distances, (n + m,)."""
        return np.concatenate([self.to_truth, self.to_prediction])

    def average(self) -> float:
        """The mean distance of both directions together; NaN where a region is empty."""
        return float(self.pooled.mean()) if self.defined else math.nan

    def hausdorff(self, percentile: float = 100) -> float:
        """The larger of both directions' percentiles, interpolated; NaN where a region is empty."""
        if not self.defined:
            return math.nan
        both = (self.to_truth, self.to_prediction)
        return max(float(np.percentile(away, percentile)) for away in both)


def border(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of ``region`` that touch its outside, or the image's edge, by a side."""
    from scipy.ndimage import binary_erosion

    edge: NDArray[np.bool_] = region & ~binary_erosion(region)
    return edge


def _distances(
    own: NDArray[np.bool_], other: NDArray[np.bool_], spacing: Sequence[float]
) -> NDArray[np.float64]:
    from scipy.spatial import KDTree

    scale = np.asarray(spacing, dtype=np.float64)
    away, _ = KDTree(np.argwhere(other) * scale).query(np.argwhere(own) * scale)
    return np.asarray(away, dtype=np.float64)
