"""How well single objects (nuclei, glands) are found and outlined.

Objects come as integer maps: 0 is background, every other value one object, whatever its number.
Where only a region is known, its connected components are its objects (:func:`components`).
With G the true and P the predicted objects, |A| a number of pixels, and IoU = |G & P| / |G | P|:

    AJI   = sum of |G & P*| / (sum of |G | P*| + area of every P that is no P*)
            with P* of the highest IoU for each G                    (Kumar et al. 2017)
    AJI+  = the same with pairs that share no object, of the highest sum of IoU
                                                                     (Graham et al. 2019)
    SQ    = mean IoU of the pairs with IoU > 0.5                     (Kirillov et al. 2019)
    RQ    = tp / (tp + fp / 2 + fn / 2), tp the number of those pairs
    PQ    = SQ * RQ
    AP    = mean over t = 0.50, 0.55 ... 0.95 of tp / (tp + fp + fn), tp the pairs with IoU > t
                                                                     (Data Science Bowl 2018)
    object F1        = 2 tp / (2 tp + fp + fn); a P is tp where it covers more than half of the G
                       that it shares most with                      (Sirinukunwattana et al. 2017)
    object Dice      = the mean, weighted by area, of the Dice of each G with the P that it shares
                       most with; and of each P with its G; and of the two the mean
    object Hausdorff = the same with the Hausdorff distance; an object that touches none is
                       compared with the one nearest to it

All lie in 0 to 1 with 1 perfect, but the object Hausdorff, which is a length with 0 perfect.
Without any object on either side all are undefined (NaN). With objects on one side only, all are
0, but the object Hausdorff, which is undefined: there is nothing to measure from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Box = tuple[slice, ...]

IOU_THRESHOLDS = tuple(range(50, 100, 5))
"""Of the average precision, in per cent."""


class PanopticQuality(NamedTuple):
    """PQ = SQ * RQ.

    Attributes:
        pq: panoptic quality.
        sq: segmentation quality, the mean IoU of the objects that were found.
        rq: recognition quality, the F1 of finding them.
    """

    pq: float
    sq: float
    rq: float


def components(region: NDArray[Any], *, diagonal: bool = False) -> NDArray[np.int32]:
    """The connected components of a region as an integer map.

    Args:
        region: 2D or 3D; anything but 0 is inside.
        diagonal: whether pixels that touch at a corner only are of one object (8 neighbours in
            2D, 26 in 3D); otherwise 4 and 6, which parts objects that barely touch.
    """
    from scipy.ndimage import generate_binary_structure, label

    region = np.asarray(region, dtype=bool)
    neighbours = generate_binary_structure(region.ndim, region.ndim if diagonal else 1)
    marked: NDArray[np.int32] = label(region, neighbours, output=np.int32)[0]
    return marked


class ObjectPair:
    """True and predicted objects of one image, and what each shares with each.

    What two objects share is kept as one entry for each true and predicted object that share a
    pixel, in the equally long arrays ``true_of``, ``predicted_of``, ``shared`` and ``union``.

    Args:
        truth: integer map, 2D or 3D; 0 is background.
        prediction: integer map of the same shape.
        spacing: of the pixels along each axis, in mm; 1 (pixels) when None.

    Raises:
        ValueError: the shapes differ, a map does not hold whole numbers from 0, or the spacing
            does not fit.

    Attributes:
        truth_sizes: pixels of each true object, in the order of their labels.
        prediction_sizes: likewise.
        true_of: for each entry the place of its true object in ``truth_sizes``.
        predicted_of: likewise.
        shared: for each entry the pixels of both objects.
    """

    def __init__(
        self,
        truth: NDArray[Any],
        prediction: NDArray[Any],
        *,
        spacing: Sequence[float] | None = None,
    ) -> None:
        if truth.shape != prediction.shape:
            raise ValueError(
                f"truth {truth.shape} and prediction {prediction.shape} differ in shape"
            )
        self.spacing = (1.0,) * truth.ndim if spacing is None else tuple(spacing)
        if len(self.spacing) != truth.ndim:
            raise ValueError(f"spacing {self.spacing} for maps of shape {truth.shape}")
        self.truth, self.truth_sizes = _numbered(truth)
        self.prediction, self.prediction_sizes = _numbered(prediction)
        both = (self.truth > 0) & (self.prediction > 0)
        width = len(self.prediction_sizes) + 1
        codes, self.shared = np.unique(
            self.truth[both] * width + self.prediction[both], return_counts=True
        )
        self.true_of = codes // width - 1
        self.predicted_of = codes % width - 1

    @cached_property
    def union(self) -> Integers:
        """Pixels of either object, for each entry."""
        true, predicted = self.truth_sizes[self.true_of], self.prediction_sizes[self.predicted_of]
        union: Integers = true + predicted - self.shared
        return union

    @cached_property
    def partners_of_truth(self) -> Integers:
        """For each true object that has one, the entry with the predicted it shares most with."""
        return _best(self.true_of, (self.shared, -self.predicted_of))

    @cached_property
    def partners_of_prediction(self) -> Integers:
        """For each predicted object that has one, the entry with the true it shares most with."""
        return _best(self.predicted_of, (self.shared, -self.true_of))

    @property
    def counts(self) -> tuple[int, int]:
        """How many true and predicted objects there are."""
        return len(self.truth_sizes), len(self.prediction_sizes)

    @property
    def both_empty(self) -> bool:
        return self.counts == (0, 0)

    @cached_property
    def truth_boxes(self) -> list[Box]:
        from scipy.ndimage import find_objects

        return list(find_objects(self.truth))

    @cached_property
    def prediction_boxes(self) -> list[Box]:
        from scipy.ndimage import find_objects

        return list(find_objects(self.prediction))


def aji(pair: ObjectPair) -> float:
    """Aggregated Jaccard index (Kumar et al. 2017, doi 10.1109/TMI.2017.2677499).

    A predicted object may be the best one of several true ones. Of equal IoU the larger overlap
    is taken, then the lower label.
    """
    iou = pair.shared / pair.union
    return _aggregated(pair, _best(pair.true_of, (iou, pair.shared, -pair.predicted_of)))


def aji_plus(pair: ObjectPair) -> float:
    """AJI with each object in one pair at most (Graham et al. 2019, arXiv 1812.06499)."""
    return _aggregated(pair, _assignment(pair))


def panoptic_quality(pair: ObjectPair) -> PanopticQuality:
    """PQ, SQ and RQ (Kirillov et al. 2019, arXiv 1801.00868); SQ is 0 where nothing is found."""
    if pair.both_empty:
        return PanopticQuality(math.nan, math.nan, math.nan)
    found = 2 * pair.shared > pair.union
    tp = int(np.count_nonzero(found))
    sq = float((pair.shared[found] / pair.union[found]).sum()) / tp if tp else 0.0
    rq = 2 * tp / sum(pair.counts)
    return PanopticQuality(sq * rq, sq, rq)


def precision_at(pair: ObjectPair, percent: int) -> float:
    """tp / (tp + fp + fn) with tp the pairs whose IoU is above ``percent`` per cent.

    Args:
        pair: the objects.
        percent: 50 to 99; from 50 on no object can be in two pairs.

    Raises:
        ValueError: ``percent`` is something else.
    """
    if not 50 <= percent < 100:
        raise ValueError(f"percent {percent}: below 50 an object may be in several pairs")
    if pair.both_empty:
        return math.nan
    tp = int(np.count_nonzero(100 * pair.shared > percent * pair.union))
    return tp / (sum(pair.counts) - tp)


def average_precision(pair: ObjectPair) -> float:
    """AP in the sense of the Data Science Bowl 2018: the mean of :func:`precision_at`.

    This is not the AP of COCO, which ranks objects by confidence and takes the area under the
    curve of precision against recall over all images; here there is no confidence, false objects
    and missed ones count alike, and every image has its own value.
    """
    return float(np.mean([precision_at(pair, percent) for percent in IOU_THRESHOLDS]))


def object_f1(pair: ObjectPair) -> float:
    """F1 of the GlaS contest (Sirinukunwattana et al. 2017, arXiv 1603.00275).

    A predicted object is right where it covers more than half of the true object that it shares
    most with. (The paper says "at least 50 %", the contest's program more than half, so that two
    halves are not both right.)
    """
    if pair.both_empty:
        return math.nan
    rows = pair.partners_of_prediction
    right = 2 * pair.shared[rows] > pair.truth_sizes[pair.true_of[rows]]
    return 2 * int(np.count_nonzero(right)) / sum(pair.counts)


def object_dice(pair: ObjectPair) -> float:
    """Object Dice of the GlaS contest (Sirinukunwattana et al. 2017, arXiv 1603.00275)."""
    if pair.both_empty:
        return math.nan
    if 0 in pair.counts:
        return 0.0
    dice = 2 * pair.shared / (pair.union + pair.shared)
    means = []
    for own, rows, sizes in (
        (pair.true_of, pair.partners_of_truth, pair.truth_sizes),
        (pair.predicted_of, pair.partners_of_prediction, pair.prediction_sizes),
    ):
        means.append(float(sizes[own[rows]] @ dice[rows]) / int(sizes.sum()))
    return sum(means) / 2


def object_hausdorff(pair: ObjectPair) -> float:
    """Object Hausdorff distance of the GlaS contest, in units of the spacing.

    The distance of two objects is that of their sets of pixels, not of their outlines
    (Sirinukunwattana et al. 2017, arXiv 1603.00275).
    """
    if 0 in pair.counts:
        return math.nan
    distance = cache(partial(_hausdorff, pair))
    least = _least_distances(pair)
    rows, back = pair.partners_of_truth, pair.partners_of_prediction
    ways = (
        _mean_distance(
            pair.truth_sizes,
            dict(zip(pair.true_of[rows].tolist(), pair.predicted_of[rows].tolist(), strict=True)),
            least,
            distance,
        ),
        _mean_distance(
            pair.prediction_sizes,
            dict(zip(pair.predicted_of[back].tolist(), pair.true_of[back].tolist(), strict=True)),
            least.T,
            lambda predicted, true: distance(true, predicted),
        ),
    )
    return sum(ways) / 2


def _numbered(objects: NDArray[Any]) -> tuple[Integers, Integers]:
    """The map with labels 1, 2 ... n in the order of its own, and the objects' pixels."""
    if objects.dtype.kind not in "iu":
        raise ValueError(f"a map of objects holds whole numbers, not {objects.dtype}")
    if not objects.size:
        return objects.astype(np.int64), np.zeros(0, np.int64)
    if objects.min() < 0:
        raise ValueError(f"a map of objects holds no negative number such as {objects.min()}")
    if int(objects.max()) < 4 * objects.size:
        pixels = np.bincount(objects.ravel())
        pixels[0] = 0
        numbers = np.zeros(len(pixels), np.int64)
        numbers[pixels > 0] = np.arange(1, np.count_nonzero(pixels) + 1)
        return numbers[objects], pixels[pixels > 0]
    values, places, sizes = np.unique(objects, return_inverse=True, return_counts=True)
    places = places.reshape(objects.shape) + (values[0] > 0)
    return places.astype(np.int64), sizes[values > 0]


def _best(groups: Integers, keys: Sequence[NDArray[Any]]) -> Integers:
    """For each group that has entries, the entry with the largest keys, the first key first."""
    order: Integers = np.lexsort((*reversed(keys), groups))
    last = np.ones(len(order), bool)
    last[:-1] = groups[order[1:]] != groups[order[:-1]]
    return order[last]


def _aggregated(pair: ObjectPair, rows: Integers) -> float:
    if pair.both_empty:
        return math.nan
    alone = int(np.delete(pair.truth_sizes, pair.true_of[rows]).sum())
    alone += int(np.delete(pair.prediction_sizes, np.unique(pair.predicted_of[rows])).sum())
    return int(pair.shared[rows].sum()) / (int(pair.union[rows].sum()) + alone)


def _assignment(pair: ObjectPair) -> Integers:
    """The entries of the pairs that share no object and have the largest sum of IoU."""
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    true, predicted = pair.counts
    ends = (pair.true_of, pair.predicted_of + true)
    graph = coo_array((pair.shared, ends), shape=(true + predicted,) * 2)
    _, cluster = connected_components(graph, directed=False)
    of_entry = cluster[pair.true_of]
    order = np.argsort(of_entry, kind="stable")
    chosen = []
    # What shares no pixel does not compete, so that each cluster is a small problem of its own.
    for rows in np.split(order, np.flatnonzero(np.diff(of_entry[order])) + 1):
        _, i = np.unique(pair.true_of[rows], return_inverse=True)
        _, j = np.unique(pair.predicted_of[rows], return_inverse=True)
        iou = np.zeros((i.max(initial=-1) + 1, j.max(initial=-1) + 1))
        iou[i, j] = pair.shared[rows] / pair.union[rows]
        entry = np.full(iou.shape, -1)
        entry[i, j] = rows
        chosen.append(entry[linear_sum_assignment(iou, maximize=True)])
    found: Integers = np.concatenate(chosen)
    return found[found >= 0]


def _least_distances(pair: ObjectPair) -> NDArray[np.float64]:
    """What each true and predicted object's distance cannot be below: (true, predicted).

    Along each axis the Hausdorff distance is at least that of the boxes' ends.
    """
    true, predicted = (
        np.array([[(along.start, along.stop) for along in box] for box in boxes])
        for boxes in (pair.truth_boxes, pair.prediction_boxes)
    )  # (objects, axes, 2)
    least = np.zeros(pair.counts)
    for axis, step in enumerate(pair.spacing):
        ends = np.abs(true[:, None, axis] - predicted[None, :, axis]).max(axis=-1)
        least = np.maximum(least, ends * step)
    return least


def _mean_distance(
    sizes: Integers,
    partners: Mapping[int, int],
    least: NDArray[np.float64],
    distance: Callable[[int, int], float],
) -> float:
    """The mean of each object's distance to its partner, else to the nearest; by area."""
    away = [
        distance(index, partners[index])
        if index in partners
        else _nearest(partial(distance, index), least[index])
        for index in range(len(sizes))
    ]
    return float(sizes @ np.array(away)) / int(sizes.sum())


def _nearest(distance: Callable[[int], float], least: NDArray[np.float64]) -> float:
    """The smallest distance to any object, asked for only where it may be."""
    best = math.inf
    for candidate in np.argsort(least, kind="stable").tolist():
        if least[candidate] >= best:
            break
        best = min(best, distance(candidate))
    return best


def _hausdorff(pair: ObjectPair, true: int, predicted: int) -> float:
    from scipy.ndimage import distance_transform_edt

    boxes = zip(pair.truth_boxes[true], pair.prediction_boxes[predicted], strict=True)
    box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in boxes)
    a, b = pair.truth[box] == true + 1, pair.prediction[box] == predicted + 1
    farthest = 0.0
    for own, other in ((a, b), (b, a)):
        outside = own & ~other
        if outside.any():
            away = distance_transform_edt(~other, sampling=pair.spacing)
            farthest = max(farthest, float(away[outside].max()))
    return farthest
